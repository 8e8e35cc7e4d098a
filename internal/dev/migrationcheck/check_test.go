package migrationcheck_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"narthex/internal/dev/migrationcheck"
	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The schema before each case.
const first = `
	CREATE TYPE color AS ENUM ('red');
	CREATE TABLE groups (id text PRIMARY KEY, title text);
	CREATE TABLE people (
		id text PRIMARY KEY, name text NOT NULL, nick varchar(20), age integer, score numeric(6,2), born timestamptz(3), note text,
		amount integer, code char(4), tags text[], seen timestamp, flags varbit(8), group_id text REFERENCES groups,
		CONSTRAINT people_age_check CHECK (age >= 0)
	);
	CREATE INDEX people_note_idx ON people (note);
	CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER people_nothing AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION nothing();
	CREATE VIEW names AS SELECT name FROM people;
	CREATE TABLE spare (id text PRIMARY KEY);`

const ageIndex = `CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON people (age)`

// example is a migration, in the version after earlier, and the rules that refuse it, sorted.
type example struct {
	name    string
	earlier []string
	sql     string
	want    string
}

var examples = map[string][]example{
	"rewrite": {
		{"varchar becomes longer", nil, `ALTER TABLE people ALTER nick TYPE varchar(30)`, ""},
		{"varchar becomes shorter", nil, `ALTER TABLE people ALTER nick TYPE varchar(10)`, "rewrite"},
		{"varchar without a limit", nil, `ALTER TABLE people ALTER nick TYPE varchar`, ""},
		{"varchar to text", nil, `ALTER TABLE people ALTER nick TYPE text`, ""},
		{"text to varchar", nil, `ALTER TABLE people ALTER note TYPE varchar`, ""},
		{"text to varchar with a limit", nil, `ALTER TABLE people ALTER note TYPE varchar(100)`, "rewrite"},
		{"integer to bigint", nil, `ALTER TABLE people ALTER amount TYPE bigint`, "rewrite"},
		{"more digits", nil, `ALTER TABLE people ALTER score TYPE numeric(8,2)`, ""},
		{"more digits after the point", nil, `ALTER TABLE people ALTER score TYPE numeric(8,3)`, "rewrite"},
		{"any digits", nil, `ALTER TABLE people ALTER score TYPE numeric`, ""},
		{"times become more precise", nil, `ALTER TABLE people ALTER born TYPE timestamptz`, ""},
		{"times become less precise", nil, `ALTER TABLE people ALTER born TYPE timestamptz(0)`, "rewrite"},
		{"times get a zone", nil, `ALTER TABLE people ALTER seen TYPE timestamptz`, "rewrite"},
		{"char to text", nil, `ALTER TABLE people ALTER code TYPE text`, "rewrite"},
		{"varbit becomes longer", nil, `ALTER TABLE people ALTER flags TYPE varbit(16)`, ""},
		{"an array", nil, `ALTER TABLE people ALTER tags TYPE varchar(5)[]`, "rewrite"},
		{"the same type", nil, `ALTER TABLE people ALTER tags TYPE text[]`, ""},
		{"USING the column", nil, `ALTER TABLE people ALTER nick TYPE text USING nick::text`, ""},
		{"USING an expression", nil, `ALTER TABLE people ALTER nick TYPE text USING upper(nick)`, "rewrite"},
		{"another collation", nil, `ALTER TABLE people ALTER note TYPE text COLLATE "C"`, "rewrite"},
		{"after another change",
			[]string{`ALTER TABLE people ALTER nick TYPE text`}, `ALTER TABLE people ALTER nick TYPE varchar(20)`, "rewrite"},
		{"a constant default", nil, `ALTER TABLE people ADD COLUMN x text NOT NULL DEFAULT 'none'`, ""},
		{"the time as default", nil, `ALTER TABLE people ADD COLUMN x timestamptz NOT NULL DEFAULT now()`, ""},
		{"a date as default", nil, `ALTER TABLE people ADD COLUMN x date DEFAULT CURRENT_DATE`, ""},
		{"a volatile default", nil, `ALTER TABLE people ADD COLUMN x uuid DEFAULT gen_random_uuid()`, "rewrite"},
		{"a clock as default", nil, `ALTER TABLE people ADD COLUMN x text DEFAULT lower(clock_timestamp()::text)`, "rewrite"},
		{"a volatile default, set afterwards", nil,
			`ALTER TABLE people ADD COLUMN x uuid; ALTER TABLE people ALTER x SET DEFAULT gen_random_uuid()`, ""},
		{"a computed column", nil, `ALTER TABLE people ADD COLUMN x integer GENERATED ALWAYS AS (age + 1) STORED`, "rewrite"},
		{"an identity", nil, `ALTER TABLE people ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY`, "rewrite"},
		{"serial", nil, `ALTER TABLE people ADD COLUMN x bigserial`, "rewrite"},
		{"a table that this file creates", nil,
			`CREATE TABLE mine (id bigserial PRIMARY KEY); ALTER TABLE mine ADD x uuid DEFAULT gen_random_uuid()`, ""},
	},
	"not-null": {
		{"no default", nil, `ALTER TABLE people ADD COLUMN x text NOT NULL`, "not-null"},
		{"NULL as default", nil, `ALTER TABLE people ADD COLUMN x text NOT NULL DEFAULT NULL`, "not-null"},
		{"without a check", nil, `ALTER TABLE people ALTER note SET NOT NULL`, "not-null"},
		{"the check not validated", []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (note IS NOT NULL) NOT VALID`},
			`ALTER TABLE people ALTER note SET NOT NULL`, "not-null"},
		{"validated in the same file", []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (note IS NOT NULL) NOT VALID`},
			`ALTER TABLE people VALIDATE CONSTRAINT c; ALTER TABLE people ALTER note SET NOT NULL`, "not-null validate"},
		{"validated before", validated, `ALTER TABLE people ALTER note SET NOT NULL; ALTER TABLE people DROP CONSTRAINT c`, ""},
		{"the check dropped in the same statement", validated,
			`ALTER TABLE people ALTER note SET NOT NULL, DROP CONSTRAINT c`, "not-null"},
		{"the check dropped before", slices.Concat(validated, []string{`ALTER TABLE people DROP CONSTRAINT c`}),
			`ALTER TABLE people ALTER note SET NOT NULL`, "not-null"},
		{"a check of another column", validated, `ALTER TABLE people ALTER nick SET NOT NULL`, "not-null"},
		{"a check of both", []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (note IS NOT NULL AND nick IS NOT NULL) NOT VALID`,
			`ALTER TABLE people VALIDATE CONSTRAINT c`}, `ALTER TABLE people ALTER note SET NOT NULL, ALTER nick SET NOT NULL`, ""},
		{"a check of either", []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (note IS NOT NULL OR nick IS NOT NULL) NOT VALID`,
			`ALTER TABLE people VALIDATE CONSTRAINT c`}, `ALTER TABLE people ALTER note SET NOT NULL`, "not-null"},
		{"is NOT NULL already", nil, `ALTER TABLE people ALTER name SET NOT NULL`, ""},
		{"DROP NOT NULL", nil, `ALTER TABLE people ALTER name DROP NOT NULL`, ""},
	},
	"index": {
		{"on a table in use", nil, `CREATE INDEX people_age_idx ON people (age)`, "index"},
		{"CONCURRENTLY", nil, "-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS people_age_idx ON people (age)", ""},
		{"on a table that this file creates", nil, `CREATE TABLE mine (id text); CREATE INDEX mine_id_idx ON mine (id)`, ""},
		{"a name that is taken", nil,
			"-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS people_note_idx ON people (age)", "index"},
		{"dropped", nil, `DROP INDEX people_note_idx`, "index"},
		{"dropped CONCURRENTLY", nil, "-- no transaction\nDROP INDEX CONCURRENTLY IF EXISTS people_note_idx", ""},
	},
	"unique": {
		{"UNIQUE", nil, `ALTER TABLE people ADD CONSTRAINT people_note_key UNIQUE (note)`, "unique"},
		{"UNIQUE with a new column", nil, `ALTER TABLE people ADD COLUMN x text UNIQUE`, "unique"},
		{"UNIQUE USING INDEX", uniqueIndex, `ALTER TABLE people ADD CONSTRAINT people_note_key UNIQUE USING INDEX people_note_uidx`, ""},
		{"a primary key", withoutKey, `ALTER TABLE people ADD PRIMARY KEY (id)`, "unique"},
		{"a primary key USING INDEX", slices.Concat(withoutKey, []string{
			"-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS people_key ON people (id)"}),
			`ALTER TABLE people ADD PRIMARY KEY USING INDEX people_key`, ""},
		{"a primary key on a nullable column", slices.Concat(withoutKey, uniqueIndex),
			`ALTER TABLE people ADD PRIMARY KEY USING INDEX people_note_uidx`, "not-null"},
		{"EXCLUDE", nil, `ALTER TABLE people ADD CONSTRAINT x EXCLUDE USING btree (note WITH =)`, "unique"},
	},
	"foreign-key": {
		{"validated at once", nil, `ALTER TABLE people ADD FOREIGN KEY (note) REFERENCES groups`, "foreign-key"},
		{"NOT VALID", nil, `ALTER TABLE people ADD CONSTRAINT f FOREIGN KEY (note) REFERENCES groups NOT VALID`, ""},
		{"validated later", []string{`ALTER TABLE people ADD CONSTRAINT f FOREIGN KEY (note) REFERENCES groups NOT VALID`},
			`ALTER TABLE people VALIDATE CONSTRAINT f`, ""},
		{"on a new column", nil, `ALTER TABLE people ADD COLUMN other text REFERENCES groups`, ""},
		{"on a new column with a default", nil, `ALTER TABLE people ADD COLUMN other text DEFAULT '1' REFERENCES groups`, "foreign-key"},
		{"on a new table", nil, `CREATE TABLE mine (id text REFERENCES groups)`, ""},
	},
	"check": {
		{"validated at once", nil, `ALTER TABLE people ADD CHECK (amount > -1)`, "check"},
		{"NOT VALID", nil, `ALTER TABLE people ADD CONSTRAINT c CHECK (amount > -1) NOT VALID`, ""},
		{"on a new column", nil, `ALTER TABLE people ADD COLUMN x integer CHECK (x > 0)`, "check"},
		{"on a new table", nil, `CREATE TABLE mine (id text CHECK (id <> '')); ALTER TABLE mine ADD CHECK (id <> '-')`, ""},
		{"on a column whose type changes", []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (nick <> '') NOT VALID`,
			`ALTER TABLE people VALIDATE CONSTRAINT c`}, `ALTER TABLE people ALTER nick TYPE text`, "check"},
	},
	"validate": {
		{"a check in the same file", nil,
			`ALTER TABLE people ADD CONSTRAINT c CHECK (amount > -1) NOT VALID; ALTER TABLE people VALIDATE CONSTRAINT c`, "validate"},
		{"a check after another lock", notValid, `ALTER TABLE groups ADD x text; ALTER TABLE people VALIDATE CONSTRAINT c`, "validate"},
		{"a check before another lock", notValid, `ALTER TABLE people VALIDATE CONSTRAINT c; ALTER TABLE groups ADD x text`, "validate"},
		{"a check in a file of its own", notValid, `ALTER TABLE people VALIDATE CONSTRAINT c`, ""},
	},
	"rename": {
		{"a column", nil, `ALTER TABLE people RENAME COLUMN note TO remark`, "rename"},
		{"a table", nil, `ALTER TABLE people RENAME TO persons`, "rename"},
		{"a constraint", nil, `ALTER TABLE people RENAME CONSTRAINT people_age_check TO c`, "rename"},
		{"a type", nil, `ALTER TYPE color RENAME TO colour`, "rename"},
		{"a value", nil, `ALTER TYPE color RENAME VALUE 'red' TO 'crimson'`, "rename"},
		{"a schema", nil, `CREATE SCHEMA other`, "unknown"},
		{"into another schema", nil, `ALTER TABLE people SET SCHEMA pg_temp`, "rename"},
		{"in a table that this file creates", nil, `CREATE TABLE mine (id text); ALTER TABLE mine RENAME COLUMN id TO key`, ""},
		{"a new column beside it", nil, `ALTER TABLE people ADD COLUMN remark text`, ""},
	},
	"remove": {
		{"a column", nil, `ALTER TABLE people DROP COLUMN note`, "remove"},
		{"a table", nil, `DROP TABLE spare`, "remove"},
		{"a view", nil, `DROP VIEW names`, "remove"},
		{"with what depends on the column", later,
			"-- contract: people.name unread since 1\nALTER TABLE people DROP COLUMN name CASCADE", "remove"},
		{"a column, two versions later", later, "-- contract: people.note unread since 1\nALTER TABLE people DROP COLUMN note", ""},
		{"a column, a version later", later, "-- contract: people.note unread since 3\nALTER TABLE people DROP COLUMN note", "remove"},
		{"a column that a compatible release uses", later,
			"-- compatible with: 1\n-- contract: people.note unread since 2\nALTER TABLE people DROP COLUMN note", "remove"},
		{"a column that no compatible release uses", later,
			"-- compatible with: 2\n-- contract: people.note unread since 2\nALTER TABLE people DROP COLUMN note", ""},
		{"another column", later, "-- contract: people.nick unread since 1\nALTER TABLE people DROP COLUMN note", "remove"},
		{"a view, two versions later", later, "-- contract: names unread since 1\nDROP VIEW names", ""},
		{"a table, two versions later", later, "-- contract: spare unread since 1\nDROP TABLE spare", ""},
		{"a column that today's code reads", later,
			"-- contract: people.age unread since 1\nALTER TABLE people DROP COLUMN age", "remove"},
		{"a table that today's code reads", later, "-- contract: groups unread since 1\nDROP TABLE groups CASCADE", "remove remove"},
		{"a table that this file creates", nil, `CREATE TABLE mine (id text); DROP TABLE mine`, ""},
	},
	"data": {
		{"an update", nil, `UPDATE people SET note = ''`, "data"},
		{"in a file of its own", nil, "-- backfill: people.id\nUPDATE people SET note = '' WHERE true /* batch */", ""},
		{"rows of a new table", nil, `CREATE TABLE mine (id text); INSERT INTO mine VALUES ('a'); UPDATE mine SET id = 'b'`, ""},
		{"a copy of a table", nil, `CREATE TABLE mine AS SELECT * FROM people`, "data"},
		{"TRUNCATE", nil, `TRUNCATE people`, "data"},
		{"TRUNCATE of a new table", nil, `CREATE TABLE mine (id text); TRUNCATE mine`, ""},
	},
	"backfill": {
		{"all rows", nil, "-- backfill: people.id\nUPDATE people SET note = '' WHERE true /* batch */", ""},
		{"some rows", nil,
			"-- backfill: people.id\nUPDATE people SET note = nick WHERE note IS NULL AND (age > 1 OR nick <> '') /* batch */", ""},
		{"new rows", nil, "-- backfill: people.id\nINSERT INTO groups SELECT note, name FROM people WHERE true /* batch */", ""},
		{"a schema change", nil, "-- backfill: people.id\nALTER TABLE people ADD x text", "backfill backfill"},
		{"rows and a schema change", nil,
			"-- backfill: people.id\nUPDATE people SET note = '' WHERE true /* batch */;\nALTER TABLE people ADD x text", "backfill backfill"},
		{"without a key", nil, "-- backfill: people\nUPDATE people SET note = '' WHERE true /* batch */", "backfill"},
		{"without batches", nil, "-- backfill: people.id\nUPDATE people SET note = ''", "backfill"},
		{"with batches of some rows", nil,
			"-- backfill: people.id\nUPDATE people SET note = '' WHERE age > 1 OR nick <> '' /* batch */", "backfill"},
		{"with a batch but no condition", nil, "-- backfill: people.id\nUPDATE people SET note = '' /* batch */", "backfill"},
		{"by a nullable column", nil, "-- backfill: people.nick\nUPDATE people SET note = '' WHERE true /* batch */", "backfill"},
		{"by a column that doesn't exist", nil, "-- backfill: people.key\nUPDATE people SET note = '' WHERE true /* batch */", "backfill"},
		{"with -- unsafe", nil, "-- backfill: people.id\n-- unsafe: it is quick\nALTER TABLE people ADD x text", "backfill backfill unsafe"},
	},
	"enum": {
		{"a value", nil, `ALTER TYPE color ADD VALUE 'blue'`, ""},
		{"a value and its use", nil, `ALTER TYPE color ADD VALUE 'blue'; ALTER TABLE people ADD x color DEFAULT 'blue'`, "enum"},
		{"a value, used later", []string{`ALTER TYPE color ADD VALUE 'blue'`}, `ALTER TABLE people ADD x color DEFAULT 'blue'`, ""},
	},
	"locks": {
		{"two tables", nil, `ALTER TABLE people ADD x text; ALTER TABLE groups ADD x text`, "locks"},
		{"one table, twice", nil, `ALTER TABLE people ADD x text; ALTER TABLE people ADD y text`, ""},
		{"a table that this file creates, and another", nil,
			`CREATE TABLE mine (id text); ALTER TABLE mine ADD x text; ALTER TABLE people ADD x text`, ""},
		{"a trigger", nil, `CREATE TRIGGER t AFTER DELETE ON people FOR EACH ROW EXECUTE FUNCTION nothing()`, ""},
		{"a trigger and another table", nil,
			`CREATE TRIGGER t AFTER DELETE ON people FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE groups ADD x text`, "locks"},
		{"a dropped trigger and another table", nil, `ALTER TABLE groups ADD x text; DROP TRIGGER people_nothing ON people`, "locks"},
		{"a foreign key and another table", nil, `CREATE TABLE mine (id text REFERENCES groups); ALTER TABLE people ADD x text`, "locks"},
		{"a dropped foreign key and its table", nil,
			`ALTER TABLE groups ADD x text; ALTER TABLE people DROP CONSTRAINT people_group_id_fkey`, "locks"},
		{"LOCK", nil, `LOCK TABLE groups; ALTER TABLE people ADD x text`, "locks"},
		{"a weak LOCK", nil, `LOCK TABLE groups IN ACCESS SHARE MODE; ALTER TABLE people ADD x text`, ""},
		{"settings of a table", nil, `ALTER TABLE people ALTER note SET STATISTICS 500; ALTER TABLE groups ADD x text`, ""},
	},
	"maintenance": {
		{"CLUSTER", nil, `CLUSTER people USING people_pkey`, "maintenance"},
		{"VACUUM FULL", nil, "-- no transaction\nVACUUM FULL people", "maintenance"},
		{"VACUUM", nil, "-- no transaction\nVACUUM people", ""},
		{"ANALYZE", nil, "ANALYZE people", ""},
		{"REINDEX", nil, `REINDEX TABLE people`, "maintenance"},
		{"REINDEX CONCURRENTLY", nil, "-- no transaction\nREINDEX TABLE CONCURRENTLY people", ""},
		{"another tablespace", nil, `ALTER TABLE people SET TABLESPACE pg_default`, "maintenance"},
		{"UNLOGGED", nil, `ALTER TABLE people SET UNLOGGED`, "maintenance"},
		{"LOGGED", nil, `ALTER TABLE people SET LOGGED`, "maintenance"},
		{"fillfactor", nil, `ALTER TABLE people SET (fillfactor = 90)`, ""},
	},
	"transaction": {
		{"CONCURRENTLY in a transaction", nil, ageIndex, "transaction"},
		{"not the first line", nil, "-- An index.\n-- no transaction\n" + ageIndex, "transaction transaction"},
		{"with -- unsafe", nil, "-- unsafe: quick\n" + ageIndex, "transaction unsafe"},
		{"two statements", nil, "-- no transaction\nDROP INDEX CONCURRENTLY IF EXISTS people_note_idx;\n" +
			"CREATE INDEX CONCURRENTLY IF NOT EXISTS people_note_idx ON people (note)", "transaction"},
		{"can't be repeated", nil, "-- no transaction\nCREATE INDEX CONCURRENTLY i ON people (age)", "transaction"},
		{"can't be repeated without a name", nil, "-- no transaction\nCREATE INDEX CONCURRENTLY ON people (age)", "transaction"},
		{"a drop that can't be repeated", nil, "-- no transaction\nDROP INDEX CONCURRENTLY people_note_idx", "transaction"},
		{"not needed", nil, "-- no transaction\nALTER TABLE people ADD x text", "transaction"},
		{"COMMIT", nil, `ALTER TABLE people ADD x text; COMMIT; BEGIN`, "transaction transaction"},
		{"with a comment after the first line", nil, "-- no transaction\n-- Who is how old.\n" + ageIndex, ""},
	},
	"settings": {
		{"a timeout", nil, `SET lock_timeout = 0; ALTER TABLE people ADD x text`, "settings"},
		{"none", nil, `ALTER TABLE people ADD x text`, ""},
	},
	"opaque": {
		{"DO", nil, `DO $$ BEGIN ALTER TABLE people ADD x text; END $$`, "opaque"},
		{"a function", nil, `SELECT setval('x', 1)`, "opaque"},
		{"the statements themselves", nil, `ALTER TABLE people ADD x text`, ""},
	},
	"unknown": {
		{"a publication", nil, `CREATE PUBLICATION p FOR TABLE people`, "unknown"},
		{"a part of ALTER TABLE", nil, `ALTER TABLE people INHERIT groups`, "unknown"},
		{"a child", nil, `CREATE TABLE mine () INHERITS (people)`, "unknown"},
		{"a comment", nil, `COMMENT ON TABLE people IS 'who comes'`, ""},
	},
	"unsafe": {
		{"a reason", nil, "-- The oldest first.\n-- unsafe: groups has at most 20 rows\nCREATE INDEX i ON groups (title)", ""},
		{"a reason after the statement", nil, "CREATE INDEX i ON groups (title); -- unsafe: groups has at most 20 rows\n", ""},
		{"no reason", nil, "-- unsafe:\nCREATE INDEX i ON groups (title)", "index unsafe"},
		{"a statement that needs none", nil, "-- unsafe: as safe as can be\nALTER TABLE groups ADD x text", "unsafe"},
		{"of another statement", nil, "-- unsafe: few rows\nCREATE INDEX i ON groups (title);\nCREATE INDEX j ON groups (title)", "index"},
		{"a line after a statement belongs to it", nil,
			"CREATE INDEX i ON groups (title); -- unsafe: few rows\nCREATE INDEX j ON groups (title)", "index"},
		{"its lock still counts", nil, "-- unsafe: few rows\nCREATE INDEX i ON groups (title);\nALTER TABLE people ADD x text", "locks"},
		{"in a string", nil, "CREATE INDEX i ON groups ((title || '-- unsafe: few rows'))", "index"},
	},
	"syntax": {
		{"not SQL", nil, `ALTER TABEL people`, "syntax"},
		{"nothing", nil, `-- The rows stay.`, ""},
	},
}

var (
	notValid    = []string{`ALTER TABLE people ADD CONSTRAINT c CHECK (note IS NOT NULL) NOT VALID`}
	validated   = slices.Concat(notValid, []string{`ALTER TABLE people VALIDATE CONSTRAINT c`})
	uniqueIndex = []string{"-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS people_note_uidx ON people (note)"}
	withoutKey  = []string{`ALTER TABLE people DROP CONSTRAINT people_pkey`}
	later       = []string{`ALTER TABLE groups ADD x text`, `ALTER TABLE groups ADD y text`}
)

var code = []migrationcheck.CodeText{
	{File: "people.go", Line: 7, Text: `SELECT id, age FROM people`}, {File: "groups.go", Line: 8, Text: `UPDATE groups SET title = $1`},
}

// files are the example's migrations.
func (e example) files() fstest.MapFS {
	files := fstest.MapFS{"000001_first.up.sql": {Data: []byte(first)}}
	for i, sql := range append(slices.Clone(e.earlier), e.sql) {
		files[fmt.Sprintf("%06d_next.up.sql", i+2)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return files
}

func (e example) version() int { return len(e.earlier) + 2 }

func TestRules(t *testing.T) {
	t.Parallel()
	for _, rule := range migrationcheck.Rules {
		if len(examples[rule]) == 0 {
			t.Errorf("the rule %s has no example", rule)
		}
	}
	for rule, list := range examples {
		refused, accepted := 0, 0
		for _, e := range list {
			t.Run(rule+"/"+e.name, func(t *testing.T) { checkExample(t, e) })
			if strings.Contains(e.want, rule) {
				refused++
			} else if e.want == "" {
				accepted++
			}
		}
		if refused == 0 || accepted == 0 {
			t.Errorf("the rule %s has %d refused and %d accepted examples, want some of each", rule, refused, accepted)
		}
	}
}

func checkExample(t *testing.T, e example) {
	findings := check(t, migrationcheck.Schema{Name: "test", Files: e.files(), From: e.version(), Code: code})
	var got []string
	for _, f := range findings {
		got = append(got, f.Rule)
		if want := fmt.Sprintf("test/%06d_next.up.sql", e.version()); f.File != want || f.Line < 1 || f.Says == "" || f.Instead == "" {
			t.Errorf("a finding is %+v, want one in %s, with a line, what is wrong and what to do", f, want)
		}
	}
	slices.Sort(got)
	if strings.Join(got, " ") != e.want {
		t.Errorf("%s\nis refused by %v, want %q: %v", e.sql, got, e.want, findings)
	}
}

func check(t *testing.T, s migrationcheck.Schema) []migrationcheck.Finding {
	t.Helper()
	findings, err := migrationcheck.Check(s)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// A down migration runs after its up migration, and may remove what that has created.
func TestDowns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, up, down, want string }{
		{"drops the column", `ALTER TABLE people ADD x text`, `ALTER TABLE people DROP COLUMN x`, ""},
		{"drops the tables", `CREATE TABLE mine (id text); CREATE TABLE yours (id text)`, `DROP TABLE yours; DROP TABLE mine`, ""},
		{"nothing to do", `ALTER TYPE color ADD VALUE 'blue'`, `-- The value stays.`, ""},
		{"drops the index", "-- no transaction\n" + ageIndex,
			"-- no transaction\nDROP INDEX CONCURRENTLY IF EXISTS i", ""},
		{"drops the index without CONCURRENTLY", "-- no transaction\n" + ageIndex, `DROP INDEX i`, "index"},
		{"restores NOT NULL", `ALTER TABLE people ALTER name DROP NOT NULL`, `ALTER TABLE people ALTER name SET NOT NULL`, "not-null"},
		{"restores the shorter type", `ALTER TABLE people ALTER nick TYPE text`, `ALTER TABLE people ALTER nick TYPE varchar(20)`, "rewrite"},
		{"two tables", `ALTER TABLE people ADD x text`,
			`ALTER TABLE people DROP COLUMN x; ALTER TABLE groups ALTER title SET DEFAULT ''`, "locks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{
				"000001_first.up.sql": {Data: []byte(first)},
				"000002_next.up.sql":  {Data: []byte(c.up)}, "000002_next.down.sql": {Data: []byte(c.down)},
				"000003_last.up.sql": {Data: []byte(`ALTER TABLE groups ADD z text`)},
			}
			var got []string
			for _, f := range check(t, migrationcheck.Schema{Name: "test", Files: files, From: 2}) {
				if f.File != "test/000002_next.down.sql" {
					t.Errorf("finding %v, want findings only in the down migration", f)
				}
				got = append(got, f.Rule)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("the down migration is refused by %v, want %q", got, c.want)
			}
		})
	}
}

func TestFindingsNameTheStatementsLine(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"000001_first.up.sql": {Data: []byte(first)},
		"000002_next.up.sql": {Data: []byte("-- Naïve people; and more.\n\nALTER TABLE people ADD x text;\n" +
			"/* A /* nested */ comment;\n*/\nALTER TABLE people\n\tRENAME COLUMN note TO remark;\n\nDROP TABLE\n\tgroups")},
	}
	var got []string
	for _, f := range check(t, migrationcheck.Schema{Name: "test", Files: files, From: 2}) {
		got = append(got, fmt.Sprintf("%s:%d %s", f.File, f.Line, f.Rule))
	}
	want := []string{"test/000002_next.up.sql:6 rename", "test/000002_next.up.sql:9 remove", "test/000002_next.up.sql:9 locks"}
	if !slices.Equal(got, want) {
		t.Errorf("the findings are\n%v, want\n%v", got, want)
	}
}

// Migrations from before the rules are read, but not refused.
func TestRulesApplyFromAVersionOn(t *testing.T) {
	t.Parallel()
	e := example{earlier: []string{`ALTER TABLE people RENAME COLUMN note TO remark`}, sql: `ALTER TABLE people RENAME COLUMN remark TO note`}
	for from, want := range map[int]int{1: 2, 2: 2, 3: 1, 4: 0} {
		if got := check(t, migrationcheck.Schema{Name: "test", Files: e.files(), From: from}); len(got) != want {
			t.Errorf("from version %d on, %d are refused, want %d: %v", from, len(got), want, got)
		}
	}
}

func TestFilesThatNothingRuns(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"2_next.up.sql", "000002_next.sql", "000002-next.up.sql", "notes.txt"} {
		files := fstest.MapFS{name: {Data: []byte(`SELECT 1`)}}
		got := check(t, migrationcheck.Schema{Name: "test", Files: files})
		if len(got) != 1 || got[0].Rule != "syntax" || got[0].File != "test/"+name {
			t.Errorf("%s: %v, want the file refused", name, got)
		}
	}
}
