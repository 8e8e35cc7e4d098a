package saga

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Steps are bounded: each ends, including its quick attempt, within the time that the API waits by default, whether
// it succeeds or not.
// A cancel waits for the current attempt, so that it is over before it is undone.
var forward = workflow.ActivityOptions{
	StartToCloseTimeout:    4 * time.Second,
	ScheduleToCloseTimeout: 8500 * time.Millisecond,
	WaitForCancellation:    true,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second,
	},
}

// The first attempt of a step ends before its workflow task would have to be extended.
var quick = workflow.LocalActivityOptions{
	ScheduleToCloseTimeout: 1500 * time.Millisecond,
	RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
}

// Compensations are retried until they work, however long that takes.
var backward = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Second,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
	},
}

// patience is how long a compensation may fail before it is reported to operators.
const patience = time.Minute
