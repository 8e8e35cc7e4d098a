package workflows

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/fleet"
)

// fleetPlay runs FleetMigration on a clock that skips waiting. Each slice changes ten churches.
type fleetPlay struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment

	mu        sync.Mutex // held by the activity that runs: a signal's may run beside the stage's
	tally     fleet.Tally
	late      int               // churches that signups create during the run
	failing   int               // churches that fail, one per slice
	rehearsed string            // why the rehearsal fails
	problems  []string          // of the canaries
	watched   fleet.Watch       // the input of their last probe
	slow      fleet.Result      // Held and Reason of the first two slices' results
	held      []int             // of the slices' inputs
	during    map[string]func() // called once, during an activity

	duringSlice map[int]func() // called during the slice with this number

	lost    error // with which the search for late churches fails for good
	entered fleet.Progress

	did []string
}

func newFleetPlay(t *testing.T, churches int) *fleetPlay {
	t.Helper()
	p := &fleetPlay{t: t, tally: fleet.Tally{Waiting: churches}, during: map[string]func(){}}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	p.env = suite.NewTestWorkflowEnvironment()
	p.env.SetTestTimeout(30 * time.Second)
	p.register(fleet.Open, func(context.Context, fleet.Input) (fleet.Tally, error) {
		defer p.turn()()
		return p.tally, p.note("open")
	})
	p.register(fleet.Extend, func(context.Context, fleet.Input) (fleet.Tally, error) {
		defer p.turn()()
		p.tally.Waiting, p.late = p.tally.Waiting+p.late, 0
		if p.lost != nil {
			return fleet.Tally{}, temporal.NewNonRetryableApplicationError(p.lost.Error(), "Refused", nil)
		}
		return p.tally, p.note("extend")
	})
	p.register(fleet.Enter, func(_ context.Context, at fleet.Progress) error {
		defer p.turn()()
		p.entered = at
		return p.note(string(at.Stage) + " " + string(at.State))
	})
	p.register(fleet.Requeue, func(context.Context, string) (fleet.Tally, error) {
		defer p.turn()()
		p.tally.Waiting, p.tally.Failed = p.tally.Waiting+p.tally.Failed, 0
		return p.tally, p.note("requeue")
	})
	p.register(fleet.Probe, func(_ context.Context, watch fleet.Watch) ([]string, error) {
		defer p.turn()()
		p.watched = watch
		return p.problems, p.note("probe")
	})
	p.register(fleet.Rehearse, func(context.Context, fleet.Input) (fleet.Rehearsal, error) {
		defer p.turn()()
		return fleet.Rehearsal{Copies: []fleet.Copy{{TenantID: "t1", Error: p.rehearsed}}}, p.note("rehearse")
	})
	p.register(fleet.Change, p.change)
	return p
}

func (p *fleetPlay) register(name string, do any) {
	p.env.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: name})
}

func (p *fleetPlay) turn() (end func()) {
	p.mu.Lock()
	return p.mu.Unlock
}

func (p *fleetPlay) note(what string) error {
	p.did = append(p.did, what)
	if happen, ok := p.during[what]; ok {
		delete(p.during, what)
		happen()
		time.Sleep(50 * time.Millisecond) // so that the workflow learns of it first
	}
	return nil
}

func (p *fleetPlay) change(_ context.Context, slice fleet.Slice) (fleet.Result, error) {
	defer p.turn()()
	if err := p.note("wave " + strconv.Itoa(slice.Wave)); err != nil {
		return fleet.Result{}, err
	}
	most := 10
	if slice.Wave == 0 {
		most = 3
	}
	n := min(most, p.tally.Waiting)
	p.tally.Waiting, p.tally.Changed = p.tally.Waiting-n, p.tally.Changed+n
	if p.failing > 0 && n > 0 {
		p.failing--
		p.tally.Changed, p.tally.Failed = p.tally.Changed-1, p.tally.Failed+1
	}
	left := p.tally.Waiting
	if slice.Wave < fleet.LastWave {
		left = 0
	}
	p.held = append(p.held, slice.Held)
	if happen, ok := p.duringSlice[len(p.held)]; ok {
		happen()
		time.Sleep(50 * time.Millisecond)
	}
	if len(p.held) > 2 {
		p.slow = fleet.Result{}
	}
	return fleet.Result{Tally: p.tally, Left: left, Held: p.slow.Held, Reason: p.slow.Reason}, nil
}

func (p *fleetPlay) run(options fleet.Options) (fleet.Progress, error) {
	p.t.Helper()
	return p.runOf(fleet.Input{RunID: "r1", Server: "db:5432", Version: 2, Options: options})
}

func (p *fleetPlay) runOf(in fleet.Input) (fleet.Progress, error) {
	p.t.Helper()
	p.env.ExecuteWorkflow(new(Workflows).FleetMigration, in)
	if !p.env.IsWorkflowCompleted() {
		p.t.Fatal("the workflow did not end")
	}
	if err := p.env.GetWorkflowError(); err != nil {
		return fleet.Progress{}, err
	}
	var progress fleet.Progress
	if err := p.env.GetWorkflowResult(&progress); err != nil {
		p.t.Fatal(err)
	}
	return progress, nil
}

