package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"narthex/internal/ids"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
)

// A trap goes off if its victim may create roles, and then creates one with the victim's rights. What it leaves in the
// sequence survives a rollback of the victim's transaction.
const trap = `
	CREATE SEQUENCE public.sprung;
	CREATE FUNCTION public.spring() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
			PERFORM pg_catalog.nextval('public.sprung');
			PERFORM pg_catalog.set_config('role', 'none', false);
			IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'sprung_ID') THEN
				CREATE ROLE sprung_ID;
			END IF;
		END IF;
		RETURN true;
	END $$;
	CREATE FUNCTION public.bite() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.spring(); RETURN NEW; END';
	CREATE TABLE public.bait (id int CHECK (public.spring()));
	INSERT INTO public.bait VALUES (1);`

// What a church's role can do in its own database so that the trap runs when Narthex works there.
var baits = map[string]string{
	"a view instead of the version table": `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS SELECT version, dirty FROM narthex_migrations.real WHERE public.spring()`,
	"a trigger on the version table": `
		CREATE TRIGGER bite BEFORE UPDATE ON narthex_migrations.versions FOR EACH ROW EXECUTE FUNCTION public.bite()`,
	"a function with a better fitting type": `
		CREATE FUNCTION public.shobj_description(oid, text) RETURNS text LANGUAGE sql
		AS 'SELECT pg_catalog.shobj_description($1, $2::name) WHERE public.spring()'`,
	"functions that the database's search_path finds first": `
		ALTER DATABASE DATABASE SET search_path = public, pg_catalog;
		CREATE FUNCTION public.pg_get_userbyid(oid) RETURNS name LANGUAGE sql
		AS 'SELECT pg_catalog.pg_get_userbyid($1) WHERE public.spring()';
		CREATE FUNCTION public.current_database() RETURNS name LANGUAGE sql
		AS 'SELECT pg_catalog.current_database() WHERE public.spring()'`,
	"a trigger on a table that a migration changes": `
		CREATE TRIGGER bite BEFORE INSERT ON branches FOR EACH ROW EXECUTE FUNCTION public.bite()`,
}

// A church's role owns its database, and may create anything there. Narthex does everything there with that role's rights,
// and not in a session that could return to its own.
func TestAChurchsCodeNeverRunsWithNarthexsRights(t *testing.T) {
	t.Parallel()
	for name, bait := range baits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpgrader(t)
			id := ids.New()
			t.Cleanup(func() { _, _ = u.admin.Exec(context.Background(), `DROP ROLE IF EXISTS sprung_`+id) })
			set := strings.NewReplacer("ID", id, " DATABASE DATABASE ", " DATABASE "+u.d.Name()+" ").Replace(trap + bait)
			u.asChurch(set)
			statements := tenantserver.Statements{SQL: map[string]string{"all": `SELECT * FROM bait`}, Lists: map[string][]any{"all": {}}}
			for _, act := range []struct {
				name string
				do   func(context.Context) error
			}{
				{"migrate", func(ctx context.Context) error { return u.server.Migrate(ctx, u.d) }},
				{"compare", func(ctx context.Context) error { _, err := u.server.Comparer(ctx).Compare(ctx, u.d.Name()); return err }},
				{"health", func(ctx context.Context) error { _, err := u.next.Health(ctx, u.d); return err }},
				{"probe", func(ctx context.Context) error { _, err := u.next.Probe(ctx, u.d, statements); return err }},
				{"rehearse", func(ctx context.Context) error { _, err := u.next.Rehearse(ctx, u.d, u.there, usualLimits); return err }},
				{"change", func(context.Context) error { return u.change(u.there, usualLimits) }},
				{"revert", func(ctx context.Context) error { return u.next.Revert(ctx, u.d) }},
			} {
				t.Logf("%s: %v", act.name, act.do(t.Context())) // some of the baits make it fail
				if sprung := u.sprung(id); sprung != "" {
					t.Errorf("%s ran the church's code with Narthex's rights: %s", act.name, sprung)
					u.reset(id)
				}
			}
		})
	}
}

