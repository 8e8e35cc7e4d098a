// Package ids makes and checks the identifiers of churches, tenants, admins and rows.
package ids

import (
	"crypto/rand"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// New returns a fresh ULID in lower case (26 characters of Crockford's base 32), so that database names
// built from it need no quoting. Its 80 random bits come from the system's secure source.
func New() string {
	return strings.ToLower(ulid.MustNew(ulid.Now(), rand.Reader).String())
}

// DatabasePrefix is the prefix of the names of tenants' databases and of the roles that own them.
const DatabasePrefix = "tenant_"

// DatabaseName returns the common name of a tenant's database and role.
func DatabaseName(tenantID string) string { return DatabasePrefix + tenantID }

// Time returns when an id was made, to the millisecond, or the zero time if it is not an id.
func Time(id string) time.Time {
	parsed, err := ulid.Parse(id)
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(parsed.Time())
}

var pattern = regexp.MustCompile(`^[0-7][0-9a-hjkmnp-tv-z]{25}$`)

// Valid reports whether s has the form of New's ids.
func Valid(s string) bool { return pattern.MatchString(s) }
