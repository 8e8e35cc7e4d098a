package saga

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Steps are bounded: each ends, one way or the other, and its quick attempt with it, inside the time that the API
// waits by default.
// Cancelling waits for the attempt in hand, so that it is over before it is undone.
var forward = workflow.ActivityOptions{
	StartToCloseTimeout:    4 * time.Second,
	ScheduleToCloseTimeout: 8500 * time.Millisecond,
	WaitForCancellation:    true,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second,
	},
}

// The first attempt of a step ends before the workflow task in which it is made is extended.
var quick = workflow.LocalActivityOptions{
	ScheduleToCloseTimeout: 1500 * time.Millisecond,
	RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
}

// Compensations are tried until they work, however long that takes.
var backward = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Second,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
	},
}

// patience is how long a compensation may fail before an operator is told of it.
const patience = time.Minute
