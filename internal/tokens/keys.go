package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Keys sign and verify tokens: the first key signs, and all verify. UnmarshalText fills them.
type Keys []key

type key struct {
	id      string
	private ed25519.PrivateKey
}

// UnmarshalText reads keys in the form that NewKey makes, separated by commas. Its errors do not hold
// them.
func (k *Keys) UnmarshalText(text []byte) error {
	var all Keys
	for seed := range strings.SplitSeq(string(text), ",") {
		one, err := parseKey(strings.TrimPrefix(seed, added))
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	*k = all
	return nil
}

func parseKey(text string) (key, error) {
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return key{}, fmt.Errorf("is not base64 of %d bytes, or several of these separated by commas", ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(seed)
	thumbprint := sha256.Sum256(private.Public().(ed25519.PublicKey))
	return key{id: hex.EncodeToString(thumbprint[:8]), private: private}, nil
}

// NewKey returns a fresh key: base64 of an Ed25519 seed.
func NewKey() (string, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", fmt.Errorf("make signing key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(private.Seed()), nil
}

// added marks a key that does not sign yet, so that a key that has signed is never promoted again.
const added = "~" // no letter of base64

// AddKey returns the keys with a fresh key at the end, which does not sign yet.
func AddKey(text string) (string, error) {
	if err := new(Keys).UnmarshalText([]byte(text)); err != nil {
		return "", err
	}
	fresh, err := NewKey()
	return text + "," + added + fresh, err
}

// PromoteKey returns the keys with the added one moved to the front: it signs from now on.
func PromoteKey(text string) (string, error) {
	all := strings.Split(text, ",")
	newest, ok := strings.CutPrefix(all[len(all)-1], added)
	if !ok {
		return "", errors.New("has no key that was added and doesn't sign yet: add one first")
	}
	return strings.Join(append([]string{newest}, all[:len(all)-1]...), ","), nil
}

// RetireKeys returns only the key that signs. Tokens that others have signed are refused from now on.
func RetireKeys(text string) (string, error) {
	signer, _, _ := strings.Cut(text, ",")
	return signer, nil
}
