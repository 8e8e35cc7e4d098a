package sqlstate_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/sqlstate"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A church whose answers are too large must not look like a server that is down.
func TestAnAnswerThatIsTooLargeIsNoOutage(t *testing.T) {
	t.Parallel()
	err := wrap(sqlstate.ErrAnswerTooLarge)
	if sqlstate.Outage(err) || sqlstate.Retry(err) || sqlstate.Words(err) != "the database's answer is too large" {
		t.Errorf("outage: %t, retried: %t, want neither; words: %q", sqlstate.Outage(err), sqlstate.Retry(err), sqlstate.Words(err))
	}
}

// PostgreSQL itself raises these.
func TestWordsForPostgreSQLsErrors(t *testing.T) {
	t.Parallel()
	super := testenv.Connect(t, testenv.NewDatabase(t))
	role := "sqlstate_" + ids.New()
	for _, sql := range []string{
		`CREATE ROLE ` + role,
		`CREATE TABLE sqlstate_rows (email text UNIQUE CHECK (email <> ''), at date)`,
		`INSERT INTO sqlstate_rows VALUES ('pat@example.org')`,
	} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_, _ = super.Exec(context.Background(), `RESET ROLE`)
		_, _ = super.Exec(context.Background(), `DROP ROLE `+role)
	})
	for _, c := range []struct {
		sql, want string
		retry     bool
	}{
		{`INSERT INTO sqlstate_rows VALUES ('pat@example.org')`,
			"PostgreSQL refused: the value is already taken (23505 on sqlstate_rows_email_key)", false},
		{`INSERT INTO sqlstate_rows VALUES ('')`, "PostgreSQL refused: a value violates a check (23514 on sqlstate_rows_email_check)", false},
		{`INSERT INTO sqlstate_rows VALUES ('x', 'pat@example.org')`,
			"PostgreSQL refused: a value has the wrong form or is too long (22007)", false},
		{`SELECT * FROM pat`, "PostgreSQL refused: a table is missing (42P01)", false},
		{`SELECT FROM`, "PostgreSQL refused: the statement does not fit the schema (42601)", false},
		{`SET statement_timeout = 20; SELECT pg_sleep(9)`,
			"PostgreSQL cancelled the statement: it took too long, or somebody cancelled it (57014)", true},
		{`SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY`, "", true},
		{`INSERT INTO sqlstate_rows VALUES ('x')`,
			"PostgreSQL refused: the server is read-only (a standby, or a failover in progress) (25006)", true},
		{`SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; SET ROLE ` + role, "", true},
		{`CREATE DATABASE pat`, "PostgreSQL refused: Narthex's role may not create databases (42501)", false},
		{`CREATE ROLE pat`, "PostgreSQL refused: Narthex's role may not create roles (42501)", false},
		{`SELECT * FROM sqlstate_rows`, "PostgreSQL refused: the role lacks the privilege (42501)", false},
		{raise(`repeat('x', 63)`), taken + "23505 on " + strings.Repeat("x", 63) + ")", false},
		{raise(`repeat('x', 64)`), taken + "23505)", false},
		{raise(`repeat('x', 100000)`), taken + "23505)", false},
		{raise(`'pat@example.org'`), taken + "23505)", false},
		{raise(`E'x\n'`), taken + "23505)", false},
		{`SET client_encoding = LATIN1; ` + raise(`U&'\00E4'`), taken + "23505)", false},
	} {
		_, err := super.PgConn().Exec(t.Context(), c.sql).ReadAll()
		err = wrap(err)
		if got := sqlstate.Words(err); got != c.want {
			t.Errorf("%s\n got  %s\n want %s", c.sql, got, c.want)
		}
		if got := sqlstate.Retry(err); got != c.retry {
			t.Errorf("%s: retried: %t, want %t", c.sql, got, c.retry)
		}
	}
}

const taken = "PostgreSQL refused: the value is already taken ("

// raise is what a church's own code can do: raise an error on a constraint with any name.
func raise(constraint string) string {
	return `DO $$ BEGIN RAISE unique_violation USING CONSTRAINT = ` + constraint + `; END $$`
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("do it: %w", err)
}

func TestWordsNameTheDatabaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	server, err := url.Parse(testenv.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	server.Path = "/nx_registry"
	_, err = pgx.Connect(t.Context(), server.String())
	if got, want := sqlstate.Words(err), "the database nx_registry does not exist (3D000)"; got != want {
		t.Errorf("got %q (of %v), want %q", got, err, want)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true, "53300": true, "57P01": true, "40001": true, "55006": true, "3D000": true, "25006": true, "99999": true, "": true,
		"22001": false, "23503": false, "23P01": false, "42501": false, "42P01": false,
	} {
		if got := sqlstate.Retry(wrap(&pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s is retried: %t, want %t", code, got, want)
		}
	}
	if other := errors.New("no route to host"); !sqlstate.Retry(other) || sqlstate.Words(other) != "" || sqlstate.Of(other) != "" {
		t.Error("an error that isn't PostgreSQL's has a state")
	}
}
