package schema_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"narthex/internal/schema"
	"narthex/internal/sqlstate"
)

var live = fstest.MapFS{
	"000001_first.up.sql":   {Data: []byte(`CREATE TABLE first (id text)`)},
	"000001_first.down.sql": {Data: []byte(`DROP TABLE first`)},
	"000002_planted.up.sql": {Data: []byte("ALTER TABLE first ADD COLUMN planted date;\nINSERT INTO first VALUES ('once')")},
	"000002_planted.down.sql": {
		Data: []byte("-- safe for data: nobody has written to it yet\n" +
			"ALTER TABLE first DROP COLUMN planted; DELETE FROM first WHERE id = 'once'"),
	},
	"000003_index.up.sql": {Data: []byte("-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS first_planted_idx\nON first (planted)")},
	"000003_index.down.sql": {
		Data: []byte("-- no transaction\n-- safe for data: an index holds none\nDROP INDEX CONCURRENTLY IF EXISTS first_planted_idx"),
	},
}

// atFirst returns a database at version 1.
func atFirst(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := open(t)
	first := fstest.MapFS{"000001_first.up.sql": live["000001_first.up.sql"]}
	if err := schema.Up(t.Context(), conn.Config(), first, nil); err != nil {
		t.Fatal(err)
	}
	return conn
}

func steps(t *testing.T, from, to int) []schema.Step {
	t.Helper()
	steps, err := schema.Steps(live, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func take(t *testing.T, conn *pgx.Conn, from, to int) {
	t.Helper()
	for _, step := range steps(t, from, to) {
		if err := schema.Take(t.Context(), conn, step); err != nil {
			t.Fatal(err)
		}
	}
	wantVersion(t, conn, to)
}

func wantVersion(t *testing.T, conn *pgx.Conn, want int) {
	t.Helper()
	got, err := schema.Version(t.Context(), conn)
	if err != nil || got != want {
		t.Errorf("the version is %d (%v), want %d", got, err, want)
	}
}

// golang-migrate accepts what the steps leave as if it had run the files itself.
func TestStepsGoForwardAndBack(t *testing.T) {
	t.Parallel()
	conn := atFirst(t)
	for range 2 {
		take(t, conn, 1, 3)
		if err := schema.Take(t.Context(), conn, steps(t, 2, 3)[0]); err != nil {
			t.Errorf("the last step, run again: %v", err)
		}
		take(t, conn, 3, 1)
	}
	take(t, conn, 1, 2)
	if err := schema.Up(t.Context(), conn.Config(), live, nil); err != nil {
		t.Errorf("golang-migrate continues with %v, want no error", err)
	}
	wantVersion(t, conn, 3)
}

func TestAStepFromAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	conn := atFirst(t)
	if err := schema.Take(t.Context(), conn, steps(t, 2, 3)[0]); !errors.Is(err, schema.ErrVersion) {
		t.Errorf("a step from 2 at version 1 returns %v, want ErrVersion", err)
	}
	wantVersion(t, conn, 1)
}

func TestAStepThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := atFirst(t)
	broken := steps(t, 1, 2)[0]
	broken.SQL += "; SELECT 1/0"
	if err := schema.Take(t.Context(), conn, broken); err == nil {
		t.Fatal("a broken step went through")
	}
	wantVersion(t, conn, 1)
	take(t, conn, 1, 3)
}

