package testenv

import (
	"strings"
	"testing"
)

// WantNothingOf checks that a text does not contain any of the secrets, in upper or lower case.
func WantNothingOf(t testing.TB, where, text string, secrets ...string) {
	t.Helper()
	text = strings.ToLower(text)
	for _, secret := range secrets {
		if secret == "" || strings.Contains(text, strings.ToLower(secret)) {
			t.Errorf("%q can be read in %s", secret, where)
		}
	}
}
