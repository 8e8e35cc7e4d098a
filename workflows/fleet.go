package workflows

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/fleet"
)

// FleetMigration brings one server's churches to one version of the schema: first the template for new churches, then a few
// canaries, which are watched for a while, then the others in growing waves, and last those that signups have created in
// the meantime. It has no compensations: churches work at both versions, so a run can stop anywhere, and an operator can
// undo it with another run.
func (w *Workflows) FleetMigration(ctx workflow.Context, in fleet.Input) (fleet.Progress, error) {
	ctx = workflow.WithActivityOptions(ctx, w.fleetWork())
	r, err := newFleetRun(ctx, in, cmp.Or(w.FleetPause, fleet.SignupTime))
	if err != nil {
		return fleet.Progress{}, err
	}
	err = r.run(ctx)
	if err != nil && !workflow.IsContinueAsNewError(err) && r.Progress.Stage != fleet.Rehearsing {
		r.endEarly(ctx, err)
	}
	return r.Progress, err
}

// fleetRun is a run and its position.
type fleetRun struct {
	in fleet.Input
	fleet.Position
	entering workflow.Mutex
	heeding  func() bool   // reports whether a signal is being handled, or waits for that
	slices   int           // since the workflow last continued as new
	pause    time.Duration // before it looks for churches of late signups
}

func newFleetRun(ctx workflow.Context, in fleet.Input, pause time.Duration) (*fleetRun, error) {
	r := &fleetRun{in: in, entering: workflow.NewMutex(ctx), pause: pause}
	r.in.Options = in.Options.WithDefaults()
	r.Progress = fleet.Progress{RunID: in.RunID, Server: in.Server, Stage: fleet.Rehearsing, State: fleet.Running}
	if in.Resumed != nil {
		r.Position = *in.Resumed
	}
	err := workflow.SetQueryHandler(ctx, fleet.Query, func() (fleet.Progress, error) { return r.Progress, nil })
	workflow.Go(ctx, r.listen)
	return r, err
}

// run goes from stage to stage. A run that has continued as new resumes at its last stage.
func (r *fleetRun) run(ctx workflow.Context) error {
	for r.Progress.Stage != fleet.Done {
		if r.Progress.Stage != fleet.Rehearsing { // the ledger doesn't know the run yet
			if err := r.enter(ctx, r.Progress.State, r.Progress.Reason); err != nil {
				return err
			}
		}
		if err := r.do(ctx); err != nil {
			return err
		}
		r.Progress.Stage = r.Progress.Next()
		if r.in.Only {
			return nil
		}
	}
	return r.enter(ctx, fleet.Completed, "")
}

func (r *fleetRun) do(ctx workflow.Context) error {
	switch r.Progress.Stage {
	case fleet.Rehearsing:
		return r.rehearse(ctx)
	case fleet.Preparing:
		return r.open(ctx)
	case fleet.Canaries:
		return r.changeWave(ctx, 0)
	case fleet.Soaking:
		return r.soak(ctx)
	case fleet.Waves:
		return r.changeWaves(ctx)
	default:
		return r.changeLate(ctx)
	}
}

// rehearse makes the change on copies. If one fails, the run ends before any church is touched.
func (r *fleetRun) rehearse(ctx workflow.Context) error {
	if !r.in.Rehearse {
		return nil
	}
	if err := do(ctx, fleet.Rehearse, r.in, &r.Progress.Rehearsal, "rehearse on copies of a few churches"); err != nil {
		return err
	}
	if failure := r.Progress.Rehearsal.Failure(); failure != "" {
		return temporal.NewNonRetryableApplicationError("the rehearsal failed: "+failure, fleet.ErrorRehearsal, nil)
	}
	return nil
}

// open enters the run and its churches in the ledger.
func (r *fleetRun) open(ctx workflow.Context) error {
	if err := do(ctx, fleet.Open, r.in, &r.Progress.Tally, "list the churches"); err != nil {
		return err
	}
	r.Patience = r.in.Options.Budget(r.Progress.Tally.All())
	return nil
}

func (r *fleetRun) changeWaves(ctx workflow.Context) error {
	for r.Wave = max(1, r.Wave); r.Wave <= fleet.LastWave; r.Wave++ {
		if err := r.changeWave(ctx, r.Wave); err != nil {
			return err
		}
	}
	return nil
}

// changeWave changes what is left of a wave and of earlier ones, slice by slice, while the run is running.
func (r *fleetRun) changeWave(ctx workflow.Context, wave int) error {
	for {
		if err := r.awaitRunning(ctx); err != nil {
			return err
		}
		slice := fleet.Slice{
			RunID: r.in.RunID, Server: r.in.Server, Wave: wave, Budget: r.Patience,
			AtOnce: r.in.Options.AtOnce, Rate: r.in.Options.Rate, Held: r.Held,
			Limits: r.in.Options.Limits, Bounds: r.in.Options.Bounds,
		}
		var result fleet.Result
		if err := do(ctx, fleet.Change, slice, &result, "change churches: "+r.Progress.Tally.Words()); err != nil {
			return err
		}
		r.Progress.Tally, r.Held = result.Tally, result.Held
		if r.Progress.State == fleet.Running {
			r.Progress.Reason = result.Reason
		}
		workflow.SetCurrentDetails(ctx, r.Progress.Words())
		if result.Tally.Failed >= r.Patience {
			if err := r.halt(ctx, result.Tally.TooMany()); err != nil {
				return err
			}
		} else if result.Left == 0 && r.Progress.State == fleet.Running {
			return nil
		}
		r.slices++
	}
}

