package text_test

import (
	"strings"
	"testing"

	"narthex/internal/text"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Grace Chapel": "", strings.Repeat("ß", 20): "", "می\u200cخواهم": "", "ක්\u200dෂ": "",
		"": "must not be empty", strings.Repeat("x", 21): "must have 1 to 20 characters",
		"a\x00b":   "must not contain control characters",
		"a\u0085b": "must not contain control characters", "a\ufffdb": "must not contain control characters",
		"a\u200bb": "must not contain invisible characters",
		"a\u202eb": "must not contain invisible characters", "\u3164": "must not contain invisible characters",
		"\u200d": "must contain a letter, a digit or a sign",
	} {
		if got := text.CheckName(name, 1, 20); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := text.Check("\u200b", 1, 20); got != "" {
		t.Errorf("a text, unlike a name, may hold invisible characters: %q", got)
	}
}
