package activities_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/fstest"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/internal/tenantserver"
)

// twoSteps is newSchema with one more version.
var twoSteps = func() fstest.MapFS {
	files := maps.Clone(newSchema)
	files["000003_grown.up.sql"] = &fstest.MapFile{Data: []byte(`ALTER TABLE branches ADD COLUMN grown date`)}
	files["000003_grown.down.sql"] = &fstest.MapFile{Data: []byte("-- safe for data: it is a test\nALTER TABLE branches DROP COLUMN grown")}
	return files
}()

func newTwoStepFleet(t *testing.T, churches int) (f *testFleet, tenantIDs []string) {
	t.Helper()
	f, tenantIDs = newTestFleet(t, churches)
	f.server = f.serverOf(twoSteps)
	f.do.Server = f.server
	return f, tenantIDs
}

func (f *testFleet) claim(runID string) ledger.Claimed {
	f.t.Helper()
	claimed, ok, err := f.do.Ledger.Claim(f.t.Context(), fleet.Slice{RunID: runID, Wave: fleet.LastWave, Budget: 3})
	if err != nil || !ok {
		f.t.Fatalf("no church is claimed (%v), want one", err)
	}
	return claimed
}

func (f *testFleet) tally(runID string) fleet.Tally {
	f.t.Helper()
	tally, err := f.do.Ledger.Tally(f.t.Context(), runID)
	if err != nil {
		f.t.Fatal(err)
	}
	return tally
}

// takeBack undoes a run that has changed this many churches.
func (f *testFleet) takeBack(runID string, churches int) {
	f.t.Helper()
	undo := fleet.Input{RunID: ids.New(), Server: f.server.Name(), Undoes: runID}
	f.wantTally(f.open(undo), fleet.Tally{Waiting: churches})
	f.wantTally(f.change(undo.RunID).Tally, fleet.Tally{Changed: churches})
	f.end(undo.RunID)
}

// changeTo changes a church's database, and records nothing.
func (f *testFleet) changeTo(claimed ledger.Claimed, version int) {
	f.t.Helper()
	d := tenantserver.Database{TenantID: claimed.TenantID, SignupID: claimed.SignupID}
	change := tenantserver.Change{From: claimed.FromVersion, To: version}
	permit := func(context.Context) (string, error) { return churchPassword, nil }
	if _, err := f.server.ChangeSchema(f.t.Context(), d, change, tenantserver.Limits(briefLimits), permit); err != nil {
		f.t.Fatal(err)
	}
}

// An attempt that was given up must neither change the church nor overwrite what a later one has recorded.
func TestALateAttemptRecordsNothing(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 1)
	run := f.run()
	f.open(run)
	l, ctx := f.do.Ledger, t.Context()
	late := f.claim(run.RunID)
	if _, err := l.Hold(ctx, late); err != nil {
		t.Errorf("the first attempt holds the church: %v, want no error", err)
	}
	enterLate := func(when string, want fleet.Tally) {
		t.Helper()
		wrong := ledger.Outcome{Began: 1, Reached: 7, Serves: 7}
		err := errors.Join(l.Failed(ctx, late, wrong, errors.New("late")), l.Changed(ctx, late, wrong), l.GiveBack(ctx, late, wrong))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Hold(ctx, late); !errors.Is(err, ledger.ErrLost) {
			t.Errorf("%s, the late attempt holds the church: %v, want ErrLost", when, err)
		}
		if got := f.tally(run.RunID); got != want {
			t.Errorf("%s, the tally is %+v, want %+v", when, got, want)
		}
		tenant, err := f.do.Registry.Tenant(ctx, churches[0])
		if err != nil || tenant.SchemaVersion != 1 {
			t.Errorf("%s, the registry has version %d (%v), want 1", when, tenant.SchemaVersion, err)
		}
	}
	if err := l.GiveAllBack(ctx, run.RunID); err != nil {
		t.Fatal(err)
	}
	enterLate("while it waits", fleet.Tally{Waiting: 1})
	second := f.claim(run.RunID)
	enterLate("while another has it", fleet.Tally{Waiting: 1})
	if err := l.Failed(ctx, second, ledger.Outcome{Began: 1, Reached: 1, Serves: 1}, errors.New("it failed")); err != nil {
		t.Fatal(err)
	}
	enterLate("after another has failed", fleet.Tally{Failed: 1})
	if err := l.Requeue(ctx, run.RunID); err != nil {
		t.Fatal(err)
	}
	f.claim(run.RunID) // its number of attempts is the late attempt's again
	enterLate("after a retry", fleet.Tally{Waiting: 1})
}

// The registry records a church's real version, even if its change failed halfway. An undo reverts such a church too.
func TestAChurchThatFailsHalfwayIsRecordedAtItsVersion(t *testing.T) {
	t.Parallel()
	f, churches := newTwoStepFleet(t, 3)
	f.exec(churches[1], `ALTER TABLE branches ADD COLUMN grown date`)
	run := f.run()
	f.open(run)
	f.wantTally(f.change(run.RunID).Tally, fleet.Tally{Changed: 2, Failed: 1})
	want := all(churches, 3)
	want[churches[1]] = 2
	f.wantVersions(want)
	f.end(run.RunID)
	f.takeBack(run.RunID, 3)
	f.wantVersions(all(churches, 1))
}

// If a run is cancelled while its worker is dead, it isn't known whether the churches in progress were changed.
func TestAnUndoFindsOutWhatTheRunHasChanged(t *testing.T) {
	t.Parallel()
	f, churches := newTwoStepFleet(t, 3)
	run := f.run()
	f.open(run)
	done, half := f.claim(run.RunID), f.claim(run.RunID)
	f.claim(run.RunID)
	f.changeTo(done, 3)
	f.changeTo(half, 2)
	f.end(run.RunID)
	f.takeBack(run.RunID, 2)
	f.wantVersions(all(churches, 1))
}

// An undo reverts neither churches that its run found already changed, nor those that another run has changed since.
func TestAnUndoRevertsOnlyWhatItsRunHasChanged(t *testing.T) {
	t.Parallel()
	f, churches := newTwoStepFleet(t, 3)
	killed := f.run()
	f.open(killed)
	changed := f.claim(killed.RunID)
	f.claim(killed.RunID) // and does nothing with it
	f.changeTo(changed, 3)
	f.end(killed.RunID)
	next := f.run()
	f.open(next)
	f.wantTally(f.change(next.RunID).Tally, fleet.Tally{Changed: 3})
	f.wantVersions(all(churches, 3))
	f.end(next.RunID)
	f.takeBack(killed.RunID, 1)
	want := all(churches, 3)
	want[changed.TenantID] = 1
	f.wantVersions(want)
	f.takeBack(next.RunID, 2)
	f.wantVersions(all(churches, 1))
}
