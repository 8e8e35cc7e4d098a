package testenv

import (
	"testing"

	"narthex/internal/secrets"
)

// Keys makes new keys.
func Keys(t testing.TB) *secrets.Keys {
	t.Helper()
	seal, err := secrets.NewSealKeyset()
	if err != nil {
		t.Fatal(err)
	}
	index, err := secrets.NewIndexKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := secrets.Parse(seal, index)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
