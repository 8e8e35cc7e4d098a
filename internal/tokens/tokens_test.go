package tokens

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"narthex/internal/ids"
)

var subject = Subject{TenantID: ids.New(), AdminID: ids.New(), SessionID: ids.New(), Role: "PRIMARY"}

func issuerAt(t *testing.T, keys, issuer, audience string, now time.Time) *Issuer {
	t.Helper()
	var k Keys
	if err := k.UnmarshalText([]byte(keys)); err != nil {
		t.Fatal(err)
	}
	return New(k, issuer, audience, func() time.Time { return now })
}

func must(t *testing.T) func(string, error) string {
	return func(text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func newKey(t *testing.T) string {
	t.Helper()
	return must(t)(NewKey())
}

func TestMintedTokenVerifies(t *testing.T) {
	i := issuerAt(t, newKey(t), "narthex", "api", time.Now())
	if got, err := i.Verify(must(t)(i.Mint(subject))); err != nil || got != subject {
		t.Fatalf("Verify = %+v, %v; want %+v", got, err, subject)
	}
}

func TestVerifyRefuses(t *testing.T) {
	now, key := time.Now(), newKey(t)
	home := issuerAt(t, key, "narthex", "api", now)
	signer := home.keys[0]
	mint := func(i *Issuer) string { return must(t)(i.Mint(subject)) }
	sign := func(method jwt.SigningMethod, typ string, with any, c jwt.Claims) string {
		token := jwt.NewWithClaims(method, c)
		token.Header["typ"], token.Header["kid"] = typ, signer.id
		return must(t)(token.SignedString(with))
	}
	good := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: "narthex", Audience: jwt.ClaimStrings{"api"},
		Subject: subject.AdminID, ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute))}, TenantID: subject.TenantID, SessionID: subject.SessionID}
	if _, err := home.Verify(sign(jwt.SigningMethodEdDSA, "at+jwt", signer.private, good)); err != nil {
		t.Fatalf("the control is refused: %v", err)
	}
	endless, noTenant, noSession := good, good, good
	endless.ExpiresAt, noTenant.TenantID, noSession.SessionID = nil, "", ""
	whole := mint(home)
	other := issuerAt(t, newKey(t), "narthex", "api", now)
	parts := strings.Split(whole, ".")
	foreign := strings.Split(must(t)(home.Mint(Subject{TenantID: ids.New(), AdminID: ids.New(), SessionID: ids.New()})), ".")
	for name, token := range map[string]string{
		"another key":                  mint(other),
		"another key under our key id": sign(jwt.SigningMethodEdDSA, "at+jwt", other.keys[0].private, good),
		"another issuer":               mint(issuerAt(t, key, "other", "api", now)),
		"another audience":             mint(issuerAt(t, key, "narthex", "other", now)),
		"expired":                      mint(issuerAt(t, key, "narthex", "api", now.Add(-time.Hour))),
		"from the future":              mint(issuerAt(t, key, "narthex", "api", now.Add(time.Hour))),
		"alg none":                     sign(jwt.SigningMethodNone, "at+jwt", jwt.UnsafeAllowNoneSignatureType, good),
		"HMAC of the public key":       sign(jwt.SigningMethodHS256, "at+jwt", []byte(signer.private.Public().(ed25519.PublicKey)), good),
		"another type":                 sign(jwt.SigningMethodEdDSA, "JWT", signer.private, good),
		"no expiry":                    sign(jwt.SigningMethodEdDSA, "at+jwt", signer.private, endless),
		"no tenant":                    sign(jwt.SigningMethodEdDSA, "at+jwt", signer.private, noTenant),
		"no session":                   sign(jwt.SigningMethodEdDSA, "at+jwt", signer.private, noSession),
		"another's claims":             parts[0] + "." + foreign[1] + "." + parts[2],
		"truncated":                    whole[:len(whole)-4],
		"empty":                        "",
	} {
		if got, err := home.Verify(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Verify = %+v, %v; want ErrInvalid", name, got, err)
		}
	}
}

