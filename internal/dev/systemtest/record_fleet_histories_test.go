package systemtest

import (
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/dev/teststack"
	"narthex/internal/fleet"
)

// fleetThat lets a run over a fleet come to some stage.
func fleetThat(comes func(*teststack.Fleet) client.WorkflowRun) func(t *testing.T) (*teststack.Stack, string) {
	return func(t *testing.T) (*teststack.Stack, string) {
		t.Helper()
		f := teststack.NewFleet(t, fleetSize)
		f.Work()
		return f.Stack, comes(f).GetID()
	}
}

// isChanging is a run that is at a canary.
func isChanging(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	lockBranches(f, f.Churches)
	in := fleetInput(f)
	in.Options.Limits.Patience = time.Minute
	run := startRun(f, in)
	teststack.Eventually(f.T, "a canary is being changed", func() (so bool) {
		teststack.Row(f.T, f.Registry, `SELECT EXISTS (SELECT FROM fleet_changes WHERE state = 'changing')`, nil, &so)
		return so
	})
	return run
}

// soaks is a run that has looked at its canaries.
func soaks(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	in := fleetInput(f)
	in.Options.Soak = time.Hour
	run := startRun(f, in)
	teststack.Eventually(f.T, "the canaries are probed", func() bool { return len(f.Faults.Succeeded(fleet.Probe)) > 0 })
	return run
}

// isPaused is a run that was paused, resumed and paused again.
func isPaused(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	run := soaks(f)
	for _, c := range []struct {
		signal string
		state  fleet.State
	}{{fleet.Pause, fleet.Paused}, {fleet.Resume, fleet.Running}, {fleet.Pause, fleet.Paused}} {
		signal(f, run, c.signal)
		awaitState(f, run, c.state)
	}
	return run
}

// isHalted is a run of which all canaries failed.
func isHalted(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	lockBranches(f, f.Churches)
	run := startRun(f, fleetInput(f))
	awaitState(f, run, fleet.Halted)
	return run
}

// isCancelled is a run that was cancelled while it was changing churches.
func isCancelled(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	in := fleetInput(f)
	f.Faults.Always(fleet.Change, cancellingRun(f.Stack, "fleet-"+in.RunID))
	run := startRun(f, in)
	err := run.Get(f.T.Context(), nil)
	var recorded fleet.State
	teststack.Row(f.T, f.Registry, `SELECT state FROM fleet_runs`, nil, &recorded)
	if !temporal.IsCanceledError(err) || recorded != fleet.Cancelled {
		f.T.Fatalf("the run ends with %v, and as %s in the ledger; want it cancelled", err, recorded)
	}
	return run
}

// hasContinued is a run that has continued as new, and ended then. Its slices change nothing for as long as the ledger has it as
// paused, which the workflow doesn't know.
func hasContinued(f *teststack.Fleet) client.WorkflowRun {
	f.T.Helper()
	pause := func(run func() error) error {
		_, err := f.Registry.Exec(f.T.Context(), `UPDATE fleet_runs SET state = 'paused'`)
		if err != nil {
			return err
		}
		return run()
	}
	f.Faults.Always(fleet.Change, pause)
	run := startRun(f, fleetInput(f))
	teststack.Eventually(f.T, "the run has continued as new", func() bool {
		described, err := f.Temporal.DescribeWorkflowExecution(f.T.Context(), run.GetID(), run.GetRunID())
		return err == nil && described.WorkflowExecutionInfo.Status == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
	})
	f.Faults.Reset()
	if _, err := f.Registry.Exec(f.T.Context(), `UPDATE fleet_runs SET state = 'running'`); err != nil {
		f.T.Fatal(err)
	}
	if err := run.Get(f.T.Context(), nil); err != nil {
		f.T.Fatal(err)
	}
	return run
}
