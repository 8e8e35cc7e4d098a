package testenv

import (
	"testing"

	"narthex/internal/secrets"
	"narthex/internal/tokens"
)

// Keys makes new keys.
func Keys(t testing.TB) *secrets.Keys {
	t.Helper()
	seal, index := Keysets(t)
	return ParseKeys(t, seal, index)
}

// ParseKeys reads the keys in keysets.
func ParseKeys(t testing.TB, seal, index string) *secrets.Keys {
	t.Helper()
	keys, err := secrets.Parse(seal, index)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Keysets makes fresh keys in the form of their settings, which can be rotated.
func Keysets(t testing.TB) (seal, index string) {
	t.Helper()
	seal, err := secrets.NewSealKeyset()
	if err != nil {
		t.Fatal(err)
	}
	index, err = secrets.NewIndexKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return seal, index
}

// TokenKeys makes a fresh key that signs tokens.
func TokenKeys(t testing.TB) (keys tokens.Keys) {
	t.Helper()
	key, err := tokens.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.UnmarshalText([]byte(key)); err != nil {
		t.Fatal(err)
	}
	return keys
}
