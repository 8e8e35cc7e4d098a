package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/orphan"
)

// SweepOrphans searches all servers and the registry for what belongs to no church and no signup, and removes what is
// due, one after the other, with pauses. A cancelled sweep finishes the current removal and returns what it has done
// in the details of its CanceledError.
func (w *Workflows) SweepOrphans(ctx workflow.Context, in orphan.Sweep) (orphan.Result, error) {
	var result orphan.Result
	looking := sweeping
	looking.Summary = "look for orphans"
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, looking), orphan.Find, in).Get(ctx, &result)
	if err != nil || in.DryRun {
		return result, err
	}
	removal := ctx
	honest := workflow.GetVersion(ctx, "honest cancel", workflow.DefaultVersion, 1) != workflow.DefaultVersion
	if honest {
		removal, _ = workflow.NewDisconnectedContext(ctx)
	}
	pause := w.sweepPause()
	if in.Only != "" {
		pause = 0 // there are at most two, and an operator is waiting
	}
	stopped := removeDue(ctx, removal, result.Found, pause)
	if stopped && honest {
		return result, temporal.NewCanceledError(result)
	}
	return result, nil
}

// removeDue removes what is due and records what was done. The rest waits for the next sweep: what failed, what exceeds
// AtOnce, and what a cancel has left. It reports whether a cancel has left any. Removals run on a context of their own,
// so a removal that has begun is finished.
func removeDue(ctx, removal workflow.Context, found []orphan.Found, pause time.Duration) (stopped bool) {
	done := 0
	for i := range found {
		f := &found[i]
		if !f.Action.Removes() {
			continue
		}
		if done == orphan.AtOnce {
			f.Action = orphan.Wait
			continue
		}
		if done > 0 && !stopped {
			rest := workflow.NewTimerWithOptions(ctx, pause, workflow.TimerOptions{Summary: "a pause between removals"})
			stopped = rest.Get(ctx, nil) != nil // it fails only if it is cancelled
		}
		if stopped {
			f.Action = orphan.Wait
			continue
		}
		done++
		remove(removal, f)
	}
	return stopped
}

// remove takes the action that is due for an orphan. If it is cancelled, the orphan waits for the next sweep.
func remove(ctx workflow.Context, f *orphan.Found) {
	options := sweeping
	options.Summary = string(f.Action) + " " + string(f.Kind) + " " + f.ID
	var did orphan.Action
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), orphan.Remove, f.Orphan).Get(ctx, &did)
	switch {
	case err == nil:
		f.Did(did, workflow.Now(ctx))
	case temporal.IsCanceledError(err):
		f.Action = orphan.Wait
	default:
		workflow.GetLogger(ctx).Error("An orphan could not be removed; the next sweep tries again", "kind", f.Kind, "id", f.ID)
		f.Action = orphan.Failed
	}
}

func (w *Workflows) sweepPause() time.Duration {
	if w.Pause > 0 {
		return w.Pause
	}
	return 10 * time.Second
}

// There is a sweep every day, so its activities need not be retried forever.
var sweeping = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5,
	},
}
