package tenantserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectionLimit is how many connections one tenant's role may have: to its database, which takes no more
// either, unless the role, who owns it, changes that.
const connectionLimit = 20

// The names in these statements are a prefix and a checked ULID, the literals a SCRAM verifier and a
// marker: none can hold a quote.
const (
	createRole = `
		CREATE ROLE %[1]s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT %[4]d PASSWORD '%[2]s';
		COMMENT ON ROLE %[1]s IS '%[3]s';
		GRANT %[1]s TO CURRENT_USER`
	// Until PUBLIC has lost its rights, nobody may connect at all.
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

// Source is how a database came to be.
type Source string

// The sources.
const (
	FromStock    Source = "pool"     // it was ready, and was claimed; metrics carry the value
	FromTemplate Source = "template" // it was copied
	FromNothing  Source = "empty"    // it has to be migrated
)

// Take claims a ready copy of a template on a server for good, and returns its id, or "" if there is none.
type Take func(ctx context.Context, server, template string) (id string, err error)

// Create makes d's role and its database, under the tenant's lock: it claims one that is ready, or makes one.
// Idempotent for one signup: an earlier attempt's half is completed. permit is asked under the lock; its error
// ends the attempt. A nil take claims none. It returns how the database came to be, "" where it was there.
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

// complete makes what d lacks of a role and a database.
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
		if source, err = s.makeDatabase(ctx, conn, d); err != nil {
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

// Drop removes d's database and role, whoever is connected to it, under the tenant's lock. It leaves
// alone what belongs to another signup. Idempotent. tombstone is called under the lock, before anything is
// removed: it must forbid this signup to create again.
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

// dropAll drops d's database, by whichever name, and its role.
func dropAll(ctx context.Context, conn *pgx.Conn, d Database) error {
	var pgErr *pgconn.PgError
	for _, statement := range []string{
		fmt.Sprintf(dropDatabase, d.Name()),
		fmt.Sprintf(dropDatabase, d.renamed()),
		fmt.Sprintf(dropRole, d.Name()),
	} {
		_, err := conn.Exec(ctx, statement)
		if errors.As(err, &pgErr) && pgErr.Code == objectsDependOnIt {
			// On a server where everybody may connect to this database, the role may have left something in it.
			_, err = conn.Exec(ctx, fmt.Sprintf(dropOwned, d.Name())+statement)
		}
		if err != nil {
			return fmt.Errorf("drop database and role: %w", err)
		}
	}
	return nil
}
