// Package schema brings a database to a version of its schema with golang-migrate. It works on one
// database at a time and knows neither the registry nor the tenants.
package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"narthex/internal/postgres"
	"narthex/internal/sqlstate"
)

// ErrDirty means that a migration was interrupted. Each migration file runs as one transaction, so the
// database has either all of the file's changes or none, but the version table does not know which.
var ErrDirty = errors.New("a migration was interrupted")

// AfterConnect checks each session before it is used. If it returns an error, the session is refused.
type AfterConnect = func(context.Context, *pgx.Conn) error

// The version table has its own schema, so that `public` contains only the application's tables.
const (
	bookkeeping   = `CREATE SCHEMA IF NOT EXISTS narthex_migrations`
	versionTable  = `"narthex_migrations"."versions"`
	selectVersion = `SELECT version, dirty FROM narthex_migrations.versions`
	// Everybody who can connect may use public, as in a new database.
	wipe = `
		DROP SCHEMA IF EXISTS narthex_migrations CASCADE; DROP SCHEMA public CASCADE;
		CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC`
)

// Up applies every migration in files that config's database lacks. It is idempotent, and several
// callers may race: one migrates, and the others find it done. afterConnect, if not nil, may refuse
// a connection before it is used. Errors: ErrDirty, or what PostgreSQL said.
func Up(ctx context.Context, config *pgx.ConnConfig, files fs.FS, afterConnect AfterConnect) error {
	return run(ctx, config, files, afterConnect, (*migrate.Migrate).Up)
}

// Down reverts every applied migration. It is idempotent.
func Down(ctx context.Context, config *pgx.ConnConfig, files fs.FS, afterConnect AfterConnect) error {
	return run(ctx, config, files, afterConnect, (*migrate.Migrate).Down)
}

// Wipe removes everything from a database that is not live, whatever state its migrations are in.
func Wipe(ctx context.Context, config *pgx.ConnConfig, afterConnect AfterConnect) error {
	db := open(ctx, config, afterConnect)
	defer db.Close()
	if _, err := db.ExecContext(ctx, wipe); err != nil {
		return fmt.Errorf("wipe schema: %w", err)
	}
	return nil
}

type move func(*migrate.Migrate) error

func run(ctx context.Context, config *pgx.ConnConfig, files fs.FS, afterConnect AfterConnect, move move) error {
	db := open(ctx, config, afterConnect)
	defer db.Close()
	if err := createBookkeeping(ctx, db); err != nil {
		return fmt.Errorf("create version table's schema: %w", err)
	}
	driver, err := migratepgx.WithInstance(db, &migratepgx.Config{MigrationsTable: versionTable, MigrationsTableQuoted: true})
	if err != nil {
		return fmt.Errorf("open version table: %w", err)
	}
	defer func() { _ = driver.Close() }()
	source, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", source, "postgres", driver)
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	err = move(m)
	var dirty migrate.ErrDirty
	switch {
	case err == nil, errors.Is(err, migrate.ErrNoChange):
		return nil
	case errors.As(err, &dirty):
		return fmt.Errorf("version %d: %w", dirty.Version, ErrDirty)
	default:
		return fmt.Errorf("migrate: %w", err)
	}
}

// Version returns the version of the newest migration that was applied, 0 before the first.
// Errors: ErrDirty, or what PostgreSQL said.
func Version(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (version int, err error) {
	var dirty bool
	err = db.QueryRow(ctx, selectVersion).Scan(&version, &dirty)
	switch state := sqlstate.Of(err); {
	case errors.Is(err, pgx.ErrNoRows), state == sqlstate.UndefinedTable, state == sqlstate.UndefinedSchema:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read schema version: %w", err)
	case dirty:
		return version, ErrDirty
	}
	return version, nil
}

// open returns a handle on config's database. Tables always go into public: by default PostgreSQL would
// first look for a schema with the role's name. golang-migrate takes no context, so the context's
// deadline is passed to PostgreSQL as the statement timeout.
func open(ctx context.Context, config *pgx.ConnConfig, afterConnect AfterConnect) *sql.DB {
	config = config.Copy()
	config.RuntimeParams["search_path"] = "public"
	config.RuntimeParams["idle_session_timeout"] = postgres.IdleLimit
	config.RuntimeParams["idle_in_transaction_session_timeout"] = postgres.IdleLimit
	if deadline, ok := ctx.Deadline(); ok {
		config.RuntimeParams["statement_timeout"] = strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10)
	}
	var options []stdlib.OptionOpenDB
	if afterConnect != nil {
		options = append(options, stdlib.OptionAfterConnect(afterConnect))
	}
	return stdlib.OpenDB(*config, options...)
}

// createBookkeeping creates the version table's schema. IF NOT EXISTS does not cover two simultaneous
// callers: the loser gets a unique violation, and finds the schema when it tries again.
func createBookkeeping(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, bookkeeping)
	if sqlstate.Of(err) == sqlstate.UniqueViolation {
		_, err = db.ExecContext(ctx, bookkeeping)
	}
	return err
}
