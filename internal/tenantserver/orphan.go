package tenantserver

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
	"narthex/internal/postgres"
)

// Made is a role that a signup of this installation has made, and its database.
type Made struct {
	Database
	Exists      bool // the database, renamed or not
	HalfDropped bool // only DROP works on it
}

const (
	selectMade = `
		SELECT r.rolname AS role, shobj_description(r.oid, 'pg_authid') AS marker, d.datname IS NOT NULL AS exists,
			coalesce(d.datconnlimit = -2, false) AS half_dropped
		FROM pg_roles r
		LEFT JOIN pg_database d ON d.datdba = r.oid AND d.datname IN (r.rolname, $3 || substr(r.rolname, length($4) + 1))
		WHERE starts_with(r.rolname, $4) AND shobj_description(r.oid, 'pg_authid') LIKE $1 || '%' || $2`
	selectNames = `SELECT datname FROM pg_database WHERE starts_with(datname, $1) AND datconnlimit <> -2`

	// Nobody can connect to it while it is being renamed, and nobody finds it afterwards.
	closeDatabase  = `ALTER DATABASE %s ALLOW_CONNECTIONS false`
	endSessions    = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $1`
	renameDatabase = `ALTER DATABASE %s RENAME TO %s`
)

// renamedPrefix replaces ids.DatabasePrefix in a renamed database's name.
const renamedPrefix = "orphan_"

func (d Database) renamed() string { return renamedPrefix + d.TenantID }

// Made returns everything that this installation's signups have made on the server. It leaves out what other
// installations made, and what has no mark.
func (s *Server) Made(ctx context.Context) ([]Made, error) {
	type row struct {
		Role, Marker        string
		Exists, HalfDropped bool
	}
	found, err := postgres.All(
		ctx,
		s.pool,
		pgx.RowToStructByName[row],
		selectMade,
		markerPrefix,
		s.installationMark(),
		renamedPrefix,
		ids.DatabasePrefix,
	)
	if err != nil {
		return nil, fmt.Errorf("list what signups have made: %w", err)
	}
	made := make([]Made, len(found))
	for i, r := range found {
		signupID := strings.TrimSuffix(strings.TrimPrefix(r.Marker, markerPrefix), s.installationMark())
		made[i] = Made{Database{TenantID: strings.TrimPrefix(r.Role, ids.DatabasePrefix), SignupID: signupID}, r.Exists, r.HalfDropped}
	}
	return made, nil
}

// Names returns the names of the databases on the server that look like tenants' and can be used.
func (s *Server) Names(ctx context.Context) (map[string]bool, error) {
	names, err := postgres.All(ctx, s.pool, pgx.RowTo[string], selectNames, ids.DatabasePrefix)
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set, nil
}

// Rename ends all sessions in d's database and renames it, under the tenant's lock. It calls permit under the
// lock; on an error it changes nothing. Idempotent. Errors: ErrNotOwned, permit's.
func (s *Server) Rename(ctx context.Context, d Database, permit func(context.Context) error) error {
	return s.lockedTenant(ctx, d, func(conn *pgx.Conn) error {
		found, err := readState(ctx, conn, d)
		if err != nil {
			return err
		}
		if !s.owns(found, d) {
			return ErrNotOwned
		}
		if err := permit(ctx); err != nil {
			return err
		}
		if !found.DatabaseExists {
			return nil
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(closeDatabase, d.Name())); err != nil {
			return fmt.Errorf("close database: %w", err)
		}
		if _, err := conn.Exec(ctx, endSessions, d.Name()); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(renameDatabase, d.Name(), d.renamed())); err != nil {
			return fmt.Errorf("rename database: %w", err)
		}
		return nil
	})
}

// DropRenamed drops d's renamed or half dropped database and its role, under the tenant's lock. It calls permit
// under the lock. It leaves alone a database that has its own name again. Idempotent.
// Errors: ErrNotOwned, ErrInUse, permit's.
func (s *Server) DropRenamed(ctx context.Context, d Database, permit func(context.Context) error) error {
	return s.lockedTenant(ctx, d, func(conn *pgx.Conn) error {
		found, err := readState(ctx, conn, d)
		switch {
		case err != nil:
			return err
		case !found.RoleExists && !found.DatabaseExists:
			return nil
		case !s.owns(found, d):
			return ErrNotOwned
		case found.DatabaseExists && !found.HalfDropped:
			return ErrInUse
		}
		if err := permit(ctx); err != nil {
			return err
		}
		return dropAll(ctx, conn, d)
	})
}

// owns reports whether d's signup, in this installation, has made what was found.
func (s *Server) owns(found state, d Database) bool {
	return found.Marker != nil && *found.Marker == markerPrefix+d.SignupID+s.installationMark()
}
