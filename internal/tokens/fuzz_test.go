package tokens

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// FuzzVerify looks for a text that is accepted as a token although it was never issued. Key and subject are the same in all
// processes of the fuzzer.
func FuzzVerify(f *testing.F) {
	var keys Keys
	if err := keys.UnmarshalText([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32)))); err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	issuer := New(keys, "narthex", "api", func() time.Time { return now })
	const id = "01m867mbza51p92z6k09x9r0x0"
	subject := Subject{TenantID: id, AdminID: id, SessionID: id, Role: "PRIMARY"}
	minted, err := issuer.Mint(subject)
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(minted, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	for _, seed := range []string{
		minted, "", ".", "..", "a.b.c", none + "." + parts[1] + ".", parts[0] + "." + parts[1] + ".", minted + "=", minted + ".", " " + minted,
		parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86), strings.Repeat("A", 70000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := issuer.Verify(token)
		if err == nil && got != subject {
			t.Errorf("%q is accepted as a token of %+v", token, got)
		}
		if err != nil && (err != ErrInvalid || got != Subject{}) {
			t.Errorf("%q: %+v, %v; want nothing but ErrInvalid", token, got, err)
		}
	})
}