// A version is dirty if golang-migrate was interrupted before or after it committed its file, or if a step outside a
// transaction was interrupted.
func TestADirtyVersionIsContinued(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version int
		damage  string
	}{
		"before the commit": {1, `UPDATE narthex_migrations.versions SET version = 2, dirty = true`},
		"after the commit":  {2, `UPDATE narthex_migrations.versions SET dirty = true`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := atFirst(t)
			take(t, conn, 1, c.version)
			exec(t, conn, c.damage)
			take(t, conn, 1, 2)
			var rows int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM first`).Scan(&rows); err != nil || rows != 1 {
				t.Errorf("the step ran %d times (%v), want once", rows, err)
			}
		})
	}
}

const half = `UPDATE pg_index SET indisvalid = false WHERE indexrelid = ANY ('{first_planted_idx,another_idx}'::regclass[])`

// A step outside a transaction replaces the invalid index that an interrupted attempt has left, and no other.
func TestAHalfBuiltIndexIsReplaced(t *testing.T) {
	t.Parallel()
	conn := atFirst(t)
	take(t, conn, 1, 2)
	exec(t, conn, `CREATE INDEX first_planted_idx ON first (planted); CREATE INDEX another_idx ON first (planted);`+half)
	exec(t, conn, `UPDATE narthex_migrations.versions SET version = 3, dirty = true`)
	take(t, conn, 2, 3)
	wantIndexes(t, conn, "another_idx false, first_planted_idx true")
}

// IF NOT EXISTS skips an index that is invalid already. That doesn't count as a step taken.
func TestAnInvalidIndexIsNotAccepted(t *testing.T) {
	t.Parallel()
	conn := atFirst(t)
	take(t, conn, 1, 2)
	exec(t, conn, `CREATE INDEX first_planted_idx ON first (planted); CREATE INDEX another_idx ON first (planted);`+half)
	err := schema.Take(t.Context(), conn, steps(t, 2, 3)[0])
	if err == nil || !strings.Contains(err.Error(), "first_planted_idx is invalid") {
		t.Errorf("the step over an invalid index returns %v, want that it is invalid", err)
	}
	wantIndexes(t, conn, "another_idx false, first_planted_idx false")
	take(t, conn, 2, 3)
	wantIndexes(t, conn, "another_idx false, first_planted_idx true")
}

// wantIndexes compares the indexes, and whether they are valid.
func wantIndexes(t *testing.T, conn *pgx.Conn, want string) {
	t.Helper()
	const selectIndexes = `
		SELECT coalesce(string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' ORDER BY indexrelid::regclass::text), '')
		FROM pg_index WHERE indrelid = 'first'::regclass`
	var got string
	if err := conn.QueryRow(t.Context(), selectIndexes).Scan(&got); err != nil || got != want {
		t.Errorf("the indexes are %q (%v), want %q", got, err, want)
	}
}

func TestStepsHaveTheirFilesProperties(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to int
		inside   bool
		safe     string
	}{{1, 2, true, ""}, {2, 3, false, ""}, {3, 2, false, "an index holds none"}, {2, 1, true, "nobody has written to it yet"}} {
		step := steps(t, c.from, c.to)[0]
		if step.From != c.from || step.To != c.to || step.InTransaction != c.inside || step.Safe != c.safe {
			t.Errorf("the step from %d to %d is %+v, want it in a transaction: %t, safe: %q", c.from, c.to, step, c.inside, c.safe)
		}
	}
	if _, err := schema.Steps(live, 3, 4); err == nil {
		t.Error("there is a step to version 4, want none")
	}
}

// The migrations say which releases work with a database.
func TestServes(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	for name, head := range map[string]string{
		"000001_a": "",
		"000002_b": "-- compatible with: 1\n",
		"000003_c": "-- compatible with: 1\n",
		"000004_d": "",
		"000005_e": "-- compatible with: 3\n",
	} {
		files[name+".up.sql"] = &fstest.MapFile{Data: []byte(head + "SELECT")}
	}
	for version, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 4, 5: 4} {
		if got, err := schema.Serves(files, version); err != nil || got != want {
			t.Errorf("a database at %d works with releases from %d on (%v), want %d", version, got, err, want)
		}
	}
}

// A backfill changes each row once, and continues where it was interrupted. In a new database, it does nothing.
func TestAnInterruptedBackfillContinues(t *testing.T) {
	t.Parallel()
	const up = "-- backfill: members.id\nUPDATE members SET visits = visits + 1 WHERE true /* batch */;\n"
	files := fstest.MapFS{
		"000001_members.up.sql":    {Data: []byte(`CREATE TABLE members (id bigint PRIMARY KEY, visits int NOT NULL DEFAULT 0)`)},
		"000002_backfill.up.sql":   {Data: []byte(up)},
		"000002_backfill.down.sql": {Data: []byte("-- safe for data: it changes nothing\nSELECT 1")},
	}
	conn := open(t)
	first := fstest.MapFS{"000001_members.up.sql": files["000001_members.up.sql"]}
	if err := schema.Up(t.Context(), conn.Config(), first, nil); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `INSERT INTO members (id) SELECT * FROM generate_series(1, 2500)`)
	exec(t, conn, `ALTER TABLE members ADD CHECK (id <> 2400 OR visits = 0)`) // the third batch fails
	step, err := schema.Steps(files, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Take(t.Context(), conn, step[0]); sqlstate.Of(err) != "23514" {
		t.Fatalf("the backfill returns %v, want 23514", err)
	}
	wantVersion(t, conn, 1)
	exec(t, conn, `ALTER TABLE members DROP CONSTRAINT members_check`)
	if err := schema.Take(t.Context(), conn, step[0]); err != nil {
		t.Fatal(err)
	}
	wantVersion(t, conn, 2)
	var wrong int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM members WHERE visits <> 1`).Scan(&wrong); err != nil || wrong != 0 {
		t.Errorf("%d rows were not changed exactly once (%v), want none", wrong, err)
	}
	if err := schema.Up(t.Context(), open(t).Config(), files, nil); err != nil {
		t.Errorf("in a new database: %v", err)
	}
}

func TestMalformedBackfillsAreRefused(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]string{
		"-- backfill: members\nUPDATE members SET a = 1 WHERE true /* batch */": `"members" is not TABLE.KEY`,
		"-- backfill: members.id\nUPDATE members SET a = 1":                     "a backfill must have the comment /* batch */ once",
	} {
		_, err := schema.Steps(fstest.MapFS{"000002_b.up.sql": {Data: []byte(head)}}, 1, 2)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is read with %v, want %q", head, err, want)
		}
	}
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
