// Package ids makes and checks the identifiers of churches, tenants, admins and rows.
package ids

import (
	"crypto/rand"
	"regexp"
	"strings"

	"github.com/oklog/ulid/v2"
)

// New returns a fresh ULID in lower case (26 characters of Crockford's base 32), so that a database
// name made of it needs no quoting. Its 80 random bits come from the system's secure source.
func New() string {
	return strings.ToLower(ulid.MustNew(ulid.Now(), rand.Reader).String())
}

var pattern = regexp.MustCompile(`^[0-7][0-9a-hjkmnp-tv-z]{25}$`)

// Valid reports whether s has the form that New gives.
func Valid(s string) bool { return pattern.MatchString(s) }
