package catalog_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/catalog"
	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// schema has an object of each kind.
const schema = `
	CREATE TYPE mood AS ENUM ('glad', 'sad');
	CREATE DOMAIN phone AS text NOT NULL CONSTRAINT phone_check CHECK (VALUE ~ '^\+');
	CREATE TYPE address AS (street text, city text);
	CREATE TYPE span AS RANGE (subtype = date);
	CREATE TABLE branches (
		id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
		name varchar(200) NOT NULL UNIQUE,
		opened date DEFAULT now(),
		lower_name text GENERATED ALWAYS AS (lower(name)) STORED
	);
	CREATE TABLE members (
		id serial PRIMARY KEY, branch_id bigint REFERENCES branches (id), mood mood, phone phone, address address,
		note text COLLATE "C", CONSTRAINT members_note_check CHECK (note <> '')
	);
	CREATE INDEX members_note_idx ON members (note);
	CREATE SEQUENCE tickets CACHE 10;
	CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
	CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	CREATE VIEW glad AS SELECT id, note FROM members WHERE mood = 'glad';
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM members;
	CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE FUNCTION add(a integer, b integer DEFAULT 1) RETURNS integer LANGUAGE sql IMMUTABLE RETURN a + b;
	CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM members';
	CREATE AGGREGATE total (integer) (sfunc = int4pl, stype = integer);
	CREATE TRIGGER touch BEFORE UPDATE ON members FOR EACH ROW EXECUTE FUNCTION touch();
	CREATE RULE keep AS ON DELETE TO branches DO INSTEAD NOTHING;
	ALTER TABLE members ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON members FOR SELECT USING (id > 0);
	CREATE ROLE reporter_$; CREATE ROLE writer_$;
	GRANT SELECT ON members TO reporter_$;
	CREATE SCHEMA reports;
	CREATE TABLE reports.monthly (month date);
	COMMENT ON TABLE members IS 'who comes'`

// drift is a change of the schema, and how it is described.
type drift struct {
	change string
	want   []string
}

// drifts of newer versions of PostgreSQL, by version.
var newer = map[int][]drift{
	17: {{`GRANT MAINTAIN ON members TO writer_$`, []string{"members: MAINTAIN granted to writer_$"}}},
	18: {
		{`ALTER TABLE members ADD CONSTRAINT noted NOT NULL note NOT VALID`, []string{"members.note: NOT NULL is not validated"}},
		{`ALTER TABLE branches RENAME CONSTRAINT branches_name_not_null TO named`, nil},
		{`ALTER TABLE members ADD loud text GENERATED ALWAYS AS (upper(note)) VIRTUAL`, []string{"members.loud: column not in the schema"}},
		{`ALTER TABLE members ALTER CONSTRAINT members_branch_id_fkey NOT ENFORCED`, []string{
			"members.members_branch_id_fkey: constraint is not validated"}},
	},
}