// A church's role can have its own settings, but Narthex always reads text as UTF-8.
func TestAChurchCannotChooseTheEncoding(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	u.asChurch(`ALTER ROLE CURRENT_USER SET client_encoding = LATIN1; ALTER DATABASE ` + u.d.Name() + ` SET client_encoding = LATIN1`)
	conn, err := u.server.Connect(t.Context(), u.d)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if got := conn.PgConn().ParameterStatus("client_encoding"); got != "UTF8" {
		t.Errorf("a session in the church's database has the encoding %s, want UTF8", got)
	}
}

// What a church's role can do so that its database sends more than 16 MB.
var floods = map[string]string{
	"a view instead of the version table": `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS SELECT pg_catalog.repeat('9', 50000000) AS version, dirty FROM narthex_migrations.real`,
	"an error": `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE FUNCTION flood() RETURNS int LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION '%', pg_catalog.repeat('x', 50000000); END $$;
		CREATE VIEW narthex_migrations.versions AS SELECT public.flood() AS version, dirty FROM narthex_migrations.real`,
	"many rows": `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS
		SELECT version, dirty FROM narthex_migrations.real, pg_catalog.generate_series(1, 3000000)`,
	"many notices": `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE FUNCTION flood() RETURNS int LANGUAGE plpgsql AS $$
			BEGIN FOR i IN 1..50 LOOP RAISE WARNING '%', pg_catalog.repeat('x', 1000000); END LOOP; RETURN 1; END $$;
		CREATE VIEW narthex_migrations.versions AS SELECT public.flood() AS version, dirty FROM narthex_migrations.real`,
	"a default": `
		DO $$ BEGIN EXECUTE pg_catalog.format('ALTER TABLE branches ALTER name SET DEFAULT %L', pg_catalog.repeat('x', 17000000)); END $$`,
}

// A worker's memory is shared by all churches.
func TestAChurchCannotFillTheMemory(t *testing.T) {
	t.Parallel()
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpgrader(t)
			u.asChurch(flood)
			read := func() error { _, err := u.next.Version(t.Context(), u.d, u.there, u.permit); return err }
			if name == "a default" {
				read = func() error { _, err := u.next.Catalog(t.Context(), u.d.Name(), ""); return err }
			}
			if err := read(); sqlstate.Words(err) != sqlstate.ErrAnswerTooLarge.Error() {
				t.Errorf("the error is %.200q, want %q", fmt.Sprint(err), sqlstate.ErrAnswerTooLarge)
			}
		})
	}
}

// asChurch runs statements as the church, which has logged in with its own password.
func (u *upgrader) asChurch(statements string) {
	u.t.Helper()
	conn, err := u.server.Connect(u.t.Context(), u.d)
	if err != nil {
		u.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(u.t.Context(), statements).ReadAll(); err != nil {
		u.t.Fatalf("%s: %v", statements, err)
	}
}

// sprung describes what a trap has done, or returns "" if it didn't go off.
func (u *upgrader) sprung(id string) string {
	u.t.Helper()
	var role bool
	err := u.admin.QueryRow(u.t.Context(), `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, "sprung_"+id).Scan(&role)
	if err != nil {
		u.t.Fatal(err)
	}
	var times int64
	_ = u.conn.QueryRow(u.t.Context(), `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.sprung`).Scan(&times)
	if !role && times == 0 {
		return ""
	}
	return fmt.Sprintf("set off %d times, a role made: %t", times, role)
}

func (u *upgrader) reset(id string) {
	u.t.Helper()
	exec(u.t, u.admin, `DROP ROLE IF EXISTS sprung_`+id)
	_, _ = u.conn.Exec(u.t.Context(), `ALTER SEQUENCE public.sprung RESTART`)
}

// A church's code can lift the statement timeout and never return. That is no outage: the change ends with its own error.
func TestAChurchThatNeverAnswersHasTakenTooLong(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	u.asChurch(`
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS SELECT version, dirty FROM narthex_migrations.real
		WHERE CASE WHEN current_setting('statement_timeout') = '0' THEN pg_sleep(3600) IS NOT NULL
			ELSE set_config('statement_timeout', '0', false) IS NOT NULL END`)
	limits := tenantserver.Limits{Lock: time.Second, Statement: 200 * time.Millisecond}
	if err := u.change(u.there, limits); !errors.Is(err, tenantserver.ErrTooLong) {
		t.Errorf("the change ends with %v, want %v", err, tenantserver.ErrTooLong)
	}
}
