package ids

import (
	"strings"
	"testing"
)

func TestNewIsValidAndUnique(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := New()
		if !Valid(id) {
			t.Fatalf("New() = %q, which Valid refuses", id)
		}
		if seen[id] {
			t.Fatalf("New() gave %q twice", id)
		}
		seen[id] = true
	}
}

func TestValidRefuses(t *testing.T) {
	good := New()
	for _, bad := range []string{"", strings.ToUpper(good), good[1:], good + "0", good[:25] + "u", good[:25] + `"`, "8" + good[1:]} {
		if Valid(bad) {
			t.Errorf("Valid(%q) = true, want false", bad)
		}
	}
}
