package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/orphan"
)

// SweepOrphans looks for what belongs to no church and no signup, on all servers and in the registry, and
// removes what was seen first long enough ago: one after the other, with pauses.
func (w *Workflows) SweepOrphans(ctx workflow.Context, in orphan.Sweep) (orphan.Result, error) {
	ctx = workflow.WithActivityOptions(ctx, sweeping)
	var result orphan.Result
	if err := workflow.ExecuteActivity(ctx, orphan.Find, in).Get(ctx, &result); err != nil || in.DryRun {
		return result, err
	}
	w.removeDue(ctx, result.Found)
	count(ctx, result)
	return result, nil
}

// removeDue removes what is due, and puts in what was done. What cannot be removed waits for the next sweep.
func (w *Workflows) removeDue(ctx workflow.Context, found []orphan.Found) {
	pause := 10 * time.Second
	if w.Pause > 0 {
		pause = w.Pause
	}
	done := 0
	for i := range found {
		f := &found[i]
		if f.Action != orphan.Rename && f.Action != orphan.Drop && f.Action != orphan.Delete {
			continue
		}
		if done++; done > orphan.AtOnce {
			f.Action = orphan.Wait
			continue
		}
		if done > 1 && workflow.Sleep(ctx, pause) != nil {
			return // cancelled
		}
		options := sweeping
		options.Summary = string(f.Action) + " " + string(f.Kind) + " " + f.ID
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), orphan.Remove, f.Orphan).Get(ctx, &f.Action)
		if err != nil {
			workflow.GetLogger(ctx).Error("An orphan could not be removed; the next sweep tries again", "kind", f.Kind, "id", f.ID)
			f.Action = orphan.Wait
		}
	}
}

// count tells how many orphans there still are, of each kind.
func count(ctx workflow.Context, result orphan.Result) {
	for _, kind := range []orphan.Kind{orphan.Database, orphan.Rows, orphan.Entry, orphan.Tenant} {
		left := result.Counts[kind]
		for _, f := range result.Found {
			if f.Kind == kind && (f.Action == orphan.Drop || f.Action == orphan.Delete || f.Action == orphan.Spare) {
				left--
			}
		}
		workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"kind": string(kind)}).Gauge("orphans_seen").Update(float64(left))
	}
}

// A sweep comes again tomorrow: it need not try for ever.
var sweeping = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5},
}
