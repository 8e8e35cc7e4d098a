package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DatabaseURL is a postgres:// URL. It prints without its password.
type DatabaseURL string

var (
	errURL = errors.New("is not a URL like postgres://user:password@host:5432/database")
	// A raw @ does no harm; the other characters end the password, or the URL, early.
	errEncoding = errors.New("is not a URL like postgres://user:password@host:5432/database: " +
		"percent-encode what is no letter or digit in the user and the password (@ is %40, # %23, % %25, / %2F, ? %3F, [ %5B, a space %20)")
	errIdentity = errors.New("is a URL with a user, password or dbname after the ?: " +
		"put them in front, like postgres://user:password@host:5432/database")
)

// socketHost matches libpq's other form of a socket folder: a percent-encoded path in place of the host.
var socketHost = regexp.MustCompile(`^(\w+://(?:[^/?#]*@)?)(%2[Ff][^/?#:@]*)(?::([0-9]+))?(?:(/[^?]*))?(?:\?(.*))?$`)

// UnmarshalText checks the form, and converts libpq's forms to the one that all parts of the program read. Its
// error does not repeat the URL, which may contain a password.
func (u *DatabaseURL) UnmarshalText(text []byte) error {
	scheme, _, _ := strings.Cut(string(text), "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return errURL
	}
	parsed, err := url.Parse(hostAsParameter(string(text)))
	if err != nil || strings.ContainsAny(parsed.Path+parsed.Fragment, "@#") || parsed.User == nil && strings.Contains(parsed.RawQuery, "@") {
		return errEncoding
	}
	parameters, err := url.ParseQuery(parsed.RawQuery)
	if err != nil {
		return errEncoding
	}
	if parsed.Host == "" && parameters.Get("host") == "" {
		return errURL
	}
	if parameters.Has("user") || parameters.Has("password") || parameters.Has("dbname") {
		return errIdentity // a tenant's URL replaces this one's user, password and database
	}
	if parsed.Host == "" && parsed.Path == "" {
		parsed.Path = "/" // without a path, String drops the //
	}
	if _, err := pgx.ParseConfig(parsed.String()); err != nil {
		return refusedBy(err)
	}
	*u = DatabaseURL(parsed.String())
	return nil
}

// DatabaseURLs are URLs of PostgreSQL servers, separated by commas.
type DatabaseURLs []DatabaseURL

// UnmarshalText splits at the commas before a URL: others separate the hosts of one URL, or belong to a password.
func (u *DatabaseURLs) UnmarshalText(text []byte) error {
	var items []string
	for piece := range strings.SplitSeq(string(text), ",") {
		begins := strings.HasPrefix(strings.TrimSpace(piece), "postgres://") || strings.HasPrefix(strings.TrimSpace(piece), "postgresql://")
		if begins || len(items) == 0 {
			items = append(items, piece)
		} else {
			items[len(items)-1] += "," + piece
		}
	}
	*u = nil
	for _, item := range items {
		item = strings.Trim(item, ", \t\r\n")
		if item == "" {
			continue
		}
		var one DatabaseURL
		if err := one.UnmarshalText([]byte(item)); err != nil {
			return err
		}
		*u = append(*u, one)
	}
	return nil
}

// hostAsParameter rewrites postgres://%2Frun%2Fpostgresql:5432/database as
// postgres:///database?host=/run/postgresql&port=5432.
func hostAsParameter(text string) string {
	parts := socketHost.FindStringSubmatch(text)
	if parts == nil {
		return text
	}
	moved := "host=" + parts[2]
	if parts[3] != "" {
		moved += "&port=" + parts[3]
	}
	if parts[5] != "" {
		moved += "&" + parts[5]
	}
	return parts[1] + parts[4] + "?" + moved
}

// refusedBy says why pgx refuses a URL, without quoting the URL.
func refusedBy(err error) error {
	problem := "has a port or parameter that PostgreSQL's clients do not take"
	if cause := errors.Unwrap(err); cause != nil {
		return fmt.Errorf("%s: %w", problem, cause)
	}
	return errors.New(problem)
}

// String returns the URL without its password.
func (u DatabaseURL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "postgres://…"
	}
	return parsed.Redacted()
}
