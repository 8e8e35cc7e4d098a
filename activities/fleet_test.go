package activities_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
)

// Two releases of a small tenant schema.
var (
	oldSchema = fstest.MapFS{
		"000001_first.up.sql":   {Data: []byte(`CREATE TABLE branches (id text)`)},
		"000001_first.down.sql": {Data: []byte(`DROP TABLE branches`)},
	}
	newSchema = fstest.MapFS{
		"000001_first.up.sql": oldSchema["000001_first.up.sql"], "000001_first.down.sql": oldSchema["000001_first.down.sql"],
		"000002_planted.up.sql":   {Data: []byte(`ALTER TABLE branches ADD COLUMN planted date`)},
		"000002_planted.down.sql": {Data: []byte("-- safe for data: it is a test\nALTER TABLE branches DROP COLUMN planted")},
	}
)

const churchPassword = "5ecret"

// testFleet has the churches of one server, and the activities of the next release.
type testFleet struct {
	*bundle
	old *tenantserver.Server // the same server, as the previous release has it
}

var briefLimits = fleet.Limits{Lock: 20 * time.Millisecond, Statement: 10 * time.Second, Patience: 100 * time.Millisecond}

func newTestFleet(t *testing.T, churches int) (f *testFleet, tenantIDs []string) {
	t.Helper()
	return newTestFleetOn(t, testenv.PostgresURL(t), churches)
}

func newTestFleetOn(t *testing.T, serverURL string, churches int) (f *testFleet, tenantIDs []string) {
	t.Helper()
	f = &testFleet{bundle: setupOn(t, serverURL)}
	f.old = f.serverOf(oldSchema)
	f.server = f.serverOf(newSchema)
	f.do.Server = f.server
	var group sync.WaitGroup
	ids := make([]string, churches)
	for i := range ids {
		group.Go(func() { ids[i] = f.church() })
	}
	group.Wait()
	return f, ids
}

func (f *testFleet) serverOf(files fstest.MapFS) *tenantserver.Server {
	f.t.Helper()
	server, err := tenantserver.Open(f.t.Context(), f.url, f.installation, files)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(server.Close)
	return server
}

// church opens a church with the previous release's schema.
func (f *testFleet) church() (tenantID string) {
	f.t.Helper()
	ctx := f.t.Context()
	d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: churchPassword}
	owner := registry.Owner{RunID: d.SignupID, TenantID: d.TenantID}
	email := d.TenantID + "@example.org"
	url, host, port, name := f.old.Location(d)
	_, err := f.old.Create(ctx, d, func(context.Context) error { return nil }, nil)
	for _, step := range []func() error{
		func() error { return f.old.Migrate(ctx, d) },
		func() error {
			church := registry.Church{Name: "Grace Chapel", Email: email, EmailHash: email, CreatedAt: time.Now()}
			return f.do.Registry.InsertChurch(ctx, owner, church)
		},
		func() error {
			return f.do.Registry.InsertTenant(ctx, owner, registry.NewTenant{
				Name: "Grace Chapel", Email: email, DatabaseURL: url, DatabaseHost: host, DatabasePort: port, DatabaseName: name,
				SchemaVersion: f.old.SchemaVersion(), CreatedAt: time.Now(),
			})
		},
		func() error { return f.do.Registry.ActivateTenant(ctx, owner, ids.New()) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		f.t.Error(err)
	}
	return d.TenantID
}

func (f *testFleet) open(in fleet.Input) (tally fleet.Tally) {
	f.t.Helper()
	value, err := f.env.ExecuteActivity(f.do.OpenFleetRun, in)
	if err == nil {
		err = value.Get(&tally)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return tally
}

func (f *testFleet) change(runID string) (result fleet.Result) {
	f.t.Helper()
	slice := fleet.Slice{RunID: runID, Server: f.server.Name(), Wave: fleet.LastWave, AtOnce: 4, Budget: 3, Limits: briefLimits}
	value, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice)
	if err == nil {
		err = value.Get(&result)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return result
}

func (f *testFleet) run() fleet.Input {
	return fleet.Input{RunID: ids.New(), Server: f.server.Name(), Version: f.server.SchemaVersion()}
}

func (f *testFleet) wantTally(got, want fleet.Tally) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("the tally is %+v, want %+v", got, want)
	}
}