func (p *fleetPlay) wantDone(progress fleet.Progress, err error, want fleet.Tally, did ...string) {
	p.t.Helper()
	if err != nil || progress.State != fleet.Completed || progress.Tally != want {
		p.t.Errorf("the run ends as %+v (%v), want it completed with %+v", progress, err, want)
	}
	if len(did) > 0 && !slices.Equal(p.did, did) {
		p.t.Errorf("it did\n  %v, want\n  %v", p.did, did)
	}
}

func TestAFleetIsChangedInWaves(t *testing.T) {
	p := newFleetPlay(t, 25)
	p.late = 2
	progress, err := p.run(fleet.Options{})
	p.wantDone(progress, err, fleet.Tally{Changed: 27},
		"preparing running", "open",
		"canaries running", "wave 0",
		"soaking running",
		"waves running", "wave 1", "wave 2", "wave 3",
		"late running", "extend", "wave 3", "extend",
		"done completed")
}

func TestACurrentFleetIsNotChanged(t *testing.T) {
	p := newFleetPlay(t, 0)
	progress, err := p.run(fleet.Options{Soak: time.Hour})
	p.wantDone(progress, err, fleet.Tally{}, "preparing running", "open", "done completed")
}

func TestTheCanariesAreWatched(t *testing.T) {
	p := newFleetPlay(t, 13)
	start := p.env.Now()
	progress, err := p.run(fleet.Options{Soak: 15 * time.Minute})
	p.wantDone(progress, err, fleet.Tally{Changed: 13})
	probes := 0
	for _, did := range p.did {
		if did == "probe" {
			probes++
		}
	}
	if took := p.env.Now().Sub(start); probes != 30 || took < 15*time.Minute {
		t.Errorf("they were probed %d times, in a run of %s: want 30 times in 15 minutes", probes, took)
	}
}

// If the canaries get worse, the run halts until an operator resumes it.
func TestUnhealthyCanariesHaltTheRun(t *testing.T) {
	p := newFleetPlay(t, 13)
	p.problems = []string{"t1: a column is missing"}
	var resumed time.Time
	p.during["soaking halted"] = func() {
		if !p.watched.ResumedAt.IsZero() {
			t.Errorf("the probe's input says that the run was resumed at %s, before it was", p.watched.ResumedAt)
		}
		p.problems = nil
		p.env.RegisterDelayedCallback(func() {
			resumed = p.env.Now()
			p.env.SignalWorkflow(fleet.Resume, nil)
		}, time.Hour)
	}
	progress, err := p.run(fleet.Options{Soak: time.Minute})
	p.wantDone(progress, err, fleet.Tally{Changed: 13})
	if p.watched.RunID != "r1" || !p.watched.ResumedAt.Equal(resumed) {
		t.Errorf("the last probe's input was %+v, want it to say that r1 was resumed at %s", p.watched, resumed)
	}
	if i, j := slices.Index(p.did, "soaking halted"), slices.Index(p.did, "wave 1"); i < 0 || i > j {
		t.Errorf("it did %v, want it halted before the first wave", p.did)
	}
}

// A run halts when too many churches fail, and says why. The operator has the failed ones retried.
func TestTooManyFailuresHaltTheRun(t *testing.T) {
	p := newFleetPlay(t, 100)
	p.failing = 3
	p.during["waves halted"] = func() {
		p.env.RegisterDelayedCallback(func() {
			if progress := p.ask(); progress.Reason != "3 of 100 churches failed" || progress.State != fleet.Halted {
				t.Errorf("halted, the progress is %+v, want the reason in it", progress)
			}
			p.env.SignalWorkflow(fleet.Retry, nil)
		}, time.Hour)
	}
	progress, err := p.run(fleet.Options{})
	p.wantDone(progress, err, fleet.Tally{Changed: 100})
}

// A slice starts at the pace at which the previous one ended, and the progress says why it is slow.
func TestASlowRunSaysWhy(t *testing.T) {
	p := newFleetPlay(t, 40)
	p.slow = fleet.Result{Held: 3, Reason: "slowed: replication lags by 12s"}
	var during fleet.Progress
	p.during["wave 2"] = func() { during = p.ask() }
	progress, err := p.run(fleet.Options{})
	p.wantDone(progress, err, fleet.Tally{Changed: 40})
	if during.State != fleet.Running || during.Reason != "slowed: replication lags by 12s" || progress.Reason != "" {
		t.Errorf("while it is slow, the progress is %+v, and at the end %+v: want the reason only in the first", during, progress)
	}
	if want := []int{0, 3, 3, 0}; !slices.Equal(p.held[:4], want) {
		t.Errorf("the first slices hold %v back, want %v", p.held[:4], want)
	}
}

func (p *fleetPlay) ask() (progress fleet.Progress) {
	p.t.Helper()
	answer, err := p.env.QueryWorkflow(fleet.Query)
	if err == nil {
		err = answer.Get(&progress)
	}
	if err != nil {
		p.t.Error(err)
	}
	return progress
}

