package password_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"narthex/internal/password"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"12345678": "", strings.Repeat("ü", 36): "",
		"1234567": "must have 8 to 72 bytes", strings.Repeat("ü", 37): "must have 8 to 72 bytes",
		"12345678\x00": "must not contain control characters",
	} {
		if got := password.Check(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestHashAndMatch(t *testing.T) {
	t.Parallel()
	hasher := newHasher(t)
	long := strings.Repeat("x", 72)
	hash, err := hasher.Hash(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	cheap, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"the password", string(hash), long, true},
		{"another", string(hash), "correct horse", false},
		{"one that continues where bcrypt stops reading", string(hash), long + "y", false},
		{"no hash", "", "", false},
		{"a hash of another cost", string(cheap), long, false},
	} {
		if got, err := hasher.Matches(t.Context(), c.hash, c.password); err != nil || got != c.want {
			t.Errorf("%s: matches %t (%v), want %t", c.name, got, err, c.want)
		}
	}
}

// If there is more to hash than there are processors, the rest wait for their turn until their context ends.
func TestHashingIsBusy(t *testing.T) {
	t.Parallel()
	hasher := newHasher(t)
	busy, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 * runtime.GOMAXPROCS(0) {
		go func() {
			for busy.Err() == nil {
				_, _ = hasher.Hash(busy, "correct horse")
			}
		}()
	}
	ended, cancelled := context.WithCancel(t.Context())
	cancelled()
	for range 1000 { // a processor may become free just then
		if _, err := hasher.Matches(ended, "", ""); errors.Is(err, password.ErrBusy) {
			return
		}
	}
	t.Error("nobody had to wait")
}

func newHasher(t *testing.T) *password.Hasher {
	t.Helper()
	hasher, err := password.NewHasher(password.Cost)
	if err != nil {
		t.Fatal(err)
	}
	return hasher
}
