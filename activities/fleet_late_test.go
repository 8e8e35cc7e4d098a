package activities_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"narthex/internal/fleet"
	"narthex/internal/ids"
)

// An attempt that Temporal has given up may still run next to the following one. Only one of them changes a church at a
// time, and the late one's result changes nothing in the ledger.
func TestALateAttemptChangesNothingInTheLedger(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]string{
		"it succeeds":             "",
		"it fails":                "pg_cancel_backend",
		"it loses its connection": "pg_terminate_backend",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, churches := newTestFleet(t, 2)
			church := churches[0]
			unlock := f.lock(church)
			run := f.run()
			run.Options.Canaries = []string{church}
			f.open(run)
			slice := fleet.Slice{RunID: run.RunID, Server: run.Server, AtOnce: 1, Budget: 3}
			slice.Limits = fleet.Limits{Lock: time.Minute, Statement: time.Minute, Patience: time.Minute}
			late := f.attempt(slice)
			f.awaitChange(church, "changing, attempt 1")
			f.wantOneAt(church) // the late one, which has the church's lock
			next := f.attempt(slice)
			f.awaitChange(church, "changing, attempt 2")
			f.wantOneAt(church)
			if signal != "" {
				f.exec(church, `
					SELECT `+signal+`(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'`)
			} else {
				unlock()
			}
			if err := <-late; err != nil {
				t.Errorf("the late attempt fails with %v, want it to end", err)
			}
			if signal != "" {
				f.awaitChange(church, "changing, attempt 2")
				f.wantOneAt(church)
				unlock()
			}
			if err := <-next; err != nil {
				t.Errorf("the next attempt fails with %v, want it to end", err)
			}
			f.awaitChange(church, "changed, attempt 2")
			f.wantVersions(map[string]int{church: 2, churches[1]: 1})
		})
	}
}

// attempt runs an attempt of ChangeChurches in the background.
func (f *testFleet) attempt(slice fleet.Slice) (ended <-chan error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(f.do)
	done := make(chan error, 1)
	go func() {
		_, err := env.ExecuteActivity(fleet.Change, slice)
		done <- err
	}()
	return done
}

// lock locks a church's table until it is unlocked, so that it can't be changed.
func (f *testFleet) lock(church string) (unlock func()) {
	f.t.Helper()
	conn := f.connect(church)
	f.t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(f.t.Context(), `BEGIN; SELECT FROM branches`); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		f.t.Helper()
		if _, err := conn.Exec(f.t.Context(), `ROLLBACK`); err != nil {
			f.t.Fatal(err)
		}
	}
}

// awaitChange waits until the ledger has this state and attempt for a church.
func (f *testFleet) awaitChange(church, want string) {
	f.t.Helper()
	var state string
	var attempts int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		const query = `SELECT state, attempts FROM fleet_changes WHERE tenant_id = $1`
		err := f.registry.QueryRow(f.t.Context(), query, church).Scan(&state, &attempts)
		if err != nil {
			f.t.Fatal(err)
		}
		if fmt.Sprintf("%s, attempt %d", state, attempts) == want {
			return
		}
	}
	f.t.Fatalf("the church is %s, attempt %d, after 10 seconds; want %s", state, attempts, want)
}

// wantOneAt waits until an attempt waits for the church's table, and checks that it is the only one at the church.
func (f *testFleet) wantOneAt(church string) {
	f.t.Helper()
	const query = `
		SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity WHERE datname = $1 AND usename = $1`
	var at, waiting int
	for deadline := time.Now().Add(10 * time.Second); waiting != 1; time.Sleep(10 * time.Millisecond) {
		if err := f.admin.QueryRow(f.t.Context(), query, ids.DatabaseName(church)).Scan(&at, &waiting); err != nil {
			f.t.Fatal(err)
		}
		if at > 1 || time.Now().After(deadline) {
			f.t.Fatalf("%d attempts are changing the church, %d of them wait for its table, want 1", at, waiting)
		}
	}
}
