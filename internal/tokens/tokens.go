// Package tokens mints and verifies the JSON Web Tokens that an admin's requests carry (RFC 9068).
// Algorithm, type, issuer, audience and expiry are pinned: a token that differs in any of them is
// refused. This package has nothing to do with refresh tokens, which are random and kept by the registry.
package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"narthex/internal/ids"
)

// Lifetime is how long an access token is good for.
const Lifetime = 15 * time.Minute

// clockSkew is by how much the clocks of two API processes may differ.
const clockSkew = 5 * time.Second

// maxVerified is how many tokens are remembered as verified. They take some 5 MiB.
const maxVerified = 10_000

// ErrInvalid is all that Verify says about a token that it refuses.
var ErrInvalid = errors.New("the token is not valid")

const header = "at+jwt" // "typ"

// Subject is the admin that a token stands for.
type Subject struct {
	TenantID  string
	AdminID   string
	SessionID string // of the login that the token came from
	Role      string
}

// Issuer mints and verifies tokens. It is safe for concurrent use.
type Issuer struct {
	keys      Keys
	issuer    string
	audience  string
	now       func() time.Time
	parser    *jwt.Parser
	validator *jwt.Validator
	verified  *lru.Cache[[sha256.Size]byte, *claims] // by the tokens' hashes; never changed
}

type claims struct {
	jwt.RegisteredClaims
	TenantID  string `json:"tenant_id"`
	SessionID string `json:"sid"`
	Role      string `json:"role"`
}

// New returns an issuer whose tokens the first of keys signs. now is the clock, in any zone.
func New(keys Keys, issuer, audience string, now func() time.Time) *Issuer {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(clockSkew),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	}
	verified, err := lru.New[[sha256.Size]byte, *claims](maxVerified)
	if err != nil {
		panic(err) // of a size that is not positive
	}
	return &Issuer{keys: keys, issuer: issuer, audience: audience, now: now,
		parser: jwt.NewParser(options...), validator: jwt.NewValidator(options...), verified: verified}
}

// Mint returns an access token for subject.
func (i *Issuer) Mint(subject Subject) (string, error) {
	now := i.now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        ids.New(),
			Issuer:    i.issuer,
			Audience:  jwt.ClaimStrings{i.audience},
			Subject:   subject.AdminID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(Lifetime)),
		},
		TenantID:  subject.TenantID,
		SessionID: subject.SessionID,
		Role:      subject.Role,
	})
	signer := i.keys[0]
	token.Header["typ"], token.Header["kid"] = header, signer.id
	signed, err := token.SignedString(signer.private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// Verify returns the admin that a token stands for. Checking a signature costs more than the rest of most requests, so
// it is done once per token. The claims are checked against the clock each time. Errors: ErrInvalid.
func (i *Issuer) Verify(token string) (Subject, error) {
	hash := sha256.Sum256([]byte(token))
	c, known := i.verified.Get(hash)
	switch {
	case !known:
		var err error
		c, err = i.parse(token)
		if err != nil {
			return Subject{}, ErrInvalid
		}
		i.verified.Add(hash, c)
	case i.validator.Validate(c) != nil:
		return Subject{}, ErrInvalid
	}
	return Subject{TenantID: c.TenantID, AdminID: c.Subject, SessionID: c.SessionID, Role: c.Role}, nil
}

// parse checks the whole token.
func (i *Issuer) parse(token string) (*claims, error) {
	var c claims
	parsed, err := i.parser.ParseWithClaims(token, &c, i.publicKey)
	if err != nil {
		return nil, err
	}
	if parsed.Header["typ"] != header || !ids.Valid(c.TenantID) || !ids.Valid(c.Subject) || !ids.Valid(c.SessionID) {
		return nil, ErrInvalid
	}
	return &c, nil
}

// publicKey finds the key that a token says it is signed with, among ours.
func (i *Issuer) publicKey(token *jwt.Token) (any, error) {
	for _, key := range i.keys {
		if key.id == token.Header["kid"] {
			return key.private.Public(), nil
		}
	}
	return nil, ErrInvalid
}

// JWK is a public key as RFC 7517 and RFC 8037 write it.
type JWK struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	X         string `json:"x"`
}

// JWKS lists the public keys with which others can verify our tokens.
func (i *Issuer) JWKS() []JWK {
	var all []JWK
	for _, key := range i.keys {
		public := key.private.Public().(ed25519.PublicKey)
		all = append(all, JWK{KeyType: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: "EdDSA", KeyID: key.id,
			X: base64.RawURLEncoding.EncodeToString(public)})
	}
	return all
}
