package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/pool"
)

// KeepPool keeps databases ready for signups, round after round, until it is cancelled.
func (w *Workflows) KeepPool(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, keeping)
	for range pool.Rounds {
		if err := workflow.ExecuteActivity(ctx, pool.Keep).Get(ctx, nil); err != nil {
			return err // cancelled: it is retried without limit
		}
	}
	return workflow.NewContinueAsNewError(ctx, pool.Workflow)
}

var keeping = workflow.ActivityOptions{
	Summary:             "keep the stock of ready databases, for a minute",
	StartToCloseTimeout: 10 * pool.Round,
	HeartbeatTimeout:    pool.Round / 2,
	RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
}
