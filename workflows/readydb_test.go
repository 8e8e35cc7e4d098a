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

	"narthex/internal/readydb"
)

// keepReady runs KeepPool on a clock that skips waiting. round is called in each attempt of the activity.
func keepReady(t *testing.T, round func(env *testsuite.TestWorkflowEnvironment) error) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.RegisterActivityWithOptions(func(context.Context) error { return round(env) }, activity.RegisterOptions{Name: readydb.Keep})
	env.ExecuteWorkflow(new(Workflows).KeepPool)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return env.GetWorkflowError()
}

// A failed round is retried without limit, and after enough rounds the workflow continues as new.
func TestReadyDatabasesAreKeptInRounds(t *testing.T) {
	const failures = 9 // the test environment gives up after ten
	attempts := 0
	err := keepReady(t, func(*testsuite.TestWorkflowEnvironment) error {
		if attempts++; attempts <= failures {
			return errors.New("the server is down")
		}
		return nil
	})
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) || again.WorkflowType.Name != readydb.Workflow {
		t.Errorf("it ends with %v, want it to continue as a new run of %s", err, readydb.Workflow)
	}
	if want := failures + readydb.Rounds; attempts != want {
		t.Errorf("databases were kept ready %d times, want %d", attempts, want)
	}
	if keeping.RetryPolicy.MaximumAttempts != 0 || keeping.ScheduleToCloseTimeout != 0 {
		t.Errorf("a round is tried %d times within %s, want it to be tried without limit",
			keeping.RetryPolicy.MaximumAttempts, keeping.ScheduleToCloseTimeout)
	}
}

func TestACancelEndsTheKeeper(t *testing.T) {
	err := keepReady(t, func(env *testsuite.TestWorkflowEnvironment) error {
		env.CancelWorkflow()
		return nil
	})
	if _, ok := errors.AsType[*temporal.CanceledError](err); !ok {
		t.Errorf("it ends with %v, want a CanceledError", err)
	}
}
