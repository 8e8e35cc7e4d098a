package tenantserver_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
)

// inDatabase runs statements in d's database: as the superuser, or as d's own role.
func (h *host) inDatabase(d tenantserver.Database, asOwner bool, statements string) {
	h.t.Helper()
	config := h.admin.Config().Copy()
	config.Database = d.Name()
	if asOwner {
		config.RuntimeParams["role"] = d.Name()
	}
	conn, err := pgx.ConnectConfig(h.t.Context(), config)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec(h.t, conn, statements)
}

func (h *host) wantDrift(c *tenantserver.Comparer, d tenantserver.Database, want ...string) bool {
	h.t.Helper()
	differences, err := c.Compare(h.t.Context(), d.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for _, d := range differences {
		got = append(got, d.String())
	}
	same := slices.Equal(got, want)
	if !same {
		h.t.Errorf("the drift is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	return same
}

// drifts are changes of a church's database, and how they are described. In them, $ is its name.
var drifts = []struct {
	change string
	want   []string
}{
	{`COMMENT ON TABLE branches IS 'where we meet'`, nil},
	{`ALTER TABLE branches DROP address; ALTER TABLE branches ADD address text; INSERT INTO branches VALUES ('1', 'North')`, nil},

	{`ALTER TABLE branches ADD planted date`, []string{"branches.planted: column not in the schema"}},
	{`ALTER TABLE branches DROP phone`, []string{"branches.phone: column missing"}},
	{`ALTER TABLE branches ALTER name TYPE varchar(200)`, []string{"branches.name: type character varying(200), want text"}},
	{`ALTER TABLE branches ALTER is_active DROP DEFAULT`, []string{"branches.is_active: default none, want true"}},
	{`ALTER TABLE branches ALTER name DROP NOT NULL`, []string{"branches.name: NULL is allowed"}},
	{`DROP TABLE onboarding_progress`, []string{"onboarding_progress: table missing"}},
	{`CREATE TABLE notes (id serial PRIMARY KEY, body text)`, []string{"notes: table not in the schema"}},
	{`DROP TABLE narthex_migrations.versions`, []string{"narthex_migrations.versions: table missing"}},

	{`ALTER TABLE admins DROP CONSTRAINT admins_role_check`, []string{"admins.admins_role_check: constraint missing"}},
	{`ALTER TABLE admins ADD CONSTRAINT named CHECK (role <> '')`, []string{"admins.named: constraint not in the schema"}},
	{`ALTER TABLE admin_mfa DROP CONSTRAINT admin_mfa_admin_id_fkey,
		ADD FOREIGN KEY (admin_id) REFERENCES admins ON DELETE CASCADE NOT VALID`, []string{
		"admin_mfa.admin_mfa_admin_id_fkey: constraint is not validated"}},
	{`ALTER TABLE admin_mfa DISABLE TRIGGER ALL`, []string{
		"admin_mfa.admin_mfa_admin_id_fkey: constraint has triggers that are disabled"}},
	{`DROP INDEX members_email_hash_idx`, []string{"members_email_hash_idx: index missing"}},
	{`CREATE INDEX members_updated_at_idx ON members (updated_at)`, []string{"members_updated_at_idx: index not in the schema"}},
	{`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'members_email_hash_idx'::regclass`, []string{
		"members_email_hash_idx: index is invalid"}},

	{`CREATE SEQUENCE tickets`, []string{"tickets: sequence not in the schema"}},
	{`CREATE VIEW names AS SELECT name FROM branches`, []string{"names: view not in the schema"}},
	{`CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER touch BEFORE UPDATE ON branches FOR EACH ROW EXECUTE FUNCTION touch()`, []string{
		"branches.touch: trigger not in the schema", "touch(): function not in the schema"}},
	{`CREATE TYPE mood AS ENUM ('glad')`, []string{"mood: type not in the schema"}},
	{`CREATE DOMAIN phone AS text`, []string{"phone: type not in the schema"}},
	{`CREATE POLICY own ON members USING (true)`, []string{"members.own: policy not in the schema"}},
	{`ALTER TABLE members ENABLE ROW LEVEL SECURITY`, []string{"members: row security is on"}},

	{`ALTER TABLE members OWNER TO postgres`, []string{"members: owner postgres, want the church's role"}},
	{`ALTER SCHEMA narthex_migrations OWNER TO postgres`, []string{
		"schema narthex_migrations: owner postgres, want the church's role"}},
	{`GRANT SELECT ON members TO PUBLIC`, []string{"members: SELECT granted to PUBLIC"}},
	{`REVOKE DELETE ON members FROM $`, []string{"members: DELETE not granted to the owner"}},
	{`GRANT CONNECT ON DATABASE $ TO PUBLIC`, []string{"database: CONNECT granted to PUBLIC"}},
	{`ALTER DATABASE $ CONNECTION LIMIT 3`, []string{"database: connection limit 3, want 20"}},
	{`ALTER DATABASE $ SET search_path = nowhere`, []string{"setting search_path: not in the schema"}},
}

// TestDriftOfAChurch changes churches' databases, and compares them as Narthex's role, which is not a superuser.
func TestDriftOfAChurch(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.ensureTemplate()
	c := h.server.Comparer(t.Context())
	for _, drift := range drifts {
		d := h.make()
		h.inDatabase(d, false, strings.ReplaceAll(drift.change, "$", d.Name()))
		if !h.wantDrift(c, d, drift.want...) {
			t.Errorf("that is the drift after %s", drift.change)
		}
	}
}

// A new database has no drift, whether it was claimed, copied, migrated, or migrated a second time after an interruption.
func TestNewDatabasesHaveNoDrift(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	migrated := h.make()
	h.inDatabase(migrated, true, `UPDATE narthex_migrations.versions SET dirty = true`)
	if err := h.server.Migrate(t.Context(), migrated); err != nil {
		t.Fatal(err)
	}
	again := h.make()
	fromScratch := h.another().Comparer(t.Context()) // there is no template yet
	for _, d := range []tenantserver.Database{migrated, again} {
		h.wantDrift(fromScratch, d)
	}
	stock := h.stock(1)
	claimed, copied := h.claim(stock, tenantserver.FromStock), h.make()
	fromTemplate := h.another().Comparer(t.Context())
	for _, d := range []tenantserver.Database{migrated, again, claimed, copied} {
		h.wantDrift(fromTemplate, d)
	}
}

// A church that was migrated while it was in use has the same schema as a new church.
func TestAMigratedChurchHasNoDrift(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	c := u.next.Comparer(t.Context())
	u.wantDrift(c, u.d, "branches.planted: column missing", "seeds: table missing")
	if err := u.change(u.there, usualLimits); err != nil {
		t.Fatal(err)
	}
	u.wantDrift(c, u.d)
}

// A church's role may create functions that hide PostgreSQL's own, and settings that prefer them. Narthex's role, which has
// more rights, must run none of them.
func TestDriftRunsNoneOfTheChurchsCode(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.make()
	h.inDatabase(d, true, `
		CREATE FUNCTION alarm() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', session_user; END $$;
		CREATE FUNCTION concat_ws(text, text, text) RETURNS text LANGUAGE sql RETURN alarm();
		CREATE FUNCTION array_to_string(text[], text) RETURNS text LANGUAGE sql RETURN alarm();
		CREATE FUNCTION pg_get_userbyid(oid) RETURNS name LANGUAGE sql RETURN alarm()::name;
		CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql RETURN alarm() = '';
		CREATE OPERATOR = (leftarg = text, rightarg = text, function = same);
		DROP TABLE narthex_migrations.versions;
		CREATE VIEW narthex_migrations.versions AS SELECT 1 AS version, alarm() = '' AS dirty;
		ALTER DATABASE `+d.Name()+` SET search_path = public, pg_catalog`)
	h.wantDrift(h.server.Comparer(t.Context()), d,
		"alarm(): function not in the schema",
		"array_to_string(text[], text): function not in the schema",
		"concat_ws(text, text, text): function not in the schema",
		"narthex_migrations.versions: table missing",
		"narthex_migrations.versions: view not in the schema",
		"pg_get_userbyid(oid): function not in the schema",
		"same(text, text): function not in the schema",
		"setting search_path: not in the schema")
}

// A database that can't be compared is reported as such, not as drift.
func TestADatabaseThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.server.Comparer(t.Context())
	closed, locked, gone := h.make(), h.make(), newDatabase()
	exec(t, h.admin, `ALTER DATABASE `+closed.Name()+` OWNER TO postgres`)
	config := h.admin.Config().Copy()
	config.Database = locked.Name()
	holder := testenv.ConnectWith(t, config)
	exec(t, holder, `CREATE VIEW names AS SELECT name FROM branches; BEGIN; LOCK TABLE branches`)
	for d, want := range map[tenantserver.Database]string{closed: "42501", locked: "55P03", gone: "3D000"} {
		if _, err := c.Compare(t.Context(), d.Name()); sqlstate.Of(err) != want {
			t.Errorf("compare: %v, want SQLSTATE %s", err, want)
		}
	}
	exec(t, holder, `COMMIT`)
	h.wantDrift(c, locked, "names: view not in the schema")
}
