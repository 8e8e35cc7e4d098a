package schema_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/schema"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var files = fstest.MapFS{
	"000001_first.up.sql":    {Data: []byte(`CREATE TABLE first (id text); INSERT INTO first VALUES ('once')`)},
	"000001_first.down.sql":  {Data: []byte(`DROP TABLE first`)},
	"000002_second.up.sql":   {Data: []byte(`CREATE TABLE second (id text)`)},
	"000002_second.down.sql": {Data: []byte(`DROP TABLE second`)},
}

func open(t *testing.T) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, testenv.NewDatabase(t))
}

func TestConcurrentUpsMigrateOnce(t *testing.T) {
	t.Parallel()
	conn := open(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := schema.Up(t.Context(), conn.Config(), files, nil); err != nil {
				t.Errorf("up: %v", err)
			}
		})
	}
	group.Wait()
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM first`).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the first migration ran %d times (%v), want once", rows, err)
	}
}

// A migration file that fails leaves nothing behind except a dirty version.
func TestAFailedMigrationIsDirtyUntilWiped(t *testing.T) {
	t.Parallel()
	conn := open(t)
	broken := fstest.MapFS{
		"000001_first.up.sql":  files["000001_first.up.sql"],
		"000002_second.up.sql": {Data: []byte(`CREATE TABLE second (id text); SELECT 1/0`)},
	}
	if err := schema.Up(t.Context(), conn.Config(), broken, nil); err == nil {
		t.Fatal("a broken migration went through")
	}
	if err := schema.Up(t.Context(), conn.Config(), files, nil); !errors.Is(err, schema.ErrDirty) {
		t.Errorf("after it, up returns %v, want ErrDirty", err)
	}
	var half bool
	if err := conn.QueryRow(t.Context(), `SELECT to_regclass('second') IS NOT NULL`).Scan(&half); err != nil || half {
		t.Errorf("a part of the broken migration exists: %t (%v), want nothing", half, err)
	}
	if err := schema.Wipe(t.Context(), conn.Config(), nil); err != nil {
		t.Fatalf("wipe: %v", err)
	}
	if err := schema.Up(t.Context(), conn.Config(), files, nil); err != nil {
		t.Errorf("after a wipe, up returns %v", err)
	}
}

// PostgreSQL searches a schema with the role's name before it searches public.
func TestTablesAreInPublicWhateverTheRolesName(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for _, name := range []string{"narthex_migrations", "mine"} {
		config := conn.Config().Copy()
		config.RuntimeParams["search_path"] = name + ",public" // what "$user",public means for a role with that name
		if _, err := conn.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+name); err != nil {
			t.Fatal(err)
		}
		if err := schema.Up(t.Context(), config, files, nil); err != nil {
			t.Fatal(err)
		}
	}
	var tables int
	const public = `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`
	if err := conn.QueryRow(t.Context(), public).Scan(&tables); err != nil || tables != 2 {
		t.Errorf("%d tables are in public (%v), want 2", tables, err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for _, c := range []struct {
		files fstest.MapFS
		want  int
	}{{nil, 0}, {files, 2}} {
		if c.files != nil {
			if err := schema.Up(t.Context(), conn.Config(), c.files, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := schema.Version(t.Context(), conn); err != nil || got != c.want {
			t.Errorf("version %d (%v), want %d", got, err, c.want)
		}
	}
}

func TestARefusedConnectionIsNotUsed(t *testing.T) {
	t.Parallel()
	conn := open(t)
	refusal := errors.New("not this database")
	err := schema.Up(t.Context(), conn.Config(), files, func(context.Context, *pgx.Conn) error { return refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("up returns %v, want the refusal", err)
	}
}
