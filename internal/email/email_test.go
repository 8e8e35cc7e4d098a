package email_test

import (
	"strings"
	"testing"

	"narthex/internal/email"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"  PAT@Example.ORG\n": "pat@example.org", "pat@example.org": "pat@example.org",
		"e\u0301@example.org": "\u00e9@example.org", "": "",
	} {
		if got := email.Normalise(given); got != want || email.Normalise(got) != got {
			t.Errorf("%q becomes %q, want %q, and the same when normalised again", given, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"pat@example.org": "", "pat+choir@example.org": "", "\u00e9@example.org": "",
		"": "must not be empty", strings.Repeat("a", 250) + "@example.org": "must have 1 to 254 characters",
		"pat": "is not an email address", "pat <pat@example.org>": "is not an email address",
		"a@example.org,b@example.org": "is not an email address",
		"a b@example.org":             "is not an email address", "pa\u00adt@example.org": "must not contain invisible characters",
	} {
		if got := email.Check(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}
