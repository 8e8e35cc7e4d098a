package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/readydb"
)

// KeepPool keeps databases ready for signups, round after round, until it is cancelled. Histories contain its name.
func (w *Workflows) KeepPool(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, keeping)
	for range readydb.Rounds {
		if err := workflow.ExecuteActivity(ctx, readydb.Keep).Get(ctx, nil); err != nil {
			return err // cancelled: other errors are retried without limit
		}
	}
	return workflow.NewContinueAsNewError(ctx, readydb.Workflow)
}

var keeping = workflow.ActivityOptions{
	Summary:             "keep databases ready, for a minute",
	StartToCloseTimeout: 10 * readydb.Round,
	HeartbeatTimeout:    readydb.Round / 2,
	RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
}