// soak watches the canaries.
func (r *fleetRun) soak(ctx workflow.Context) error {
	if r.SoakUntil.IsZero() {
		r.SoakUntil = workflow.Now(ctx).Add(r.in.Options.Soak)
	}
	for {
		left := r.SoakUntil.Sub(workflow.Now(ctx))
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, min(left, fleet.ProbePause), "watch the canaries"); err != nil {
			return err
		}
		if err := r.awaitRunning(ctx); err != nil {
			return err
		}
		var problems []string
		watch := fleet.Watch{RunID: r.in.RunID, Server: r.in.Server, ResumedAt: r.ResumedAt}
		if err := do(ctx, fleet.Probe, watch, &problems, "probe the canaries"); err != nil {
			return err
		}
		if len(problems) > 0 {
			if err := r.halt(ctx, "the canaries are worse than before: "+strings.Join(problems, "; ")); err != nil {
				return err
			}
		}
		r.slices++
	}
}

// changeLate changes churches that signups on the previous release's workers have created with the older schema since.
func (r *fleetRun) changeLate(ctx workflow.Context) error {
	if r.in.Undoes != "" || r.in.Retries != "" {
		return nil
	}
	for {
		if err := sleep(ctx, r.pause, "wait until signups that had already started have finished"); err != nil {
			return err
		}
		if err := do(ctx, fleet.Extend, r.in, &r.Progress.Tally, "look for churches that signups have created since"); err != nil {
			return err
		}
		if r.Progress.Tally.Waiting == 0 {
			return nil
		}
		if err := r.changeWave(ctx, fleet.LastWave); err != nil {
			return err
		}
	}
}

// listen handles signals for as long as the run lasts.
func (r *fleetRun) listen(ctx workflow.Context) {
	signals := workflow.NewSelector(ctx)
	handling := false
	r.heeding = func() bool { return handling || signals.HasPending() }
	heed := func(signal string, do func()) {
		signals.AddReceive(workflow.GetSignalChannel(ctx, signal), func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			handling = true
			do()
			handling = false
		})
	}
	heed(fleet.Pause, func() { _ = r.enter(ctx, fleet.Paused, "an operator paused it") })
	heed(fleet.Resume, func() { _ = r.resume(ctx) })
	heed(fleet.Retry, func() {
		if do(ctx, fleet.Requeue, r.in.RunID, &r.Progress.Tally, "requeue failed churches") == nil {
			_ = r.resume(ctx)
		}
	})
	for ctx.Err() == nil {
		signals.Select(ctx)
	}
}

// resume continues a paused or halted run. From then on, it allows as many failures again, and compares the canaries'
// failed requests with those before.
func (r *fleetRun) resume(ctx workflow.Context) error {
	r.Patience, r.ResumedAt = r.Progress.Tally.Failed+r.in.Options.Budget(r.Progress.Tally.All()), workflow.Now(ctx)
	return r.enter(ctx, fleet.Running, "")
}

func (r *fleetRun) halt(ctx workflow.Context, reason string) error {
	return r.enter(ctx, fleet.Halted, reason)
}

// endEarly records in the ledger that the run is over. As long as it counts as active there, no other run over its server
// can start.
func (r *fleetRun) endEarly(ctx workflow.Context, err error) {
	reason := "an operator cancelled it"
	if !temporal.IsCanceledError(err) {
		reason = "it failed: " + err.Error()
		if failure, ok := errors.AsType[*temporal.ApplicationError](err); ok {
			reason = "it failed: " + failure.Message()
		}
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	_ = r.enter(ctx, fleet.Cancelled, reason) // it is retried until it succeeds
}

// awaitRunning waits until the run is running. If its history is long by then, the run continues as new, once it has heeded all
// signals: what this history has received doesn't reach the next.
func (r *fleetRun) awaitRunning(ctx workflow.Context) error {
	err := workflow.Await(ctx, func() bool {
		return r.Progress.State == fleet.Running && (r.slices < slicesOfAHistory || !r.heeding())
	})
	if err != nil || r.slices < slicesOfAHistory {
		return err
	}
	again := r.in
	again.Resumed = &r.Position
	return workflow.NewContinueAsNewError(ctx, fleet.Workflow, again)
}

const slicesOfAHistory = 100

// enter records the run's state for people and for ChangeChurches, which claims churches only while the run is running.
func (r *fleetRun) enter(ctx workflow.Context, state fleet.State, reason string) error {
	r.Progress.State, r.Progress.Reason = state, reason
	if err := r.entering.Lock(ctx); err != nil {
		return err
	}
	defer r.entering.Unlock()
	state = r.Progress.State // the newest, if it has changed since
	if err := workflow.UpsertTypedSearchAttributes(ctx, fleet.StateAttribute.ValueSet(string(state))); err != nil {
		return err
	}
	return do(ctx, fleet.Enter, r.Progress, nil, string(r.Progress.Stage)+": "+string(state))
}

func sleep(ctx workflow.Context, d time.Duration, summary string) error {
	return workflow.NewTimerWithOptions(ctx, d, workflow.TimerOptions{Summary: summary}).Get(ctx, nil)
}

// do runs one of the run's activities, however long it takes. A cancel waits until the activity has finished.
func do(ctx workflow.Context, activity string, in, out any, summary string) error {
	options := workflow.GetActivityOptions(ctx)
	options.Summary = summary
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, in).Get(ctx, out)
}

func (w *Workflows) fleetWork() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 24 * time.Hour, // an index of a large church may take hours; heartbeats tell that the worker lives
		HeartbeatTimeout:    cmp.Or(w.FleetPatience, 30*time.Second),
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second},
	}
}
