package workflows

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/pool"
)

// keepPool runs KeepPool, on a clock that skips waiting, with an activity that each of its attempts asks.
func keepPool(t *testing.T, round func(env *testsuite.TestWorkflowEnvironment) error) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.RegisterActivityWithOptions(func(context.Context) error { return round(env) }, activity.RegisterOptions{Name: pool.Keep})
	env.ExecuteWorkflow(new(Workflows).KeepPool)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return env.GetWorkflowError()
}

// A round that fails is tried again for as long as it takes, and the workflow goes on as a new run after so many.
func TestThePoolIsKeptRoundAfterRound(t *testing.T) {
	const failures = 9 // the environment gives up after ten
	attempts := 0
	err := keepPool(t, func(*testsuite.TestWorkflowEnvironment) error {
		if attempts++; attempts <= failures {
			return errors.New("the server is away")
		}
		return nil
	})
	var anew *workflow.ContinueAsNewError
	if !errors.As(err, &anew) || anew.WorkflowType.Name != pool.Workflow {
		t.Errorf("it ends with %v, want it to go on as a new run of %s", err, pool.Workflow)
	}
	if want := failures + pool.Rounds; attempts != want {
		t.Errorf("the pool was kept %d times, want %d", attempts, want)
	}
	if keeping.RetryPolicy.MaximumAttempts != 0 || keeping.ScheduleToCloseTimeout != 0 {
		t.Errorf("a round is tried %d times within %s, want it tried without limit", keeping.RetryPolicy.MaximumAttempts, keeping.ScheduleToCloseTimeout)
	}
}

func TestACancelEndsTheKeepingOfThePool(t *testing.T) {
	err := keepPool(t, func(env *testsuite.TestWorkflowEnvironment) error {
		env.CancelWorkflow()
		return nil
	})
	var cancelled *temporal.CanceledError
	if !errors.As(err, &cancelled) {
		t.Errorf("it ends with %v, want a CanceledError", err)
	}
}
