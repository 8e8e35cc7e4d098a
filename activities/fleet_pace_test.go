package activities_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
)

// While a standby lags, no church is changed, and the ledger says why. When it has caught up, the run continues.
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

// A vacuum that prevents wraparound may run for hours. While it does, churches are changed one at a time, and the run says why.
func TestARunContinuesSlowlyDuringAVacuum(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleetOn(t, vacuumed(t), 4)
	f.exec(churches[0], `GRANT pg_read_all_stats TO `+f.role)
	f.do.FleetPause = time.Hour // it looks once
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, AtOnce: 4, Budget: 3, Held: 3}
	slice.MaxLag, slice.MaxConnections, slice.MaxRead = time.Hour, 1, time.Minute
	for _, c := range []struct {
		wave, vacuums int
		want          fleet.Result
	}{
		{0, 0, fleet.Result{Tally: fleet.Tally{Waiting: 1, Changed: 3}, Held: 3, Reason: "slowed: 1 autovacuum prevents wraparound"}},
		{fleet.LastWave, 1, fleet.Result{Tally: fleet.Tally{Changed: 4}, Held: 2, Reason: "slowed: the server is recovering"}},
	} {
		slice.Wave, slice.MaxVacuums = c.wave, c.vacuums
		value, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice)
		var result fleet.Result
		if err == nil {
			err = value.Get(&result)
		}
		if err != nil || result != c.want {
			t.Errorf("if %d vacuums are allowed, the slice ends as %+v (%v), want %+v", c.vacuums, result, err, c.want)
		}
	}
	f.wantVersions(all(churches, 2))
}

// vacuumed starts a server, until the test ends, on which an autovacuum that prevents wraparound is running.
func vacuumed(t *testing.T) (url string) {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{
		Dir: filepath.Join(testenv.FolderFor(t, 1<<30), "postgres"), Ephemeral: true, Settings: map[string]string{"autovacuum_naptime": "1s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	db := testenv.OpenPool(t, server.AdminURL())
	const leastAge = 100_000 // at which PostgreSQL lets a table be vacuumed so that nothing wraps around
	for _, sql := range []string{
		fmt.Sprintf(`
			CREATE TABLE aged WITH (autovacuum_freeze_max_age = %d, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)
			AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)`, leastAge),
		fmt.Sprintf(`DO $$ BEGIN FOR i IN 0..%d LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$`, leastAge),
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var running bool
		err := db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 'aged'::regclass)`).Scan(&running)
		switch {
		case err != nil:
			t.Fatal(err)
		case running:
			return server.AdminURL()
		case time.Now().After(deadline):
			t.Fatal("the table is not vacuumed after a minute")
		}
	}
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
