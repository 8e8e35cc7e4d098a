package tenantserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectionLimit is how many connections a tenant's role may have. Its database has the same limit, but the
// role owns the database and can change that.
const connectionLimit = 20

// The names in these statements are a prefix and a checked ULID. The literals are a SCRAM verifier and a
// marker. None can contain a quote.
const (
	createRole = `
		CREATE ROLE %[1]s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT %[4]d PASSWORD '%[2]s';
		COMMENT ON ROLE %[1]s IS '%[3]s';
		GRANT %[1]s TO CURRENT_USER`
	// Nobody may connect until PUBLIC has lost its rights.
	createDatabase = `CREATE DATABASE %[1]s OWNER %[1]s TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false`
	restrict       = `
		REVOKE ALL ON DATABASE %[1]s FROM PUBLIC;
		ALTER DATABASE %[1]s CONNECTION LIMIT %[2]d;
		ALTER DATABASE %[1]s ALLOW_CONNECTIONS true`
	dropDatabase = `DROP DATABASE IF EXISTS %[1]s WITH (FORCE)`
	dropRole     = `DROP ROLE IF EXISTS %[1]s`
	dropOwned    = `DROP OWNED BY %[1]s; `

	objectsDependOnIt = "2BP01"
)

// Source is how a database was made.
type Source string

// The sources.
const (
	FromStock    Source = "pool"     // a ready database was claimed; metrics have this value
	FromTemplate Source = "template" // copied from the template
	FromNothing  Source = "empty"    // empty; it has to be migrated
)

// Take claims a ready copy of a template on a server for good, and returns its id, or "" if there is none.
type Take func(ctx context.Context, server, template string) (id string, err error)

// Create makes d's role and database under the tenant's lock: it claims a ready database or makes a new one.
// Idempotent for one signup: it completes what an earlier attempt left half-made. It calls permit under the lock; an
// error ends the attempt. If take is nil, it claims none. It returns how the database was made, "" if it existed.
// Errors: ErrNotOwned, permit's, take's, or what PostgreSQL said.
func (s *Server) Create(ctx context.Context, d Database, permit func(context.Context) error, take Take) (source Source, err error) {
	err = s.lockedTenant(ctx, d, func(conn *pgx.Conn) error {
		if err := permit(ctx); err != nil {
			return err
		}
		found, err := readState(ctx, conn, d)
		if err != nil {
			return err
		}
		if !found.nothing() && !found.ownedBy(d) {
			return ErrNotOwned
		}
		if found.nothing() {
			claimed, err := s.claim(ctx, conn, d, take)
			if err != nil {
				return err
			}
			if claimed {
				source = FromStock
				return nil
			}
		}
		source, err = s.complete(ctx, conn, d, found)
		return err
	})
	return source, err
}

// complete makes d's role and database, as far as they are missing.
func (s *Server) complete(ctx context.Context, conn *pgx.Conn, d Database, found state) (source Source, err error) {
	if !found.RoleExists {
		if err := makeRole(ctx, conn, d, s.marker(d)); err != nil {
			return "", err
		}
	}
	if found.HalfDropped {
		if _, err := conn.Exec(ctx, fmt.Sprintf(dropDatabase, d.Name())); err != nil {
			return "", fmt.Errorf("drop half-dropped database: %w", err)
		}
	}
	if !found.DatabaseExists || found.HalfDropped {
		source, err = s.makeDatabase(ctx, conn, d)
		if err != nil {
			return "", err
		}
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf(restrict, d.Name(), connectionLimit)); err != nil {
		return "", fmt.Errorf("restrict database: %w", err)
	}
	return source, nil
}

// makeRole makes the role and marks it in one transaction.
func makeRole(ctx context.Context, conn *pgx.Conn, d Database, marker string) error {
	verifier, err := scramVerifier(d.Password)
	if err != nil {
		return fmt.Errorf("hash role password: %w", err)
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf(createRole, d.Name(), verifier, marker, connectionLimit)); err != nil {
		return fmt.Errorf("create role: %w", err)
	}
	return nil
}

// Drop removes d's database and role under the tenant's lock, even if somebody is connected. It leaves
// alone what belongs to another signup. Idempotent. It calls tombstone under the lock before it removes
// anything: tombstone must forbid this signup to create again.
func (s *Server) Drop(ctx context.Context, d Database, tombstone func(context.Context) error) error {
	return s.lockedTenant(ctx, d, func(conn *pgx.Conn) error {
		if err := tombstone(ctx); err != nil {
			return err
		}
		found, err := readState(ctx, conn, d)
		if err != nil {
			return err
		}
		if !found.ownedBy(d) {
			return nil
		}
		return dropAll(ctx, conn, d)
	})
}

// dropAll drops d's database, under whichever name, and its role.
func dropAll(ctx context.Context, conn *pgx.Conn, d Database) error {
	var pgErr *pgconn.PgError
	for _, statement := range []string{
		fmt.Sprintf(dropDatabase, d.Name()),
		fmt.Sprintf(dropDatabase, d.renamed()),
		fmt.Sprintf(dropRole, d.Name()),
	} {
		_, err := conn.Exec(ctx, statement)
		if errors.As(err, &pgErr) && pgErr.Code == objectsDependOnIt {
			// If everybody may connect to this database, the role may have left something in it.
			_, err = conn.Exec(ctx, fmt.Sprintf(dropOwned, d.Name())+statement)
		}
		if err != nil {
			return fmt.Errorf("drop database and role: %w", err)
		}
	}
	return nil
}
