package tokens

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"narthex/internal/ids"
)

var subject = Subject{TenantID: ids.New(), AdminID: ids.New(), Role: "PRIMARY"}

func issuerAt(t *testing.T, key, issuer, audience string, now time.Time) *Issuer {
	t.Helper()
	var k Key
	if err := k.UnmarshalText([]byte(key)); err != nil {
		t.Fatal(err)
	}
	return New(k, issuer, audience, func() time.Time { return now })
}

func newKey(t *testing.T) string {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestMintedAccessTokenVerifies(t *testing.T) {
	now := time.Now()
	i := issuerAt(t, newKey(t), "narthex", "api", now)
	pair, err := i.Mint(subject)
	if err != nil {
		t.Fatal(err)
	}
	got, err := i.VerifyAccess(pair.AccessToken)
	if err != nil || got != subject {
		t.Fatalf("VerifyAccess = %+v, %v; want %+v", got, err, subject)
	}
	if _, err := i.verify(pair.RefreshToken, refresh); err != nil {
		t.Errorf("the refresh token does not verify as one: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	now, key := time.Now(), newKey(t)
	home := issuerAt(t, key, "narthex", "api", now)
	mint := func(i *Issuer) string {
		pair, err := i.Mint(subject)
		if err != nil {
			t.Fatal(err)
		}
		return pair.AccessToken
	}
	sign := func(method jwt.SigningMethod, typ string, with any, c jwt.Claims) string {
		token := jwt.NewWithClaims(method, c)
		token.Header["typ"] = typ
		signed, err := token.SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	good := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: "narthex", Audience: jwt.ClaimStrings{"api"},
		Subject: subject.AdminID, ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute))}, TenantID: subject.TenantID}
	if _, err := home.VerifyAccess(sign(jwt.SigningMethodEdDSA, "at+jwt", home.key, good)); err != nil {
		t.Fatalf("the control is refused: %v", err)
	}
	endless, noTenant := good, good
	endless.ExpiresAt, noTenant.TenantID = nil, ""
	pair, _ := home.Mint(subject)
	for name, token := range map[string]string{
		"another key":      mint(issuerAt(t, newKey(t), "narthex", "api", now)),
		"another issuer":   mint(issuerAt(t, key, "other", "api", now)),
		"another audience": mint(issuerAt(t, key, "narthex", "other", now)),
		"expired":          mint(issuerAt(t, key, "narthex", "api", now.Add(-time.Hour))),
		"from the future":  mint(issuerAt(t, key, "narthex", "api", now.Add(time.Hour))),
		"refresh token":    pair.RefreshToken,
		"alg none":         sign(jwt.SigningMethodNone, "at+jwt", jwt.UnsafeAllowNoneSignatureType, good),
		"HMAC of the public key": sign(jwt.SigningMethodHS256, "at+jwt",
			[]byte(home.key.Public().(ed25519.PublicKey)), good),
		"another type": sign(jwt.SigningMethodEdDSA, "JWT", home.key, good),
		"no expiry":    sign(jwt.SigningMethodEdDSA, "at+jwt", home.key, endless),
		"no tenant":    sign(jwt.SigningMethodEdDSA, "at+jwt", home.key, noTenant),
		"cut short":    pair.AccessToken[:len(pair.AccessToken)-4],
		"empty":        "",
	} {
		if got, err := home.VerifyAccess(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: VerifyAccess = %+v, %v; want ErrInvalid", name, got, err)
		}
	}
}

func TestMalformedKey(t *testing.T) {
	for _, text := range []string{"", "c2hvcnQ=", "not base64!"} {
		if err := new(Key).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("the key %q was taken, want an error", text)
		}
	}
}