// wantVersions checks the registry and each church's database.
func (f *testFleet) wantVersions(want map[string]int) {
	f.t.Helper()
	for id, version := range want {
		tenant, err := f.do.Registry.Tenant(f.t.Context(), id)
		if err != nil {
			f.t.Fatal(err)
		}
		conn, err := pgx.Connect(f.t.Context(), tenant.DatabaseURL)
		if err != nil {
			f.t.Fatal(err)
		}
		var there int
		err = conn.QueryRow(f.t.Context(), `SELECT version FROM narthex_migrations.versions WHERE NOT dirty`).Scan(&there)
		conn.Close(context.Background())
		if err != nil || tenant.SchemaVersion != version || there != version {
			f.t.Errorf("%s is at %d, in the registry at %d (%v), want %d", id, there, tenant.SchemaVersion, err, version)
		}
	}
}

func (f *testFleet) exec(tenantID, sql string) {
	f.t.Helper()
	conn := f.connect(tenantID)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(f.t.Context(), sql); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *testFleet) connect(tenantID string) *pgx.Conn {
	f.t.Helper()
	config := f.admin.Config().ConnConfig
	config.Database = ids.DatabaseName(tenantID)
	conn, err := pgx.ConnectConfig(f.t.Context(), config)
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

func all(tenantIDs []string, version int) map[string]int {
	versions := map[string]int{}
	for _, id := range tenantIDs {
		versions[id] = version
	}
	return versions
}

func TestAFleetIsChangedOnceAndUndone(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 12)
	run := f.run()
	f.wantTally(f.open(run), fleet.Tally{Waiting: 12})
	f.wantTally(f.open(run), fleet.Tally{Waiting: 12}) // again
	f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Changed: 12})
	f.wantVersions(all(churches, 2))

	late := f.church()
	if _, err := f.env.ExecuteActivity(f.do.ExtendFleetRun, run); err != nil {
		t.Fatal(err)
	}
	f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Changed: 13})

	f.end(run.RunID)
	newer := f.run()
	f.wantTally(f.open(newer), fleet.Tally{})
	f.end(newer.RunID)
	untouched := f.church()
	f.exec(untouched, `ALTER TABLE branches ADD COLUMN planted date; UPDATE narthex_migrations.versions SET version = 2`)
	undo := fleet.Input{RunID: ids.New(), Server: run.Server, Undoes: run.RunID}
	f.wantTally(f.open(undo), fleet.Tally{Waiting: 13})
	f.wantTally(f.change(undo.RunID).Tally, fleet.Tally{Changed: 13})
	f.wantVersions(all(append(churches, late), 1))
}

// A run whose workflow was terminated stays active in the ledger. It must not block the next run, nor may a late attempt to open
// it end that one.
func TestARunWithoutItsWorkflowBlocksNoOther(t *testing.T) {
	t.Parallel()
	f, _ := newTestFleet(t, 2)
	terminated, next := f.run(), f.run()
	if terminated.RunID > next.RunID { // made in the same millisecond
		terminated, next = next, terminated
	}
	f.open(terminated)
	f.wantTally(f.open(next), fleet.Tally{Waiting: 2})
	if _, err := f.env.ExecuteActivity(f.do.OpenFleetRun, terminated); err != nil {
		t.Errorf("a late attempt to open the older run: %v, want it to find its churches", err)
	}
	for _, want := range []struct {
		id    string
		state fleet.State
	}{{terminated.RunID, fleet.Cancelled}, {next.RunID, fleet.Running}} {
		if run, err := f.do.Ledger.Run(t.Context(), want.id); err != nil || run.State != want.state {
			t.Errorf("the run is %s (%v), want %s", run.State, err, want.state)
		}
	}
}

// end enters a run as completed.
func (f *testFleet) end(runID string) {
	f.t.Helper()
	err := f.do.Ledger.Enter(f.t.Context(), fleet.Progress{RunID: runID, Stage: fleet.Done, State: fleet.Completed})
	if err != nil {
		f.t.Fatal(err)
	}
}

