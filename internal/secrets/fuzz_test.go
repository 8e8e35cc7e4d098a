package secrets

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"
)

// knownKeys are the same in all processes of the fuzzer.
func knownKeys(f *testing.F) *Keys {
	f.Helper()
	key := base64.StdEncoding.EncodeToString(append([]byte{0x1a, 32}, make([]byte, 32)...)) // Tink's message of an XChaCha20Poly1305 key
	seal := `{"primaryKeyId":1,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.XChaCha20Poly1305Key",
		"value":"` + key + `","keyMaterialType":"SYMMETRIC"},"status":"ENABLED","keyId":1,"outputPrefixType":"TINK"}]}`
	index, err := NewIndexKeyset()
	if err != nil {
		f.Fatal(err)
	}
	keys, err := Parse(base64.StdEncoding.EncodeToString([]byte(seal)), index)
	if err != nil {
		f.Fatal(err)
	}
	return keys
}

// FuzzOpen looks for bytes that open although they were never sealed.
func FuzzOpen(f *testing.F) {
	keys := knownKeys(f)
	place := Place{Table: "tenants", Column: "database_url", Tenant: "a"}
	sealed, err := keys.Seal([]byte("secret"), place)
	if err != nil {
		f.Fatal(err)
	}
	short, long := sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0)
	for _, seed := range [][]byte{nil, sealed, sealed[:5], short, long, bytes.Repeat([]byte{1}, 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		plain, err := keys.Open(value, place)
		if err == nil && string(plain) != "secret" {
			t.Errorf("%x opens to %q", value, plain)
		}
		if err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("%x: %v, want ErrSealed", value, err)
		}
	})
}