// At each stage of a rotation, processes of the previous and the next stage accept each other's tokens, so nobody is logged
// out.
func TestRotationKeepsTokensValid(t *testing.T) {
	old := newKey(t)
	added := must(t)(AddKey(old))
	promoted := must(t)(PromoteKey(added))
	if again, err := PromoteKey(promoted); err == nil {
		t.Errorf("promoted a second time, the old key signs again: %d keys", strings.Count(again, ",")+1)
	}
	retired := must(t)(RetireKeys(promoted))
	now := time.Now()
	stages := []*Issuer{}
	for _, keys := range []string{old, added, promoted, retired} {
		stages = append(stages, issuerAt(t, keys, "narthex", "api", now))
	}
	for n := range len(stages) - 1 {
		for _, c := range [][2]*Issuer{{stages[n], stages[n+1]}, {stages[n+1], stages[n]}} {
			if _, err := c[1].Verify(must(t)(c[0].Mint(subject))); err != nil {
				t.Errorf("between stage %d and %d a token is refused: %v", n, n+1, err)
			}
		}
	}
	if _, err := stages[3].Verify(must(t)(stages[0].Mint(subject))); err == nil {
		t.Error("a token of the retired key is accepted")
	}
	first, second := stages[2].JWKS(), stages[1].JWKS()
	if len(first) != 2 || first[0] != second[1] || first[0].KeyID == first[1].KeyID {
		t.Errorf("the key sets are %+v and then %+v, want the same two keys", second, first)
	}
}

func TestMalformedKeys(t *testing.T) {
	for _, text := range []string{"", "c2hvcnQ=", "not base64!", newKey(t) + ","} {
		if err := new(Keys).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("the keys %q were accepted, want an error", text)
		}
	}
}

// A token that was verified before is checked like a new one.
func TestVerifiedTokenIsCheckedAgain(t *testing.T) {
	issued := time.Now().Truncate(time.Second) // the precision of times in tokens
	now := issued
	var keys Keys
	if err := keys.UnmarshalText([]byte(newKey(t))); err != nil {
		t.Fatal(err)
	}
	i := New(keys, "narthex", "api", func() time.Time { return now })
	token := must(t)(i.Mint(subject))
	for _, c := range []struct {
		after time.Duration
		good  bool
	}{
		{0, true},
		{Lifetime + clockSkew - time.Second, true},
		{Lifetime + clockSkew, false},
		{-clockSkew, true},
		{-clockSkew - time.Second, false}, // the clock was set back, so the token is from the future
		{time.Minute, true},
	} {
		now = issued.Add(c.after)
		fresh := New(keys, "narthex", "api", i.now)
		for name, issuer := range map[string]*Issuer{"an issuer that knows it": i, "a new issuer": fresh} {
			got, err := issuer.Verify(token)
			if c.good && (err != nil || got != subject) || !c.good && (err != ErrInvalid || got != Subject{}) {
				t.Errorf("after %v, to %s: %+v, %v; want it accepted: %t", c.after, name, got, err, c.good)
			}
		}
	}
	parts := strings.Split(token, ".")
	foreign := strings.Split(must(t)(i.Mint(Subject{TenantID: ids.New(), AdminID: ids.New(), SessionID: ids.New()})), ".")
	for name, tampered := range map[string]string{
		"another's claims":    parts[0] + "." + foreign[1] + "." + parts[2],
		"another's signature": parts[0] + "." + parts[1] + "." + foreign[2],
		"no signature":        parts[0] + "." + parts[1] + ".",
		"longer":              token + "A",
	} {
		for range 2 {
			if got, err := i.Verify(tampered); err != ErrInvalid {
				t.Errorf("%s: Verify = %+v, %v; want ErrInvalid", name, got, err)
			}
		}
	}
	if n := i.verified.Len(); n != 1 {
		t.Errorf("%d tokens are cached, want only the valid one", n)
	}
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	i := issuerAt(t, newKey(t), "narthex", "api", time.Now())
	i.verified.Resize(10)
	var all []string
	for range 30 {
		all = append(all, must(t)(i.Mint(subject)))
	}
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for _, token := range all {
				if _, err := i.Verify(token); err != nil {
					t.Errorf("a valid token is refused: %v", err)
				}
			}
		})
	}
	clients.Wait()
	if n := i.verified.Len(); n != 10 {
		t.Errorf("%d tokens are cached, want 10", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	var keys Keys
	text, err := NewKey()
	if err == nil {
		err = keys.UnmarshalText([]byte(text))
	}
	if err != nil {
		b.Fatal(err)
	}
	i := New(keys, "narthex", "api", time.Now)
	token, err := i.Mint(subject)
	if err != nil {
		b.Fatal(err)
	}
	for name, forget := range map[string]bool{"first": true, "again": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					i.verified.Purge()
				}
				if _, err := i.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
