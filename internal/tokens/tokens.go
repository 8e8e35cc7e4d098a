// Package tokens mints and verifies the JSON Web Tokens that an admin's requests carry. Algorithm,
// type, issuer, audience and expiry are pinned: a token that differs in any of them is refused.
package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"narthex/internal/ids"
)

// How long tokens are good for.
const (
	AccessLifetime  = 15 * time.Minute
	RefreshLifetime = 30 * 24 * time.Hour
)

// ErrInvalid is all that Verify says of a token it refuses.
var ErrInvalid = errors.New("the token is not valid")

// Subject is whom a token speaks for.
type Subject struct {
	TenantID string
	AdminID  string
	Role     string
}

// Pair is what a login gives out.
type Pair struct {
	AccessToken  string
	RefreshToken string
}

// Issuer mints and verifies tokens under one key. It is safe for concurrent use.
type Issuer struct {
	key      ed25519.PrivateKey
	keyID    string
	issuer   string
	audience string
	now      func() time.Time
}

// kind keeps the two kinds of token apart: each has its own type header and audience.
type kind struct {
	header   string // "typ"; RFC 9068 names that of access tokens
	audience string // appended to the issuer's audience
	lifetime time.Duration
}

var (
	access  = kind{header: "at+jwt", lifetime: AccessLifetime}
	refresh = kind{header: "rt+jwt", audience: "/refresh", lifetime: RefreshLifetime}
)

type claims struct {
	jwt.RegisteredClaims
	TenantID string `json:"tenant_id"`
	Role     string `json:"role"`
}

// NewKey returns a fresh signing key in the form that Key reads: base64 of an Ed25519 seed.
func NewKey() (string, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", fmt.Errorf("make signing key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(key.Seed()), nil
}

// Key signs tokens.
type Key struct{ private ed25519.PrivateKey }

// UnmarshalText reads base64 of an Ed25519 seed, as NewKey makes it. Its error does not hold it.
func (k *Key) UnmarshalText(text []byte) error {
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("is not base64 of %d bytes", ed25519.SeedSize)
	}
	k.private = ed25519.NewKeyFromSeed(seed)
	return nil
}

// New returns an issuer of tokens that are signed with key. now is the clock, in any zone.
func New(key Key, issuer, audience string, now func() time.Time) *Issuer {
	thumbprint := sha256.Sum256(key.private.Public().(ed25519.PublicKey))
	return &Issuer{key: key.private, keyID: hex.EncodeToString(thumbprint[:8]), issuer: issuer, audience: audience, now: now}
}

// Mint returns an access and a refresh token for subject.
func (i *Issuer) Mint(subject Subject) (Pair, error) {
	accessToken, err := i.mint(subject, access)
	if err != nil {
		return Pair{}, err
	}
	refreshToken, err := i.mint(subject, refresh)
	if err != nil {
		return Pair{}, err
	}
	return Pair{AccessToken: accessToken, RefreshToken: refreshToken}, nil
}

func (i *Issuer) mint(subject Subject, k kind) (string, error) {
	now := i.now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        ids.New(),
			Issuer:    i.issuer,
			Audience:  jwt.ClaimStrings{i.audience + k.audience},
			Subject:   subject.AdminID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(k.lifetime)),
		},
		TenantID: subject.TenantID,
		Role:     subject.Role,
	})
	token.Header["typ"], token.Header["kid"] = k.header, i.keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// VerifyAccess returns whom an access token speaks for. Errors: ErrInvalid.
func (i *Issuer) VerifyAccess(token string) (Subject, error) { return i.verify(token, access) }

func (i *Issuer) verify(token string, k kind) (Subject, error) {
	var c claims
	parsed, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return i.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(i.issuer),
		jwt.WithAudience(i.audience+k.audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithTimeFunc(i.now),
		jwt.WithStrictDecoding(),
	)
	if err != nil || parsed.Header["typ"] != k.header || !ids.Valid(c.TenantID) || !ids.Valid(c.Subject) {
		return Subject{}, ErrInvalid
	}
	return Subject{TenantID: c.TenantID, AdminID: c.Subject, Role: c.Role}, nil
}