// The canaries are the churches that were unused for the longest time, and the waves continue in that order.
func TestLeastUsedChurchesComeFirst(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 6)
	want := []string{churches[5], churches[2], churches[0], churches[4], churches[1], churches[3]}
	for i, id := range want[1:] { // nobody has used the first
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if _, err := f.registry.Exec(t.Context(), `UPDATE tenants SET last_accessed_at = $2 WHERE id = $1`, id, used); err != nil {
			t.Fatal(err)
		}
	}
	run := f.run()
	f.open(run)
	var got []string
	for wave := range fleet.LastWave + 1 {
		for {
			claimed, ok, err := f.do.Ledger.Claim(t.Context(), fleet.Slice{RunID: run.RunID, Wave: wave, Budget: 3})
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if got = append(got, claimed.TenantID); (wave == 0) != (len(got) <= fleet.DefaultCanaries) {
				t.Errorf("church %d in the queue is in wave %d, want the first %d as canaries", len(got), wave, fleet.DefaultCanaries)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the order is\n  %v, want\n  %v", got, want)
	}
}

// A failed church is reported with the reason, and the others are changed. A retry takes exactly the failed ones.
func TestAFailedChurchAffectsNoOther(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 6)
	broken, locked := churches[1], churches[4]
	f.exec(broken, `ALTER TABLE branches ADD COLUMN planted date`)
	conn := f.connect(locked)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `BEGIN; SELECT FROM branches`); err != nil {
		t.Fatal(err)
	}
	run := f.run()
	f.open(run)
	f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Changed: 4, Failed: 2})
	want := all(churches, 2)
	want[broken], want[locked] = 1, 1
	f.wantVersions(want)
	failures, err := f.do.Ledger.Failures(t.Context(), run.RunID, 10)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, failure := range failures {
		states[failure.TenantID] = failure.SQLState
		t.Log(failure.Error)
	}
	if fmt.Sprint(states) != fmt.Sprint(map[string]string{broken: "42701", locked: "55P03"}) {
		t.Errorf("the failures are %v, want %s to fail with 42701 and %s with 55P03", states, broken, locked)
	}

	if _, err := conn.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	f.end(run.RunID)
	retry := f.run()
	retry.Retries = run.RunID
	f.wantTally(f.open(retry), fleet.Tally{Waiting: 2})
	f.wantTally(f.change(retry.RunID).Tally, fleet.Tally{Changed: 1, Failed: 1})
}

// Once too many have failed, or the run isn't running, no church is claimed.
func TestAStoppedRunClaimsNoChurch(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 8)
	for _, id := range churches {
		f.exec(id, `ALTER TABLE branches ADD COLUMN planted date`)
	}
	run := f.run()
	f.open(run)
	for _, state := range []fleet.State{fleet.Paused, fleet.Halted, fleet.Cancelled} {
		if err := f.do.Ledger.Enter(t.Context(), fleet.Progress{RunID: run.RunID, Stage: fleet.Waves, State: state}); err != nil {
			t.Fatal(err)
		}
		f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Waiting: 8})
	}
	if err := f.do.Ledger.Enter(t.Context(), fleet.Progress{RunID: run.RunID, Stage: fleet.Waves, State: fleet.Running}); err != nil {
		t.Fatal(err)
	}
	tally := f.change(run.RunID).Tally
	if tally.Failed < 3 || tally.Failed > 3+3 { // some were being changed when the third failed
		t.Errorf("%d churches failed, want the run to stop after 3", tally.Failed)
	}
}

// A church that was removed has not failed. One that was being changed when the attempt was killed is changed by the next
// attempt.
func TestWhatAnInterruptedAttemptLeft(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 3)
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Wave: fleet.LastWave, Budget: 3}
	if _, ok, err := f.do.Ledger.Claim(t.Context(), slice); err != nil || !ok {
		t.Fatalf("nothing is claimed (%v)", err)
	}
	f.remove(churches[2])
	f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Changed: 2, Gone: 1})
	f.wantVersions(all(churches[:2], 2))
}

