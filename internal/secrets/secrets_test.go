package secrets

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func newKeys(t *testing.T) *Keys {
	t.Helper()
	seal, err := NewSealKeyset()
	if err != nil {
		t.Fatal(err)
	}
	index, err := NewIndexKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Parse(seal, index)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestSealedValueOpensOnlyInItsPlace(t *testing.T) {
	keys := newKeys(t)
	home := Place{Table: "tenants", Column: "database_url", Tenant: "a"}
	sealed, err := keys.Seal([]byte("secret"), home)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Fatal("the sealed value holds the plain one")
	}
	if plain, err := keys.Open(sealed, home); err != nil || string(plain) != "secret" {
		t.Fatalf("Open at home = %q, %v; want \"secret\"", plain, err)
	}
	for _, away := range []Place{
		{Table: "churches", Column: "database_url", Tenant: "a"},
		{Table: "tenants", Column: "email", Tenant: "a"},
		{Table: "tenants", Column: "database_url", Tenant: "b"},
	} {
		if _, err := keys.Open(sealed, away); !errors.Is(err, ErrSealed) {
			t.Errorf("Open at %+v: got %v, want ErrSealed", away, err)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := keys.Open(sealed, home); !errors.Is(err, ErrSealed) {
		t.Errorf("Open of an altered value: got %v, want ErrSealed", err)
	}
	if _, err := newKeys(t).Open(sealed, home); !errors.Is(err, ErrSealed) {
		t.Errorf("Open with other keys: got %v, want ErrSealed", err)
	}
}

func TestEmailIndexIsKeyedAndStable(t *testing.T) {
	keys := newKeys(t)
	first, _ := keys.EmailIndex("pat@example.org")
	again, _ := keys.EmailIndex("pat@example.org")
	other, _ := keys.EmailIndex("pam@example.org")
	foreign, _ := newKeys(t).EmailIndex("pat@example.org")
	if first != again {
		t.Errorf("the same email has two indexes: %s, %s", first, again)
	}
	if first == other || first == foreign {
		t.Errorf("index %s is shared with another email or key", first)
	}
}

func TestParseNamesTheKeysetAtFault(t *testing.T) {
	seal, _ := NewSealKeyset()
	index, _ := NewIndexKeyset()
	for _, c := range []struct{ name, seal, index, want string }{
		{"empty seal", "", index, "seal keyset"},
		{"short seal", seal[:len(seal)/2], index, "seal keyset"},
		{"no base64", "not base64!", index, "the seal keyset is not base64"},
		{"swapped", index, seal, "the seal keyset holds keys of another kind than AEAD"},
		{"index of the wrong kind", seal, seal, "the index keyset holds keys of another kind than MAC"},
		{"empty index", seal, "", "index keyset"},
	} {
		_, err := Parse(c.seal, c.index)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
		if err != nil && c.seal != "" && strings.Contains(err.Error(), c.seal) {
			t.Errorf("%s: the error holds the keyset: %v", c.name, err)
		}
	}
}
