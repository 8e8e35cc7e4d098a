package activities_test

import (
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
)

// While a standby lags, no church is changed, and the ledger says why. When it has caught up, the run goes on.
func TestARunWaitsForTheServer(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 4)
	f.exec(churches[0], `GRANT pg_read_all_stats TO `+f.role)
	f.do.FleetPause = 20 * time.Millisecond
	standby := testenv.NewStandby(t, testenv.PostgresURL(t))
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, Wave: fleet.LastWave, AtOnce: 2, Budget: 3, Held: 2}
	slice.MaxLag, slice.MaxConnections, slice.MaxRead = 300*time.Millisecond, 1, time.Minute
	standby.Stall(true)
	f.awaitLag(slice.MaxLag)

	var result fleet.Result
	ended := make(chan error, 1)
	go func() {
		value, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice)
		if err == nil {
			err = value.Get(&result)
		}
		ended <- err
	}()
	f.awaitReason(run.RunID, "waiting: replication lags by ")
	tally, err := f.do.Ledger.Tally(t.Context(), run.RunID)
	if err != nil || tally != (fleet.Tally{Waiting: 4}) {
		t.Errorf("while the standby lags the tally is %+v (%v), want all 4 to wait", tally, err)
	}
	standby.Stall(false)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	f.wantTally(result.Tally, fleet.Tally{Changed: 4})
	f.wantVersions(all(churches, 2))
}

func (f *testFleet) awaitLag(least time.Duration) {
	f.t.Helper()
	var lag float64
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err := f.admin.QueryRow(f.t.Context(), `
			SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8
			FROM pg_stat_replication, pg_logical_emit_message(true, '', '')`).Scan(&lag)
		if err != nil {
			f.t.Fatal(err)
		}
		if lag > least.Seconds() {
			return
		}
	}
	f.t.Fatalf("the standby lags by %g s after 30 seconds, want more than %s", lag, least)
}

func (f *testFleet) awaitReason(runID, beginning string) {
	f.t.Helper()
	var reason string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		run, err := f.do.Ledger.Run(f.t.Context(), runID)
		if err != nil {
			f.t.Fatal(err)
		}
		if reason = run.Reason; strings.HasPrefix(reason, beginning) {
			return
		}
	}
	f.t.Fatalf("the run's reason is %q after 30 seconds, want %q", reason, beginning)
}