func (f *testFleet) remove(tenantID string) {
	f.t.Helper()
	ctx := f.t.Context()
	for _, statement := range []string{`DELETE FROM tenants WHERE id = $1`, `DELETE FROM churches WHERE id = $1`} {
		if _, err := f.registry.Exec(ctx, statement, tenantID); err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestARunOfAnotherReleaseIsRefused(t *testing.T) {
	t.Parallel()
	f, _ := newTestFleet(t, 1)
	run := f.run()
	run.Version++
	if _, err := f.env.ExecuteActivity(f.do.OpenFleetRun, run); err == nil {
		t.Error("a run to a version that this release doesn't have was opened, want it refused")
	}
}

// An attempt to open a run that comes only once a newer one is active does nothing.
func TestARunIsNotOpenedBesideANewerOne(t *testing.T) {
	t.Parallel()
	f, _ := newTestFleet(t, 1)
	older := f.run()
	older.RunID = strings.Repeat("0", len(older.RunID))
	f.open(f.run())
	if _, err := f.env.ExecuteActivity(f.do.OpenFleetRun, older); err == nil {
		t.Error("two runs over the same server are open, want the older refused")
	}
}

// Canaries whose database refuses the release's statements are reported. Reads are run; writes are only parsed.
func TestCanariesAreProbed(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 1)
	f.do.Statements = tenantserver.Statements{
		SQL: map[string]string{
			"branches by planting": `SELECT id FROM branches WHERE planted > $1`,
			"all":                  `SELECT id FROM branches WHERE id > $1 LIMIT $2`,
			"plant":                `UPDATE branches SET planted = @planted`,
		},
		Lists: map[string][]any{"all": {"", 5}},
	}
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, Wave: 0, AtOnce: 1, Budget: 3, Limits: briefLimits}
	if _, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice); err != nil {
		t.Fatal(err)
	}
	const denied, missing = `PostgreSQL refused: the role lacks the privilege (42501)`, `PostgreSQL refused: a column is missing (42703)`
	church := churches[0]
	for _, c := range []struct {
		damage string
		want   string
	}{
		{`INSERT INTO branches VALUES (NULL)`, `[]`},
		{`ALTER TABLE branches OWNER TO CURRENT_USER`, `[` + church + `: all: ` + denied + `]`}, // it can be parsed, but not run
		{`ALTER TABLE branches DROP COLUMN planted`,
			`[` + church + `: all: ` + denied + ` ` + church + `: branches by planting: ` + missing + ` ` + church + `: plant: ` + missing + `]`},
	} {
		f.exec(church, c.damage)
		f.wantProblems("after "+c.damage, fleet.Watch{RunID: run.RunID, Server: run.Server}, c.want)
	}
}

func (f *testFleet) wantProblems(when string, watch fleet.Watch, want string) {
	f.t.Helper()
	var problems []string
	value, err := f.env.ExecuteActivity(f.do.ProbeCanaries, watch)
	if err == nil {
		err = value.Get(&problems)
	}
	if err != nil || fmt.Sprint(problems) != want {
		f.t.Errorf("%s, the canaries' problems are %v (%v), want %s", when, problems, err, want)
	}
}

// A run can be undone only if each of its down migrations says why it loses no data.
func TestAnUndoThatMayLoseDataIsRefused(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 1)
	run := f.run()
	f.open(run)
	f.change(run.RunID)
	f.end(run.RunID)
	unsafe := maps.Clone(newSchema)
	unsafe["000002_planted.down.sql"] = &fstest.MapFile{Data: []byte(`ALTER TABLE branches DROP COLUMN planted`)}
	f.do.Server = f.serverOf(unsafe)
	_, err := f.env.ExecuteActivity(f.do.OpenFleetRun, fleet.Input{RunID: ids.New(), Server: run.Server, Undoes: run.RunID})
	if err == nil || !strings.Contains(err.Error(), "there is no `-- safe for data` line in 000002_planted.down.sql") {
		t.Errorf("opening the undo returns %v, want it refused with the file's name", err)
	}
	f.wantVersions(all(churches, 2))
}

