package migrations_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/schema"
	"narthex/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var schemas = map[string]struct {
	files  fs.FS
	tables int
}{
	"registry": {migrations.Registry, 18},
	"tenant":   {migrations.Tenant, 24},
}

func TestEveryMigrationHasADownMigration(t *testing.T) {
	t.Parallel()
	for name, s := range schemas {
		files, err := fs.Glob(s.files, "*.up.sql")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has %d migrations (%v), want at least one", name, len(files), err)
		}
		for _, up := range files {
			down := strings.TrimSuffix(up, ".up.sql") + ".down.sql"
			if _, err := fs.Stat(s.files, down); err != nil {
				t.Errorf("%s/%s has no %s", name, up, down)
			}
		}
	}
}

const (
	publicTables = `
		SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind = 'r'`
	publicThings = `
		SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
			+ (SELECT count(*) FROM pg_type WHERE typnamespace = 'public'::regnamespace)
			+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)`
	bareForeignKeys = `
		SELECT c.conrelid::regclass || ' ' || c.conname FROM pg_constraint c
		WHERE c.contype = 'f' AND NOT EXISTS (
			SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])`
	wrongColumns = `
		SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
		WHERE table_schema = 'public' AND (
			data_type IN ('timestamp without time zone', 'character varying')
			OR column_name = 'id' AND data_type NOT IN ('text', 'bytea', 'bigint')
			OR column_name = 'church_id' AND table_name <> 'tenants')`
	rowsWithoutTimes = `
		SELECT t.table_name::text FROM information_schema.tables t
		WHERE t.table_schema = 'public' AND t.table_name NOT IN ('signup_tombstones', 'audit_log') AND (
			SELECT count(*) FROM information_schema.columns c
			WHERE c.table_schema = 'public' AND c.table_name = t.table_name
			AND c.column_name IN ('created_at', 'updated_at') AND c.column_default = 'now()' AND c.is_nullable = 'NO') <> 2`
)

// Up creates the tables, down leaves nothing behind, and up works again after that.
func TestUpAndDown(t *testing.T) {
	t.Parallel()
	for name, s := range schemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			for range 2 {
				migrate(t, db, s.files, schema.Up)
				if got := count(t, db, publicTables); got != s.tables {
					t.Errorf("up creates %d tables, want %d", got, s.tables)
				}
				migrate(t, db, s.files, schema.Down)
				if got := count(t, db, publicThings); got != 0 {
					t.Errorf("down leaves %d things in the schema public, want none", got)
				}
			}
		})
	}
}

// The registry can be reverted even if churches' emails were released and a founder has a second church.
func TestReleasedEmailsGoDown(t *testing.T) {
	t.Parallel()
	db := open(t)
	migrate(t, db, migrations.Registry, schema.Up)
	const churches = `
		INSERT INTO churches (id, name, email, email_hash, subscription_status, signup_id)
		VALUES ('a', '', '', NULL, 'trial', ''), ('b', '', '', NULL, 'trial', ''), ('c', '', '', 'hash', 'trial', '')`
	if _, err := db.Exec(t.Context(), churches); err != nil {
		t.Fatal(err)
	}
	migrate(t, db, migrations.Registry, schema.Down)
}

// Rules that apply to every table, so that the next migration follows them too.
func TestTablesFollowTheRules(t *testing.T) {
	t.Parallel()
	for name, s := range schemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			migrate(t, db, s.files, schema.Up)
			for rule, query := range map[string]string{
				"every foreign key has an index":                                            bareForeignKeys,
				"ids are text, times are timestamptz, and no tenant table names the church": wrongColumns,
				"created_at and updated_at default to now()":                                rowsWithoutTimes,
			} {
				rows, _ := db.Query(t.Context(), query)
				broken, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					t.Fatalf("%s: %v", rule, err)
				}
				if len(broken) != 0 {
					t.Errorf("%s, but not %v", rule, broken)
				}
			}
		})
	}
}

func open(t *testing.T) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, testenv.NewDatabase(t))
}

type move = func(context.Context, *pgx.ConnConfig, fs.FS, schema.AfterConnect) error

func migrate(t *testing.T, db *pgx.Conn, files fs.FS, move move) {
	t.Helper()
	if err := move(t.Context(), db.Config(), files, nil); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *pgx.Conn, query string) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
