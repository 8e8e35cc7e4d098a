package tenantserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/schema"
	"narthex/internal/sqltrace"
)

// Connect opens a session in d's database as its role. It checks the database's owner once the session is open, and
// a session cannot outlive its database, so it can never touch another signup's database.
// Errors: ErrGone, ErrNotOwned.
func (s *Server) Connect(ctx context.Context, d Database) (*pgx.Conn, error) {
	config, err := s.sessionConfig(d)
	if err != nil {
		return nil, err
	}
	conn, connectErr := pgx.ConnectConfig(ctx, config)
	if connectErr != nil {
		connectErr = fmt.Errorf("connect to tenant database: %w", connectErr)
	}
	_, err = s.look(ctx, d)
	if err == nil && connectErr == nil {
		return conn, nil
	}
	if connectErr == nil {
		conn.Close(ctx)
	}
	return nil, cmp.Or(err, connectErr)
}

// connect opens a session in a database as Narthex's role, to read pg_catalog (see catalogOnly). The settings, by name, apply
// to the session.
func (s *Server) connect(ctx context.Context, name string, settings map[string]string) (*pgx.Conn, error) {
	config := s.pool.Config().ConnConfig
	config.Database = name
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	postgres.Distrust(config)
	config.RuntimeParams["idle_session_timeout"] = postgres.IdleLimit
	maps.Copy(config.RuntimeParams, settings)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to tenant database: %w", err)
	}
	return conn, nil
}

// Migrate brings d's database to the newest tenant schema; a claimed ready database has it already. Idempotent. The database
// is not live yet, so if a crash has left it dirty, it is emptied and filled again. Errors: ErrGone, ErrNotOwned.
func (s *Server) Migrate(ctx context.Context, d Database) error {
	config, found, err := s.config(ctx, d)
	if err != nil || found.holds(s.Template()) {
		return err
	}
	newest, err := s.isNewest(ctx, d, config)
	if err != nil || newest {
		return err
	}
	err = schema.Up(ctx, config, s.files, s.check(d))
	if !errors.Is(err, schema.ErrDirty) {
		return err
	}
	if err := schema.Wipe(ctx, config, s.check(d)); err != nil {
		return err
	}
	return schema.Up(ctx, config, s.files, s.check(d))
}

// Revert removes the tenant schema from d's database. Idempotent.
// Errors: ErrGone, ErrNotOwned; with either there is nothing to revert.
func (s *Server) Revert(ctx context.Context, d Database) error {
	config, found, err := s.config(ctx, d)
	if err != nil {
		return err
	}
	if found.Schema != nil {
		if _, err := s.pool.Exec(ctx, fmt.Sprintf(unmark, d.Name())); err != nil {
			return fmt.Errorf("unmark database: %w", err)
		}
	}
	if _, err := s.adoptOf(ctx, d); err != nil {
		return err
	}
	err = schema.Down(ctx, config, s.files, s.check(d))
	if errors.Is(err, schema.ErrDirty) {
		return schema.Wipe(ctx, config, s.check(d))
	}
	return err
}

// isNewest reports whether d's database has the newest schema. It gives the role what was copied from the template.
func (s *Server) isNewest(ctx context.Context, d Database, config *pgx.ConnConfig) (bool, error) {
	filled, err := s.adoptOf(ctx, d)
	if err != nil || !filled {
		return false, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, fmt.Errorf("connect to tenant database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version, err := schema.Version(ctx, conn)
	if errors.Is(err, schema.ErrDirty) {
		return false, nil
	}
	return version == s.SchemaVersion(), err
}

func (s *Server) adoptOf(ctx context.Context, d Database) (filled bool, err error) {
	return s.adopt(ctx, d.Name(), func(marker string) bool { return isOf(d, marker) })
}

// config checks that d's database exists, and returns how to connect to it and what was found.
func (s *Server) config(ctx context.Context, d Database) (*pgx.ConnConfig, state, error) {
	found, err := s.look(ctx, d)
	if err != nil {
		return nil, found, err
	}
	config, err := s.sessionConfig(d)
	return config, found, err
}

// look returns what exists of d. Errors: ErrGone, ErrNotOwned.
func (s *Server) look(ctx context.Context, d Database) (found state, err error) {
	err = s.pool.Do(ctx, selectState, func(conn *pgx.Conn) (err error) {
		found, err = readState(ctx, conn, d)
		return err
	})
	if err != nil {
		return found, err
	}
	return found, found.standing(d)
}

func (s *Server) sessionConfig(d Database) (*pgx.ConnConfig, error) {
	return s.login(d.Name(), d.Password)
}

// login is how a role connects to the database that has its name.
func (s *Server) login(name, password string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(s.urlOf(name, password))
	if err != nil {
		return nil, errors.New("the tenant server's URL gives no usable tenant URL")
	}
	postgres.Distrust(config)
	config.Tracer = sqltrace.Tracer{}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a session of a few statements gains nothing by preparing them
	config.RuntimeParams["idle_session_timeout"] = postgres.IdleLimit
	return config, nil
}

const selectMarker = `SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = session_user`

// check returns a function that checks that a session is in d's own database.
func (s *Server) check(d Database) schema.AfterConnect {
	return func(ctx context.Context, conn *pgx.Conn) error {
		var marker string
		if err := conn.QueryRow(ctx, selectMarker).Scan(&marker); err != nil {
			return fmt.Errorf("check the database's owner: %w", err)
		}
		if !isOf(d, marker) {
			return ErrNotOwned
		}
		return nil
	}
}
