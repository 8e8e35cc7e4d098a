package systemtest

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/teststack"
	"narthex/internal/fleet"
	"narthex/internal/ids"
)

var fleetActivities = []string{fleet.Rehearse, fleet.Open, fleet.Extend, fleet.Change, fleet.Enter, fleet.Requeue, fleet.Probe}

// fleetSize is 3 canaries and 4 others.
const fleetSize = 7

// TestFleetFaults makes each activity of a run over the fleet fail in each way. The run ends as it would without faults.
func TestFleetFaults(t *testing.T) {
	t.Parallel()
	for i, activity := range fleetActivities {
		for name, faults := range map[string]map[int]teststack.Fault{ // by attempt
			"fails before and after its effect": {1: teststack.FailsRetryably, 2: teststack.FailsRetryablyAfter},
			"loses its answer":                  {1: teststack.AnswerLost, 3: teststack.AnswerLost}, // of the first two calls
		} {
			t.Run(activity+" "+name, func(t *testing.T) {
				t.Parallel()
				skipMost(t, i, 3)
				f := teststack.NewFleet(t, fleetSize)
				f.Work()
				f.Faults.Set(activity, func(attempt int) teststack.Fault { return faults[attempt] })
				migrate(f)
				if got := f.Faults.AttemptsOf(activity); got < 2 {
					t.Errorf("%s was tried %d times, want at least 2", activity, got)
				}
				wantNoCopies(f)
			})
		}
	}
}

// killedIn is the variable that says in which activity a worker is killed.
const killedIn = "NARTHEX_TEST_KILLED_IN"

// killedWhen says when a worker is killed during an activity. In other activities, it is killed after their effect.
var killedWhen = map[string]string{
	fleet.Change:   `SELECT EXISTS (SELECT FROM fleet_changes WHERE state = 'changing' AND wave > 0)`,
	fleet.Rehearse: `SELECT EXISTS (SELECT FROM pg_database WHERE datname LIKE 'scratch\_%' AND pg_has_role(datdba, 'MEMBER'))`,
}

func TestFleetWorkerAlone(t *testing.T) {
	teststack.WorkAlone(t, func(s *teststack.Stack) { // other tests run this one in a separate process
		activity := os.Getenv(killedIn)
		if look, ok := killedWhen[activity]; ok {
			s.Faults.Always(activity, killedWhile(s, look))
		} else if activity != "" {
			s.Faults.Always(activity, teststack.Killed)
		}
	})
}

// killedWhile kills the worker while an activity is running and a query of the registry returns true.
func killedWhile(s *teststack.Stack, look string) teststack.Fault {
	return func(run func() error) error {
		ended := make(chan error, 1)
		go func() { ended <- run() }()
		for {
			select {
			case err := <-ended:
				return err
			case <-time.After(time.Millisecond):
			}
			var now bool
			if err := s.Registry.QueryRow(context.Background(), look).Scan(&now); err == nil && now {
				return syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	}
}

// TestFleetWorkerIsKilled kills a run's worker during each activity. The run ends on the next worker as it would have on
// the first.
func TestFleetWorkerIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the workers are separate processes")
	}
	for _, activity := range fleetActivities {
		t.Run(activity, func(t *testing.T) {
			t.Parallel()
			f := teststack.NewFleet(t, fleetSize)
			killed := f.StartWorker("TestFleetWorkerAlone", killedIn+"="+activity)
			go func() {
				<-killed.Done()
				if t.Context().Err() == nil {
					f.StartWorker("TestFleetWorkerAlone")
				}
			}()
			migrate(f)
			select {
			case <-killed.Done():
				if err := killed.Err(); err == nil || err.Error() != "signal: killed" {
					t.Errorf("the first worker ended with %v, want it killed", err)
				}
			default:
				t.Error("the first worker was not killed")
			}
			if activity == fleet.Rehearse {
				dropOldCopies(f)
			}
			wantNoCopies(f)
		})
	}
}

// migrate runs FleetMigration over a fleet whose canaries can't be changed at first. One church is created during the run.
func migrate(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	canaries := f.Churches[:fleet.DefaultCanaries]
	release := lockBranches(f, canaries)
	in := fleetInput(f)
	in.Rehearse, in.Options.Canaries, in.Options.Soak = true, canaries, time.Second
	run := startRun(f, in)
	awaitState(f, run, fleet.Halted)
	release()
	f.Churches = append(f.Churches, f.Found())
	signal(f, run, fleet.Retry)
	var progress fleet.Progress
	if err := run.Get(f.T.Context(), &progress); err != nil {
		f.T.Fatal(err)
	}
	want := fleet.Tally{Changed: len(f.Churches)}
	if progress.State != fleet.Completed || progress.Tally != want || progress.Reason != "" {
		f.T.Errorf("the run ends as %+v, want it completed with %+v", progress, want)
	}
	wantMigrated(f, in.RunID)
	return run
}

// signal sends a signal to a run.
func signal(f *teststack.Fleet, run client.WorkflowRun, name string) {
	f.T.Helper()
	if err := f.Temporal.SignalWorkflow(f.T.Context(), run.GetID(), "", name, nil); err != nil {
		f.T.Fatal(err)
	}
}

func fleetInput(f *teststack.Fleet) fleet.Input {
	return fleet.Input{
		RunID: ids.New(), Server: f.Last.Name(), Version: teststack.NextVersion,
		Options: fleet.Options{AtOnce: 2, Limits: fleet.Limits{Lock: 20 * time.Millisecond, Patience: 500 * time.Millisecond}},
	}
}