// A rehearsal reports what the change does to copies. It touches no church, even if it fails.
func TestARehearsalTouchesNoChurch(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 3)
	f.exec(churches[0], `INSERT INTO branches SELECT md5(i::text) FROM generate_series(1, 20000) i`)
	rehearsal := f.rehearse(f.run())
	if rehearsal.Churches != 3 || len(rehearsal.Copies) == 0 || rehearsal.Predicted <= 0 {
		t.Fatalf("the rehearsal reports %+v, want copies, and how long 3 churches take", rehearsal)
	}
	for _, c := range rehearsal.Copies {
		if c.Error != "" || c.Took <= 0 || !slices.Equal(c.Locks, []string{"AccessExclusiveLock on branches"}) || len(c.Rewrites) > 0 {
			t.Errorf("a copy reports %+v, want the lock on branches, and no rewrite", c)
		}
	}
	largest := slices.IndexFunc(rehearsal.Copies, func(c fleet.Copy) bool { return c.Why == "largest" })
	if largest < 0 || rehearsal.Copies[largest].TenantID != churches[0] || rehearsal.Copies[largest].Size < 1<<20 {
		t.Errorf("the copies are %+v, want that of %s to be the largest, with its rows", rehearsal.Copies, churches[0])
	}

	for _, id := range churches {
		f.exec(id, `ALTER TABLE branches ADD COLUMN planted date`)
	}
	if failure := f.rehearse(f.run()).Failure(); !strings.Contains(failure, "000002_planted.up.sql: PostgreSQL refused") {
		t.Errorf("the rehearsal's failure is %q, want the file's", failure)
	}
	f.wantVersions(all(churches, 1))
	var left int
	const scratches = `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'scratch\_%' AND shobj_description(oid, 'pg_authid') LIKE $1`
	err := f.admin.QueryRow(t.Context(), scratches, "%"+f.installation+"%").Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d copies are left (%v), want none", left, err)
	}
}

// A copy shows that a change rewrites a table, and which locks it takes outside a transaction.
func TestARehearsalSeesRewritesAndLocks(t *testing.T) {
	t.Parallel()
	f, _ := newTestFleet(t, 1)
	heavy := fstest.MapFS{
		"000001_first.up.sql": oldSchema["000001_first.up.sql"], "000001_first.down.sql": oldSchema["000001_first.down.sql"],
		"000002_heavy.up.sql":   {Data: []byte(`ALTER TABLE branches ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY`)},
		"000002_heavy.down.sql": {Data: []byte(`ALTER TABLE branches DROP COLUMN n`)},
		"000003_index.up.sql":   {Data: []byte("-- no transaction\nCREATE INDEX CONCURRENTLY branches_n_idx ON branches (n)")},
		"000003_index.down.sql": {Data: []byte("-- no transaction\nDROP INDEX CONCURRENTLY branches_n_idx")},
	}
	f.do.Server = f.serverOf(heavy)
	run := f.run()
	run.Version = 3
	rehearsal := f.rehearse(run)
	if len(rehearsal.Copies) != 1 {
		t.Fatalf("the copies are %+v, want one: there is one church", rehearsal.Copies)
	}
	c := rehearsal.Copies[0]
	if c.Error != "" || !slices.Equal(c.Rewrites, []string{"branches"}) || !slices.Contains(c.Locks, "AccessExclusiveLock on branches") {
		t.Errorf("the copy reports %+v, want branches rewritten under its lock", c)
	}
}

// A church can have any number of tables locked during a change. The report of its copy still fits in Temporal's history.
func TestARehearsalListsLimitedLocks(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 1)
	f.exec(churches[0], `DO $$ BEGIN FOR i IN 1..150 LOOP EXECUTE format('CREATE TABLE more_%s (id int)', i); END LOOP; END $$;
		CREATE FUNCTION lock_all() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN FOR i IN 1..150 LOOP EXECUTE format('LOCK TABLE public.more_%s IN SHARE MODE', i); END LOOP; RETURN NULL; END $$;
		CREATE TRIGGER lock_all AFTER INSERT OR UPDATE ON narthex_migrations.versions EXECUTE FUNCTION lock_all();
		GRANT ALL ON ALL TABLES IN SCHEMA public TO `+ids.DatabaseName(churches[0]))
	for _, c := range f.rehearse(f.run()).Copies {
		if c.Error != "" || len(c.Locks) != 100 {
			t.Errorf("the copy's report has the error %q and %d locks, want 100 of 151", c.Error, len(c.Locks))
		}
	}
}

func (f *testFleet) rehearse(in fleet.Input) (rehearsal fleet.Rehearsal) {
	f.t.Helper()
	value, err := f.env.ExecuteActivity(f.do.RehearseFleet, in)
	if err == nil {
		err = value.Get(&rehearsal)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return rehearsal
}