var drifts = []drift{
	{`COMMENT ON TABLE members IS 'others'`, nil},
	{`SELECT nextval('tickets')`, nil},
	{`ALTER TABLE reports.monthly ADD a text; ALTER TABLE reports.monthly DROP month, ADD month date, DROP a`, nil},
	{`CREATE STATISTICS s ON at, what FROM events; ANALYZE members`, nil},

	{`ALTER TABLE branches ADD planted date`, []string{"branches.planted: column not in the schema"}},
	{`ALTER TABLE members DROP address`, []string{"members.address: column missing"}},
	{`ALTER TABLE branches ALTER opened TYPE timestamptz`, []string{"branches.opened: type timestamp with time zone, want date"}},
	{`DROP VIEW glad; ALTER TABLE members ALTER note TYPE text COLLATE "default"`, []string{
		"glad: view missing", `members.note: type text, want text COLLATE "C"`}},
	{`ALTER TABLE branches ALTER opened DROP DEFAULT`, []string{"branches.opened: default none, want now()"}},
	{`ALTER TABLE members ALTER note SET DEFAULT 'x'`, []string{"members.note: default 'x'::text, want none"}},
	{`ALTER TABLE branches ALTER name DROP NOT NULL`, []string{"branches.name: NULL is allowed"}},
	{`ALTER TABLE members ALTER note SET NOT NULL`, []string{"members.note: NULL is not allowed"}},
	{`ALTER TABLE branches ALTER id DROP IDENTITY`, []string{
		"branches.id: default none, want generated always as identity", "branches_id_seq: sequence missing"}},
	{`ALTER TABLE branches ALTER lower_name DROP EXPRESSION`, []string{
		"branches.lower_name: default none, want generated always as lower((name)::text) stored"}},

	{`CREATE TABLE guests (id serial PRIMARY KEY, name text UNIQUE)`, []string{"guests: table not in the schema"}},
	{`DROP TABLE members CASCADE`, []string{"counted: materialized view missing", "glad: view missing", "members: table missing"}},
	{`ALTER TABLE reports.monthly SET UNLOGGED`, []string{"reports.monthly: table is unlogged"}},
	{`ALTER TABLE reports.monthly SET (fillfactor = 50)`, []string{"reports.monthly: options fillfactor=50, want none"}},
	{`ALTER TABLE reports.monthly REPLICA IDENTITY FULL`, []string{"reports.monthly: replica identity full, want none"}},
	{`ALTER TABLE reports.monthly ENABLE ROW LEVEL SECURITY`, []string{"reports.monthly: row security is on"}},
	{`ALTER TABLE members DISABLE ROW LEVEL SECURITY`, []string{"members: row security is off"}},
	{`ALTER TABLE members FORCE ROW LEVEL SECURITY`, []string{"members: row security binds the owner too"}},
	{`ALTER TABLE events DETACH PARTITION events_2026`, []string{
		"events_2026: parent none, want public.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"}},

	{`ALTER TABLE members DROP CONSTRAINT members_note_check`, []string{"members.members_note_check: constraint missing"}},
	{`ALTER TABLE members ADD CONSTRAINT long CHECK (length(note) < 9)`, []string{"members.long: constraint not in the schema"}},
	{`ALTER TABLE members DROP CONSTRAINT members_note_check, ADD CONSTRAINT members_note_check CHECK (note <> '') NOT VALID`, []string{
		"members.members_note_check: constraint is not validated"}},
	{`ALTER TABLE members DROP CONSTRAINT members_branch_id_fkey,
		ADD CONSTRAINT members_branch_id_fkey FOREIGN KEY (branch_id) REFERENCES branches (id) ON DELETE CASCADE`, []string{
		"members.members_branch_id_fkey: definition FOREIGN KEY (branch_id) REFERENCES public.branches(id) ON DELETE CASCADE, " +
			"want FOREIGN KEY (branch_id) REFERENCES public.branches(id)"}},
	{`ALTER TABLE branches DISABLE TRIGGER ALL`, []string{"members.members_branch_id_fkey: constraint has triggers that are disabled"}},
	{`ALTER TABLE branches DROP CONSTRAINT branches_name_key`, []string{"branches.branches_name_key: constraint missing"}},

	{`DROP INDEX members_note_idx`, []string{"members_note_idx: index missing"}},
	{`CREATE INDEX members_mood_idx ON members (mood)`, []string{"members_mood_idx: index not in the schema"}},
	{`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'members_note_idx'::regclass`, []string{"members_note_idx: index is invalid"}},
	{`DROP INDEX members_note_idx; CREATE UNIQUE INDEX members_note_idx ON members (note)`, []string{
		"members_note_idx: definition CREATE UNIQUE INDEX members_note_idx ON public.members USING btree (note), " +
			"want CREATE INDEX members_note_idx ON public.members USING btree (note)"}},
	{`ALTER INDEX branches_name_key SET (fillfactor = 50)`, []string{"branches_name_key: options fillfactor=50, want none"}},

	{`ALTER SEQUENCE tickets CACHE 1 CYCLE`, []string{
		"tickets: definition bigint from 1 to 9223372036854775807, start 1, increment 1, cache 1, cycle, " +
			"want bigint from 1 to 9223372036854775807, start 1, increment 1, cache 10"}},
	{`ALTER SEQUENCE members_id_seq OWNED BY NONE`, []string{"members_id_seq: column none, want members.id"}},

	{`CREATE OR REPLACE VIEW glad AS SELECT id, note FROM members WHERE mood = 'sad'`, []string{"glad: query not the schema's"}},
	{`CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`, []string{
		"touch(): body not the schema's"}},
	{`CREATE OR REPLACE FUNCTION add(a integer, b integer DEFAULT 2) RETURNS integer
		LANGUAGE sql VOLATILE SECURITY DEFINER RETURN a - b`, []string{
		"add(a integer, b integer): arguments a integer, b integer DEFAULT 2, want a integer, b integer DEFAULT 1",
		"add(a integer, b integer): body not the schema's",
		"add(a integer, b integer): options sql, volatile, security definer, want sql, immutable"}},
	{`DROP PROCEDURE tidy`, []string{"tidy(): procedure missing"}},
	{`DROP AGGREGATE total (integer)`, []string{"total(integer): aggregate missing"}},
	{`ALTER TABLE members DISABLE TRIGGER touch`, []string{"members.touch: trigger is disabled"}},
	{`DROP TRIGGER touch ON members`, []string{"members.touch: trigger missing"}},
	{`DROP RULE keep ON branches`, []string{"branches.keep: rule missing"}},
	{`DROP POLICY own ON members`, []string{"members.own: policy missing"}},
	{`ALTER POLICY own ON members USING (true)`, []string{
		"members.own: definition permissive for SELECT to PUBLIC using true, want permissive for SELECT to PUBLIC using (id > 0)"}},

	{`ALTER TYPE mood ADD VALUE 'calm' BEFORE 'sad'`, []string{"mood: values 'glad', 'calm', 'sad', want 'glad', 'sad'"}},
	{`ALTER DOMAIN phone DROP NOT NULL`, []string{"phone: NULL is allowed"}},
	{`ALTER DOMAIN phone DROP CONSTRAINT phone_check`, []string{"phone.phone_check: constraint missing"}},
	{`ALTER DOMAIN phone SET DEFAULT '+1'`, []string{"phone: default '+1'::text, want none"}},
	{`ALTER TYPE address ADD ATTRIBUTE zip text`, []string{"address.zip: column not in the schema"}},
	{`DROP TYPE span`, []string{"span: type missing"}},
	{`CREATE TYPE colour AS ENUM ('red')`, []string{"colour: type not in the schema"}},

	{`ALTER TABLE members OWNER TO writer_$`, []string{
		"members: owner writer_$, want postgres", "members_id_seq: owner writer_$, want postgres"}},
	{`ALTER FUNCTION touch() OWNER TO writer_$`, []string{"touch(): owner writer_$, want postgres"}},
	{`GRANT INSERT, UPDATE ON members TO writer_$`, []string{"members: INSERT, UPDATE granted to writer_$"}},
	{`GRANT ALL ON members TO writer_$`, []string{
		"members: DELETE, INSERT, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE granted to writer_$"}},
	{`GRANT SELECT ON members TO reporter_$ WITH GRANT OPTION`, []string{"members: SELECT WITH GRANT OPTION granted to reporter_$"}},
	{`REVOKE SELECT ON members FROM reporter_$`, []string{"members: SELECT not granted to reporter_$"}},
	{`REVOKE INSERT ON members FROM postgres`, []string{"members: INSERT not granted to the owner"}},
	{`GRANT UPDATE (note) ON members TO writer_$`, []string{"members.note: UPDATE granted to writer_$"}},
	{`GRANT USAGE ON SEQUENCE tickets TO PUBLIC`, []string{"tickets: USAGE granted to PUBLIC"}},
	{`REVOKE EXECUTE ON FUNCTION add FROM PUBLIC`, []string{"add(a integer, b integer): EXECUTE not granted to PUBLIC"}},
	{`GRANT CREATE ON SCHEMA public TO PUBLIC`, []string{"schema public: CREATE granted to PUBLIC"}},
	{`ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`, []string{"default privileges of postgres on tables: not in the schema"}},

	{`ALTER DATABASE $ OWNER TO writer_$`, []string{"database: owner writer_$, want postgres"}},
	{`GRANT CONNECT ON DATABASE $ TO writer_$`, []string{"database: CONNECT granted to writer_$"}},
	{`ALTER DATABASE $ CONNECTION LIMIT 7`, []string{"database: connection limit 7, want -1"}},
	{`ALTER DATABASE $ SET work_mem = '1MB'; ALTER ROLE writer_$ IN DATABASE $ SET search_path = a, b`, []string{
		"setting search_path of writer_$: not in the schema", "setting work_mem: not in the schema"}},

	{`CREATE SCHEMA extra; CREATE TABLE extra.a (b text)`, []string{"schema extra: not in the schema", "extra.a: table not in the schema"}},
	{`DROP SCHEMA reports CASCADE`, []string{"schema reports: missing", "reports.monthly: table missing"}},
	{`DROP EXTENSION plpgsql CASCADE`, []string{"extension plpgsql: missing", "touch(): function missing", "members.touch: trigger missing"}},
}

