// Package secrets seals data that must not be readable in a dump, and computes the blind index by
// which sealed emails are still found. It wraps Tink keysets; it knows no database and no transport.
package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// ErrSealed is wrapped by every error of Open: the value was sealed under another key or for another
// place, or was altered.
var ErrSealed = errors.New("the sealed value does not open here")

// Place is where a sealed value belongs. It is bound into the seal: a value moved to another table,
// column or tenant does not open.
type Place struct {
	Table  string
	Column string
	Tenant string // tenant id; for a value of no tenant, empty
}

func (p Place) associatedData() []byte {
	return []byte(strings.Join([]string{p.Table, p.Column, p.Tenant}, "\x00"))
}

// Keys seals, opens and indexes. It is safe for concurrent use.
type Keys struct {
	aead tink.AEAD
	mac  tink.MAC
}

// NewSealKeyset returns a fresh keyset for sealing (XChaCha20-Poly1305: random nonces are safe for
// any number of values), in the form that Parse takes.
func NewSealKeyset() (string, error) { return newKeyset(aead.XChaCha20Poly1305KeyTemplate()) }

// NewIndexKeyset returns a fresh keyset for the blind index (HMAC-SHA-256), in the form that Parse takes.
func NewIndexKeyset() (string, error) { return newKeyset(mac.HMACSHA256Tag256KeyTemplate()) }

func newKeyset(template *tinkpb.KeyTemplate) (string, error) {
	handle, err := keyset.NewHandle(template)
	if err != nil {
		return "", fmt.Errorf("make keyset: %w", err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return "", fmt.Errorf("write keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}

// SealKeyset is a keyset for sealing.
type SealKeyset struct{ aead tink.AEAD }

// UnmarshalText reads base64 of Tink's JSON, as NewSealKeyset makes it. Its errors never hold key
// material.
func (k *SealKeyset) UnmarshalText(text []byte) error {
	handle, err := parseKeyset(string(text))
	if err != nil {
		return err
	}
	if k.aead, err = aead.New(handle); err != nil {
		return errors.New("holds keys of another kind than AEAD")
	}
	return nil
}

// IndexKeyset is a keyset for the blind index.
type IndexKeyset struct{ mac tink.MAC }

// UnmarshalText reads base64 of Tink's JSON, as NewIndexKeyset makes it. Its errors never hold key
// material.
func (k *IndexKeyset) UnmarshalText(text []byte) error {
	handle, err := parseKeyset(string(text))
	if err != nil {
		return err
	}
	if k.mac, err = mac.New(handle); err != nil {
		return errors.New("holds keys of another kind than MAC")
	}
	return nil
}

// New returns the keys of two keysets.
func New(seal SealKeyset, index IndexKeyset) *Keys { return &Keys{aead: seal.aead, mac: index.mac} }

// Parse reads two keysets in the form that NewSealKeyset and NewIndexKeyset give.
func Parse(sealKeyset, indexKeyset string) (*Keys, error) {
	var seal SealKeyset
	if err := seal.UnmarshalText([]byte(sealKeyset)); err != nil {
		return nil, fmt.Errorf("the seal keyset %w", err)
	}
	var index IndexKeyset
	if err := index.UnmarshalText([]byte(indexKeyset)); err != nil {
		return nil, fmt.Errorf("the index keyset %w", err)
	}
	return New(seal, index), nil
}

func parseKeyset(text string) (*keyset.Handle, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("is not base64")
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, errors.New("is not a Tink keyset in JSON")
	}
	return handle, nil
}

// Seal encrypts plain for one place. The same value sealed twice gives different bytes.
func (k *Keys) Seal(plain []byte, at Place) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s: %w", at.Table, at.Column, err)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same place.
func (k *Keys) Open(sealed []byte, at Place) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("open %s.%s: %w", at.Table, at.Column, ErrSealed)
	}
	return plain, nil
}

// EmailIndex returns the blind index of a normalised email: a keyed hash in hex. Without the key it
// tells nothing of the email, not even by guessing.
func (k *Keys) EmailIndex(email string) (string, error) {
	tag, err := k.mac.ComputeMAC([]byte("email\x00" + email))
	if err != nil {
		return "", fmt.Errorf("index email: %w", err)
	}
	return hex.EncodeToString(tag), nil
}
