package activities_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/internal/saga"
	"narthex/internal/tenantserver"
)

// A run changes as many churches at once as its options allow, even if all of them are locked. Signups don't wait for it.
func TestARunLeavesConnectionsToSignups(t *testing.T) {
	t.Parallel()
	const atOnce = 8
	f, churches := newTestFleet(t, atOnce)
	unlock := make([]func(), atOnce)
	for i, id := range churches {
		conn := f.connect(id)
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), `BEGIN; SELECT FROM branches`); err != nil {
			t.Fatal(err)
		}
		unlock[i] = func() { _, _ = conn.Exec(context.Background(), `ROLLBACK`) }
	}
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, Wave: fleet.LastWave, AtOnce: atOnce, Budget: 3, Limits: fleet.Limits{
		Lock: 20 * time.Millisecond, Statement: 10 * time.Second, Patience: time.Minute,
	}}
	ended := make(chan error)
	go func() {
		_, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice)
		ended <- err
	}()
	f.waitForLocks(atOnce)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: churchPassword}
	if _, err := f.do.Server.Create(ctx, d, func(context.Context) error { return nil }, nil); err != nil {
		t.Errorf("a signup's database, while %d churches are locked: %v, want it made", atOnce, err)
	}
	for _, u := range unlock {
		u()
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	f.wantVersions(all(churches, 2))
}

// A slice that is cancelled finishes the changes that have begun, and says that it was cancelled, not that it failed.
func TestACancelledSliceHasNotFailed(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 2)
	conn := f.connect(churches[0])
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `BEGIN; SELECT FROM branches`); err != nil {
		t.Fatal(err)
	}
	run := f.run()
	f.open(run)
	ctx, cancel := context.WithCancel(t.Context())
	f.env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, Wave: fleet.LastWave, AtOnce: 1, Budget: 3, Limits: briefLimits}
	ended := make(chan error)
	go func() {
		_, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice)
		ended <- err
	}()
	f.waitForLocks(1)
	cancel()
	err := <-ended
	if failure, failed := errors.AsType[*temporal.ApplicationError](err); err == nil || failed && failure.Type() == saga.ErrorDatabase {
		t.Errorf("a cancelled slice ends with %v, want it cancelled", err)
	}
}

// waitForLocks waits until the activities hold the locks of this many churches.
func (f *testFleet) waitForLocks(want int) {
	f.t.Helper()
	const held = `
		SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND usename = $1`
	var got int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := f.admin.QueryRow(f.t.Context(), held, f.role).Scan(&got); err != nil {
			f.t.Fatal(err)
		}
		if got == want {
			return
		}
	}
	f.t.Errorf("%d churches are being changed at once, want %d", got, want)
}