// Each change is made in a transaction, and rolled back.
func TestEachDifferenceIsDescribed(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	name := conn.Config().Database
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "$", name)); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`BEGIN; SET search_path = public`) // roles belong to the whole server
	exec(schema)
	exec(`SET search_path = pg_catalog`)
	want := read(t, conn, "")
	all := slices.Clone(drifts)
	for since, more := range newer {
		if major(t, conn) >= since {
			all = append(all, more...)
		}
	}
	for _, d := range all {
		exec(`SAVEPOINT before; SET search_path = public`)
		exec(d.change)
		exec(`SET search_path = pg_catalog`)
		got := read(t, conn, want.Fingerprint)
		exec(`ROLLBACK TO before`)
		var words []string
		for _, difference := range catalog.Compare(want, got) {
			words = append(words, strings.ReplaceAll(difference.String(), name, "$"))
		}
		slices.Sort(words)
		slices.Sort(d.want)
		if !slices.Equal(words, d.want) {
			t.Errorf("%s\nis described as\n  %s\nwant\n  %s", d.change, strings.Join(words, "\n  "), strings.Join(d.want, "\n  "))
		}
	}
	if again := read(t, conn, want.Fingerprint); again.Fingerprint != want.Fingerprint || len(again.Facts) != 0 {
		t.Errorf("without a change: %d facts were sent under %s, want none under %s", len(again.Facts), again.Fingerprint, want.Fingerprint)
	}
}

// connect opens a session in an empty database, with the settings that Read needs.
func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(testenv.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(config.RuntimeParams, catalog.Settings)
	return testenv.ConnectWith(t, config)
}

func read(t *testing.T, conn *pgx.Conn, known string) catalog.Catalog {
	t.Helper()
	c, err := catalog.Read(t.Context(), conn, known)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func major(t *testing.T, conn *pgx.Conn) (version int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int / 10000`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}
