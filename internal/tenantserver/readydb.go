package tenantserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/postgres"
)

// ErrNoTemplate means that the template hasn't been made yet.
var ErrNoTemplate = errors.New("there is no template yet")

// A ready database is a copy of the template that no tenant has yet. Its own role owns it and cannot log in,
// and nobody can connect to it. A signup claims it by giving role and database the tenant's name, all in one
// transaction.
const (
	readyPrefix = "pool_"
	readyMark   = "narthex pool of "

	createOwner = `
		CREATE ROLE %[1]s NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT %[3]d;
		COMMENT ON ROLE %[1]s IS '%[2]s';
		GRANT %[1]s TO CURRENT_USER`
	// The comment names the template whose schema the database holds; the database's own role owns that schema.
	closeReady = `
		ALTER DATABASE %[1]s ALLOW_CONNECTIONS false;
		COMMENT ON DATABASE %[1]s IS '%[2]s'`
	claimReady = `
		ALTER ROLE %[1]s RENAME TO %[2]s;
		ALTER ROLE %[2]s LOGIN PASSWORD '%[3]s';
		COMMENT ON ROLE %[2]s IS '%[4]s';
		ALTER DATABASE %[1]s RENAME TO %[2]s;
		ALTER DATABASE %[2]s ALLOW_CONNECTIONS true`
	selectReady = `
		SELECT rolname FROM pg_roles WHERE rolname LIKE 'pool\_%' AND shobj_description(oid, 'pg_authid') = $1`

	schemaMark = "narthex schema of "
	unmark     = `COMMENT ON DATABASE %s IS NULL`
)

// Template is the name of the template that databases are copied from, "" until it has been made.
func (s *Server) Template() string {
	if name := s.template.Load(); name != nil {
		return *name
	}
	return ""
}

// MakeReady makes a database that can be claimed under id, a ULID. If it fails, it removes what it made.
// Errors: ErrNoTemplate, or what PostgreSQL said.
func (s *Server) MakeReady(ctx context.Context, id string) error {
	template := s.Template()
	if template == "" {
		return ErrNoTemplate
	}
	err := s.makeReady(ctx, readyPrefix+id, template)
	if err != nil {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
		defer cancel()
		_ = s.DropReady(cleaning, id) // if this fails too, the keeper drops it later
	}
	return err
}

func (s *Server) makeReady(ctx context.Context, name, template string) error {
	mark := readyMark + s.installation
	if err := s.makeWithRole(ctx, name, mark, fmt.Sprintf(copyDatabase, name, template)); err != nil {
		return fmt.Errorf("make ready database: %w", err)
	}
	if _, err := s.adopt(ctx, name, func(marker string) bool { return marker == mark }); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, fmt.Sprintf(closeReady, name, schemaMark+template)); err != nil {
		return fmt.Errorf("close ready database: %w", err)
	}
	return nil
}

// makeWithRole makes a marked role that cannot log in, and a database with the same name that it owns. The database has
// the same restrictions as a tenant's. create is the statement that makes it.
func (s *Server) makeWithRole(ctx context.Context, name, mark, create string) error {
	for _, statement := range []string{
		fmt.Sprintf(createOwner, name, mark, connectionLimit), create, fmt.Sprintf(restrict, name, connectionLimit),
	} {
		if _, err := s.pool.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// dropWithRole drops what makeWithRole has made, even if somebody is connected. Idempotent.
func (s *Server) dropWithRole(ctx context.Context, name string) error {
	for _, statement := range []string{dropDatabase, dropRole} {
		if _, err := s.pool.Exec(ctx, fmt.Sprintf(statement, name)); err != nil {
			return err
		}
	}
	return nil
}

// ReadyIDs returns the ids of this installation's ready databases on the server, half-made ones too.
func (s *Server) ReadyIDs(ctx context.Context) (map[string]bool, error) {
	names, err := postgres.All(ctx, s.pool, pgx.RowTo[string], selectReady, readyMark+s.installation)
	if err != nil {
		return nil, fmt.Errorf("list ready databases: %w", err)
	}
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[strings.TrimPrefix(name, readyPrefix)] = true
	}
	return all, nil
}

// DropReady removes the ready database and role of id. Claimed ones have other names, so it leaves them alone. Idempotent.
func (s *Server) DropReady(ctx context.Context, id string) error {
	if err := s.dropWithRole(ctx, readyPrefix+id); err != nil {
		return fmt.Errorf("drop ready database: %w", err)
	}
	return nil
}

// claimTries is how many ready databases a signup tries if they turn out to be gone or in use.
const claimTries = 3

// claim gives a ready database to d, and reports whether there was one.
func (s *Server) claim(ctx context.Context, conn *pgx.Conn, d Database, take Take) (bool, error) {
	template := s.Template()
	if take == nil || template == "" {
		return false, nil
	}
	verifier, err := scramVerifier(d.Password)
	if err != nil {
		return false, fmt.Errorf("hash role password: %w", err)
	}
	for range claimTries {
		id, err := take(ctx, s.Name(), template)
		if err != nil || id == "" {
			return false, err
		}
		_, err = conn.Exec(ctx, fmt.Sprintf(claimReady, readyPrefix+id, d.Name(), verifier, s.marker(d)))
		if err == nil {
			return true, nil
		}
		if !unclaimable(err) { // if only the answer was lost, the next attempt finds d's database
			return false, fmt.Errorf("claim ready database: %w", err)
		}
	}
	return false, nil
}

// unclaimable reports whether a claim failed because of this database: it or its role is gone, being dropped, or in
// use.
func unclaimable(err error) bool {
	const undefinedRole, undefinedDatabase, inUse, changedMeanwhile = "42704", "3D000", "55006", "XX000"
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains([]string{undefinedRole, undefinedDatabase, inUse, changedMeanwhile}, pgErr.Code)
}