func TestARunIsPausedAndResumed(t *testing.T) {
	p := newFleetPlay(t, 100)
	var atPause fleet.Tally
	p.during["wave 3"] = func() { p.env.SignalWorkflow(fleet.Pause, nil) }
	p.during["waves paused"] = func() {
		p.env.RegisterDelayedCallback(func() { atPause = p.ask().Tally }, time.Minute)
		p.env.RegisterDelayedCallback(func() {
			if now := p.ask(); now.Tally != atPause || now.State != fleet.Paused {
				t.Errorf("an hour after the pause it is %+v, want it paused at %+v", now, atPause)
			}
			p.env.SignalWorkflow(fleet.Resume, nil)
		}, time.Hour)
	}
	progress, err := p.run(fleet.Options{})
	p.wantDone(progress, err, fleet.Tally{Changed: 100})
}

func TestACancelEndsARun(t *testing.T) {
	p := newFleetPlay(t, 100)
	p.during["wave 2"] = p.env.CancelWorkflow
	_, err := p.run(fleet.Options{})
	if _, canceled := errors.AsType[*temporal.CanceledError](err); !canceled {
		t.Errorf("a cancelled run ends with %v, want it cancelled", err)
	}
	if last := p.did[len(p.did)-1]; last != "waves cancelled" {
		t.Errorf("the ledger's last entry is %q, want the cancel", last)
	}
}

// However many churches there are, a history stays short.
func TestALongRunContinuesAsNew(t *testing.T) {
	p := newFleetPlay(t, 5000)
	_, err := p.run(fleet.Options{})
	if _, again := errors.AsType[*workflow.ContinueAsNewError](err); !again {
		t.Fatalf("a run of 500 slices ends with %v, want it to continue as new", err)
	}
	slices := len(p.did)
	if slices > 2*slicesOfAHistory {
		t.Errorf("it ran %d activities before, want about %d", slices, slicesOfAHistory)
	}
}

// A pause that arrives while an earlier resume is still being entered must reach the history that the run continues in.
func TestNoSignalIsLostWhenARunContinuesAsNew(t *testing.T) {
	p := newFleetPlay(t, 5000)
	p.duringSlice = map[int]func(){slicesOfAHistory - 1: func() { p.env.SignalWorkflow(fleet.Pause, nil) }}
	p.during["waves paused"] = func() {
		p.during["waves running"] = func() { p.env.SignalWorkflow(fleet.Pause, nil) }
		p.env.RegisterDelayedCallback(func() { p.env.SignalWorkflow(fleet.Resume, nil) }, time.Minute)
	}
	var states []fleet.State
	p.env.RegisterDelayedCallback(func() {
		states = append(states, p.ask().State)
		p.env.SignalWorkflow(fleet.Resume, nil)
	}, 12*time.Hour)
	_, err := p.run(fleet.Options{})
	if _, again := errors.AsType[*workflow.ContinueAsNewError](err); !again || !slices.Equal(states, []fleet.State{fleet.Paused}) {
		t.Errorf("hours after the second pause the run was %v, and ended with %v; want it paused, and continued when resumed", states, err)
	}
}

// A rehearsal touches no church, nor does a run whose rehearsal fails.
func TestARunIsRehearsedFirst(t *testing.T) {
	in := fleet.Input{RunID: "r1", Server: "db:5432", Version: 2, Rehearse: true}
	p := newFleetPlay(t, 3)
	if progress, err := p.runOf(in); err != nil || progress.Tally.Changed != 3 || p.did[0] != "rehearse" {
		t.Errorf("it did %v and ends as %+v (%v), want it rehearsed and then changed", p.did, progress, err)
	}
	p = newFleetPlay(t, 3)
	p.rehearsed = "000002_x.up.sql: a table is missing"
	_, err := p.runOf(in)
	if err == nil || !strings.Contains(err.Error(), "the rehearsal failed: t1: 000002_x.up.sql: a table is missing") || len(p.did) != 1 {
		t.Errorf("it did %v and ends with %v, want it to end with the rehearsal", p.did, err)
	}
	p = newFleetPlay(t, 3)
	in.Only = true
	if progress, err := p.runOf(in); err != nil || len(p.did) != 1 || progress.Rehearsal == nil {
		t.Errorf("it did %v and ends as %+v (%v), want only the rehearsal", p.did, progress, err)
	}
}

// The ledger must not list a failed run as running: no other run over the server could start.
func TestARunThatFailsEndsInTheLedger(t *testing.T) {
	p := newFleetPlay(t, 13)
	p.lost = errors.New("another release's worker refused it")
	_, err := p.run(fleet.Options{})
	if err == nil || !strings.Contains(err.Error(), p.lost.Error()) {
		t.Errorf("the run ends with %v, want %v", err, p.lost)
	}
	if last := p.did[len(p.did)-1]; last != "late cancelled" || p.entered.Reason != "it failed: "+p.lost.Error() {
		t.Errorf("the ledger's last entry is %q because %q, want that the run was cancelled because it failed", last, p.entered.Reason)
	}
}
