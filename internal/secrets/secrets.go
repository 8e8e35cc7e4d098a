// Package secrets seals data that must not be readable in a dump, and computes the blind index with
// which sealed values can still be found. It wraps Tink keysets: values are written under the primary
// key, and can be read with every key. It knows no database and no transport.
package secrets

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrSealed is wrapped by every error of Open: the value was sealed under another key or for another
// place, or was altered.
var ErrSealed = errors.New("the encrypted value cannot be decrypted")

// Place is where a sealed value belongs. It is bound into the seal: a value moved to another table,
// column or tenant does not open.
type Place struct {
	Table  string
	Column string
	Tenant string // tenant id; empty if the value belongs to no tenant
}

func (p Place) associatedData() []byte {
	return []byte(strings.Join([]string{p.Table, p.Column, p.Tenant}, "\x00"))
}

// Keys seals, opens and indexes. It is safe for concurrent use.
type Keys struct {
	seal  SealKeyset
	index IndexKeyset
}

// New returns the keys of two keysets.
func New(seal SealKeyset, index IndexKeyset) *Keys { return &Keys{seal, index} }

// Parse reads two keysets in the form that NewSealKeyset and NewIndexKeyset give.
func Parse(sealKeyset, indexKeyset string) (*Keys, error) {
	var keys Keys
	if err := keys.seal.UnmarshalText([]byte(sealKeyset)); err != nil {
		return nil, fmt.Errorf("the seal keyset %w", err)
	}
	if err := keys.index.UnmarshalText([]byte(indexKeyset)); err != nil {
		return nil, fmt.Errorf("the index keyset %w", err)
	}
	return &keys, nil
}

// Seal encrypts plain for one place, under the primary key. The same value sealed twice gives different
// bytes. It begins with SealPrefix.
func (k *Keys) Seal(plain []byte, at Place) ([]byte, error) {
	sealed, err := k.seal.aead.Encrypt(plain, at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s: %w", at.Table, at.Column, err)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same place, under any key of the keyset.
func (k *Keys) Open(sealed []byte, at Place) ([]byte, error) {
	plain, err := k.seal.aead.Decrypt(sealed, at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("open %s.%s: %w", at.Table, at.Column, ErrSealed)
	}
	return plain, nil
}

// SealPrefix returns the first 5 bytes of every value that is sealed under the primary key (Tink's output
// prefix). The last four of them are SealKeyID.
func (k *Keys) SealPrefix() []byte { return prefix(k.seal.primary) }

// SealKeyID names the primary key of the seal keyset. It is not secret.
func (k *Keys) SealKeyID() string { return fmt.Sprintf("%08x", k.seal.primary) }

// IndexPrefix returns the prefix of every blind index that is made under the primary key.
func (k *Keys) IndexPrefix() string { return hex.EncodeToString(prefix(k.index.primary)) }

func prefix(keyID uint32) []byte {
	return []byte{1, byte(keyID >> 24), byte(keyID >> 16), byte(keyID >> 8), byte(keyID)}
}

// Purpose is what a blind index finds: values of one kind, of one tenant or of all tenants.
type Purpose struct {
	Kind   string
	Tenant string // tenant id; empty for an index over all tenants
}

// Email is the purpose of the index by which admins log in.
var Email = Purpose{Kind: "email"}

func (p Purpose) message(value string) []byte {
	if p.Tenant != "" {
		return []byte(p.Kind + "\x00" + p.Tenant + "\x00" + value)
	}
	return []byte(p.Kind + "\x00" + value)
}

// Index returns the blind index of a normalised value under the primary key: a keyed hash in hex. Without
// the key it reveals nothing about the value, not even by guessing.
func (k *Keys) Index(of Purpose, value string) (string, error) {
	all, err := k.Indexes(of, value)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// Indexes returns the blind index of a normalised value under each key, the primary's first, so that values
// that were indexed under an earlier key are still found.
func (k *Keys) Indexes(of Purpose, value string) ([]string, error) {
	var all []string
	for _, mac := range k.index.macs {
		tag, err := mac.ComputeMAC(of.message(value))
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", of.Kind, err)
		}
		all = append(all, hex.EncodeToString(tag))
	}
	return all, nil
}

// EmailIndex is the Index of an admin's normalised email.
func (k *Keys) EmailIndex(email string) (string, error) { return k.Index(Email, email) }

// EmailIndexes are the Indexes of an admin's normalised email.
func (k *Keys) EmailIndexes(email string) ([]string, error) { return k.Indexes(Email, email) }

// EmailLock returns an index of a normalised email that is the same in every process with the same oldest
// key in its keyset, whichever key is the primary. Processes lock by it while keys change.
func (k *Keys) EmailLock(email string) (string, error) {
	tag, err := k.index.oldest.ComputeMAC(Email.message(email))
	if err != nil {
		return "", fmt.Errorf("index email: %w", err)
	}
	return hex.EncodeToString(tag), nil
}

// Fingerprint returns a keyed hash of parts, under the primary key, for one purpose. It is equal only for
// equal parts, and reveals nothing about them.
func (k *Keys) Fingerprint(purpose string, parts ...string) ([]byte, error) {
	var message strings.Builder
	for _, part := range append([]string{"fingerprint", purpose}, parts...) {
		fmt.Fprintf(&message, "%d:%s", len(part), part)
	}
	tag, err := k.index.macs[0].ComputeMAC([]byte(message.String()))
	if err != nil {
		return nil, fmt.Errorf("fingerprint %s: %w", purpose, err)
	}
	return tag, nil
}
