package secrets

import (
	"bytes"
	"encoding/base64"
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

// SealKeyset is a keyset for sealing. UnmarshalText fills it.
type SealKeyset struct {
	aead    tink.AEAD
	primary uint32 // key id
}

// UnmarshalText reads base64 of Tink's JSON, as NewSealKeyset makes it. Its errors never hold key
// material.
func (k *SealKeyset) UnmarshalText(text []byte) error {
	handle, primary, err := parse(string(text))
	if err != nil {
		return err
	}
	k.primary = primary
	k.aead, err = aead.New(handle)
	if err != nil {
		return errors.New("has keys that are not AEAD keys")
	}
	return nil
}

// IndexKeyset is a keyset for the blind index. UnmarshalText fills it.
type IndexKeyset struct {
	macs    []tink.MAC // one per key, the primary's first
	oldest  tink.MAC
	primary uint32 // key id
}

// UnmarshalText reads base64 of Tink's JSON, as NewIndexKeyset makes it. Its errors never hold key
// material.
func (k *IndexKeyset) UnmarshalText(text []byte) error {
	handle, primary, err := parse(string(text))
	if err != nil {
		return err
	}
	*k = IndexKeyset{primary: primary}
	for _, id := range keyIDs(handle) {
		single, err := withPrimary(handle, id)
		if err != nil {
			return err
		}
		m, err := mac.New(single)
		if err != nil {
			return errors.New("has keys that are not MAC keys")
		}
		if k.oldest == nil {
			k.oldest = m
		}
		if id == primary {
			k.macs = append([]tink.MAC{m}, k.macs...)
		} else {
			k.macs = append(k.macs, m)
		}
	}
	return nil
}

var (
	sealTemplate  = aead.XChaCha20Poly1305KeyTemplate() // random nonces are safe for any number of values
	indexTemplate = mac.HMACSHA256Tag256KeyTemplate()
)

// NewSealKeyset returns a fresh keyset for sealing, in the form that SealKeyset reads.
func NewSealKeyset() (string, error) { return newKeyset(sealTemplate) }

// NewIndexKeyset returns a fresh keyset for the blind index, in the form that IndexKeyset reads.
func NewIndexKeyset() (string, error) { return newKeyset(indexTemplate) }

func newKeyset(template *tinkpb.KeyTemplate) (string, error) {
	handle, err := keyset.NewHandle(template)
	if err != nil {
		return "", fmt.Errorf("make keyset: %w", err)
	}
	return format(handle)
}

// AddSealKey returns the keyset with a fresh key, not (yet) the primary.
func AddSealKey(text string) (string, error) { return addKey(text, sealTemplate) }

// AddIndexKey returns the keyset with a fresh key, not (yet) the primary.
func AddIndexKey(text string) (string, error) { return addKey(text, indexTemplate) }

func addKey(text string, template *tinkpb.KeyTemplate) (string, error) {
	handle, _, err := parse(text)
	if err != nil {
		return "", err
	}
	manager := keyset.NewManagerFromHandle(handle)
	if _, err := manager.Add(template); err != nil {
		return "", fmt.Errorf("add key: %w", err)
	}
	handle, err = manager.Handle()
	if err != nil {
		return "", fmt.Errorf("add key: %w", err)
	}
	return format(handle)
}

// PromoteKey returns the keyset, of either kind, with its newest key as the primary.
func PromoteKey(text string) (string, error) {
	handle, _, err := parse(text)
	if err != nil {
		return "", err
	}
	ids := keyIDs(handle)
	handle, err = withPrimary(handle, ids[len(ids)-1])
	if err != nil {
		return "", err
	}
	return format(handle)
}

// RetireKeys returns the keyset, of either kind, with only its primary key. What was written under the
// others can no longer be read.
func RetireKeys(text string) (string, error) {
	handle, primary, err := parse(text)
	if err != nil {
		return "", err
	}
	manager := keyset.NewManagerFromHandle(handle)
	for _, id := range keyIDs(handle) {
		if id != primary {
			if err := manager.Delete(id); err != nil {
				return "", fmt.Errorf("delete key: %w", err)
			}
		}
	}
	handle, err = manager.Handle()
	if err != nil {
		return "", fmt.Errorf("delete keys: %w", err)
	}
	return format(handle)
}

func withPrimary(handle *keyset.Handle, id uint32) (*keyset.Handle, error) {
	manager := keyset.NewManagerFromHandle(handle)
	if err := manager.SetPrimary(id); err != nil {
		return nil, fmt.Errorf("set primary key: %w", err)
	}
	return manager.Handle()
}

// keyIDs lists the keys, oldest first.
func keyIDs(handle *keyset.Handle) (ids []uint32) {
	for _, key := range handle.KeysetInfo().KeyInfo {
		if key.Status == tinkpb.KeyStatusType_ENABLED {
			ids = append(ids, key.KeyId)
		}
	}
	return ids
}

func parse(text string) (handle *keyset.Handle, primary uint32, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, 0, errors.New("is not base64")
	}
	handle, err = insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, 0, errors.New("is not a Tink keyset in JSON")
	}
	for _, key := range handle.KeysetInfo().KeyInfo {
		if key.OutputPrefixType != tinkpb.OutputPrefixType_TINK {
			return nil, 0, errors.New("has a key without Tink's output prefix, which tells keys apart")
		}
	}
	return handle, handle.KeysetInfo().PrimaryKeyId, nil
}

func format(handle *keyset.Handle) (string, error) {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return "", fmt.Errorf("write keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}
