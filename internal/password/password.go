// Package password holds the rules for passwords, hashes them and compares them with their hashes. It stores none.
package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/crypto/bcrypt"

	"narthex/internal/text"
)

// Cost is the bcrypt cost of every hash that Narthex stores.
const Cost = 10

const (
	least = 8  // bytes
	most  = 72 // bytes; bcrypt ignores the rest
)

// ErrBusy says that no processor was free in time to hash a password.
var ErrBusy = errors.New("no processor was free in time to hash a password")

// Check returns what is wrong with a new password, or "".
func Check(password string) string {
	if len(password) < least || len(password) > most {
		return fmt.Sprintf("must have %d to %d bytes", least, most)
	}
	return text.Check(password, 1, most)
}

// Hasher hashes no more passwords at once than there are processors. Otherwise an attacker could keep them all
// busy with hashing.
type Hasher struct {
	cost  int
	turns chan struct{}
	decoy []byte // compared if there is no hash, so that the time is the same
}

// NewHasher returns a hasher with a cost, for this process. Only tests, which have to be fast, use a cost other than Cost.
func NewHasher(cost int) (*Hasher, error) {
	h := &Hasher{cost: cost, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	var err error
	h.decoy, err = h.Hash(context.Background(), rand.Text())
	if err != nil {
		return nil, fmt.Errorf("make decoy hash: %w", err)
	}
	return h, nil
}

// turn waits for a free processor until ctx ends, and returns the function that frees it. Errors: ErrBusy.
func (h *Hasher) turn(ctx context.Context) (done func(), err error) {
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, ErrBusy
	}
}

// Hash returns the bcrypt hash of a password that passes Check. Errors: ErrBusy.
func (h *Hasher) Hash(ctx context.Context, password string) ([]byte, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return bcrypt.GenerateFromPassword([]byte(password), h.cost)
}

// Matches reports whether a password is the one that was hashed. It always compares exactly once. An empty hash, or
// one with another cost, matches nothing: a tampered hash could keep a processor busy for hours. Errors: ErrBusy.
func (h *Hasher) Matches(ctx context.Context, hash, password string) (bool, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	cost, err := bcrypt.Cost([]byte(hash))
	possible := err == nil && cost == h.cost && len(password) <= most
	against := []byte(hash)
	if !possible {
		against = h.decoy
	}
	same := bcrypt.CompareHashAndPassword(against, []byte(password[:min(len(password), most)])) == nil
	return same && possible, nil
}