// startRun starts a run with its own workflow id, because all tests' fleets are on one server.
func startRun(f *teststack.Fleet, in fleet.Input) client.WorkflowRun {
	f.T.Helper()
	options := client.StartWorkflowOptions{ID: "fleet-" + in.RunID, TaskQueue: f.Queue}
	run, err := f.Temporal.ExecuteWorkflow(f.T.Context(), options, fleet.Workflow, in)
	if err != nil {
		f.T.Fatal(err)
	}
	return run
}

// lockBranches locks a table of churches until it is released, so that it can't be changed.
func lockBranches(f *teststack.Fleet, churches []string) (release func()) {
	f.T.Helper()
	var locks []*pgx.Conn
	for _, id := range churches {
		conn := f.Tenant(id)
		if _, err := conn.Exec(f.T.Context(), `BEGIN; SELECT FROM branches`); err != nil {
			f.T.Fatal(err)
		}
		locks = append(locks, conn)
	}
	return func() {
		f.T.Helper()
		for _, conn := range locks {
			if _, err := conn.Exec(f.T.Context(), `ROLLBACK`); err != nil {
				f.T.Fatal(err)
			}
		}
	}
}

// awaitState waits until a run is in a state, according to the ledger.
func awaitState(f *teststack.Fleet, run client.WorkflowRun, want fleet.State) {
	f.T.Helper()
	ended := make(chan error, 1)
	go func() { ended <- run.Get(f.T.Context(), nil) }()
	teststack.Eventually(f.T, "the run is "+string(want), func() (so bool) {
		select {
		case err := <-ended:
			f.T.Fatalf("the run has ended (%v), want it %s", err, want)
		default:
		}
		teststack.Row(f.T, f.Registry, `SELECT EXISTS (SELECT FROM fleet_runs WHERE state = $1)`, []any{want}, &so)
		return so
	})
}

// wantMigrated checks that each church was migrated to the next release's schema once, that the ledger says so, and that
// nothing is left behind.
func wantMigrated(f *teststack.Fleet, runID string) {
	f.T.Helper()
	for _, id := range f.Churches {
		var recorded, serves, there, changes int
		var valid bool
		teststack.Row(f.T, f.Registry, `SELECT schema_version, schema_serves FROM tenants WHERE id = $1`, []any{id}, &recorded, &serves)
		teststack.Row(f.T, f.Tenant(id), `
			SELECT (SELECT version FROM narthex_migrations.versions WHERE NOT dirty), (SELECT count(*) FROM members),
				(SELECT indisvalid FROM pg_index WHERE indexrelid = 'members_email_key'::regclass)`, nil, &there, &changes, &valid)
		if recorded != teststack.NextVersion || there != teststack.NextVersion || serves != teststack.NextVersion || changes != 1 || !valid {
			f.T.Errorf("%s is at %d, in the registry at %d, serves %d, was changed %d times, its index is valid: %t; want %d, changed once",
				id, there, recorded, serves, changes, valid, teststack.NextVersion)
		}
	}
	var state, stage, reason string
	var entered, odd int
	teststack.Row(f.T, f.Registry, `SELECT state, stage, reason FROM fleet_runs WHERE id = $1`, []any{runID}, &state, &stage, &reason)
	teststack.Row(f.T, f.Registry, `
		SELECT count(*), count(*) FILTER (WHERE state <> 'changed' OR error <> '' OR from_version <> $2 OR to_version <> $3)
		FROM fleet_changes WHERE run_id = $1`, []any{runID, teststack.LastVersion, teststack.NextVersion}, &entered, &odd)
	if state != string(fleet.Completed) || stage != string(fleet.Done) || reason != "" || entered != len(f.Churches) || odd != 0 {
		f.T.Errorf("the ledger has the run as %s %s %q, with %d churches, %d of them not changed; want it completed, with %d and 0",
			state, stage, reason, entered, odd, len(f.Churches))
	}
	teststack.Eventually(f.T, "no lock is left", func() bool {
		var locks int
		teststack.Row(f.T, f.Server, `
			SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND usename = $1`,
			[]any{f.Registry.Config().ConnConfig.User}, &locks)
		return locks == 0
	})
}

const selectCopies = `
	SELECT rolname::text FROM pg_roles
	WHERE rolname LIKE 'scratch\_%' AND starts_with(shobj_description(oid, 'pg_authid'), 'narthex scratch of ' || $1 || ' until ')`

// wantNoCopies checks that no copy of a church is left.
func wantNoCopies(f *teststack.Fleet) {
	f.T.Helper()
	if left := copies(f); len(left) != 0 {
		f.T.Errorf("the copies %v of churches were left behind, want none", left)
	}
}

func copies(f *teststack.Fleet) []string {
	f.T.Helper()
	rows, _ := f.Server.Query(f.T.Context(), selectCopies, f.Installation)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.T.Fatal(err)
	}
	return found
}

// dropOldCopies makes the copy that a killed worker left behind expire, and drops it as sweeps and rehearsals do.
func dropOldCopies(f *teststack.Fleet) {
	f.T.Helper()
	left := copies(f)
	if len(left) != 1 {
		f.T.Fatalf("the killed worker left the copies %v behind, want one", left)
	}
	f.Exec(`COMMENT ON ROLE ` + left[0] + ` IS 'narthex scratch of ` + f.Installation + ` until 2000-01-01T00:00:00.000000Z'`)
	if err := f.Last.DropExpiredScratch(f.T.Context()); err != nil {
		f.T.Error(err)
	}
}
