package ledger_test

import (
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/internal/registry"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// testLedger is the ledger of a registry of the test's own.
type testLedger struct {
	*ledger.Ledger
	t  *testing.T
	db *pgxpool.Pool
}

func open(t *testing.T) *testLedger {
	t.Helper()
	url := testenv.NewDatabase(t)
	if err := registry.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(t.Context(), url, testenv.Keys(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &testLedger{ledger.New(reg.Pool()), t, db}
}

func (l *testLedger) exec(sql string, args ...any) {
	l.t.Helper()
	if _, err := l.db.Exec(l.t.Context(), sql, args...); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
}

// church enters a church that got its version some hours ago, and returns its id.
func (l *testLedger) church(version, hoursAgo int) (id string) {
	l.t.Helper()
	id = ids.New()
	l.exec(`INSERT INTO churches (id, name, email, email_hash, subscription_status, signup_id) VALUES ($1, 'x', 'x', $1, 'trial', $1)`, id)
	l.exec(`INSERT INTO tenants (id, church_id, name, email, database_url, database_host, database_port, database_name,
			subscription_status, subscription_plan, status, schema_version, schema_changed_at, signup_id)
		VALUES ($1, $1, 'x', 'x', 'x', 'db', 5432, $1, 'trial', 'starter', 'active', $2, now() - make_interval(hours => $3), $1)`,
		id, version, hoursAgo)
	return id
}

// run enters a run to version 2 that began some hours ago, with its churches' states.
func (l *testLedger) run(state fleet.State, hoursAgo int, churches map[string]string) {
	l.t.Helper()
	id := ids.New()
	l.exec(`INSERT INTO fleet_runs (id, server, version, stage, state, created_at)
		VALUES ($1, 'db:5432', 2, 'waves', $2, now() - make_interval(hours => $3))`, id, state, hoursAgo)
	for church, state := range churches {
		l.exec(`INSERT INTO fleet_changes (run_id, tenant_id, from_version, to_version, wave, position, state) VALUES ($1, $2, 1, 2, 3, 0, $3)`,
			id, church, state)
	}
}

func (l *testLedger) want(when string, newest int, known time.Time, want fleet.Standing) {
	l.t.Helper()
	got, err := l.Standing(l.t.Context(), newest, known)
	if err != nil {
		l.t.Fatal(err)
	}
	if !maps.Equal(got.Churches, want.Churches) || got.Behind.Round(time.Hour) != want.Behind || got.Failed != want.Failed {
		l.t.Errorf("%s, the fleet stands at %+v, want %+v", when, got, want)
	}
	for _, state := range fleet.Active {
		if got.Runs[state] != want.Runs[state] {
			l.t.Errorf("%s, %d runs are %s, want %d", when, got.Runs[state], state, want.Runs[state])
		}
	}
	behind, err := l.Behind(l.t.Context(), newest)
	if err != nil || behind != (want.Behind > 0) {
		l.t.Errorf("%s, a church is behind: %t (%v), want %t", when, behind, err, want.Behind > 0)
	}
}

// A church is behind since it could have been brought forward, and not since it got its version.
func TestStanding(t *testing.T) {
	t.Parallel()
	l := open(t)
	started := time.Now().Add(-time.Hour)
	l.want("without churches", 2, started, fleet.Standing{Churches: map[int]int{}})
	first, second := l.church(1, 100), l.church(1, 50)
	l.exec(`UPDATE tenants SET status = 'deleted' WHERE id = $1`, l.church(1, 100))
	l.want("as the last release sees it", 1, started, fleet.Standing{Churches: map[int]int{1: 2}})
	l.want("an hour after the release", 2, started, fleet.Standing{Churches: map[int]int{1: 2}, Behind: time.Hour})
	l.church(2, 3)
	l.want("after the first signup on it", 2, started, fleet.Standing{Churches: map[int]int{1: 2, 2: 1}, Behind: 3 * time.Hour})

	l.run(fleet.Completed, 5, map[string]string{first: "failed", second: "changed"})
	l.exec(`UPDATE tenants SET schema_version = 2, schema_changed_at = now() WHERE id = $1`, second)
	l.want("after a run", 2, started, fleet.Standing{Churches: map[int]int{1: 1, 2: 2}, Behind: 5 * time.Hour, Failed: 1})
	l.run(fleet.Halted, 2, map[string]string{first: "waiting"})
	l.want("when the next run is halted", 2, started,
		fleet.Standing{Churches: map[int]int{1: 1, 2: 2}, Behind: 5 * time.Hour, Runs: map[fleet.State]int{fleet.Halted: 1}})
	l.exec(`UPDATE fleet_runs SET state = 'completed'`)
	l.exec(`UPDATE fleet_changes SET state = 'changed'`)
	l.exec(`UPDATE tenants SET schema_version = 2, schema_changed_at = now()`)
	l.want("when all have it", 2, started, fleet.Standing{Churches: map[int]int{2: 3}})
	l.exec(`UPDATE tenants SET schema_version = 1, schema_changed_at = now() - interval '1 hour' WHERE id = $1`, first)
	l.want("an hour after an undo", 2, started, fleet.Standing{Churches: map[int]int{1: 1, 2: 2}, Behind: time.Hour})
}
