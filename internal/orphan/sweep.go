package orphan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Workflow is the registered name of the sweep. It takes a Sweep and returns a Result. A sweep that is cancelled
// between two removals has its Result in the details of its CanceledError.
const Workflow = "SweepOrphans"

// The sweep's activities.
const (
	Find   = "FindOrphans"  // Sweep → Result
	Remove = "RemoveOrphan" // Orphan → what was done, an Action
)

// Sweep is the input of a sweep.
type Sweep struct {
	DryRun bool   `json:"dryRun,omitempty"` // only look: record nothing, remove nothing
	Only   string `json:"only,omitempty"`   // remove only the orphans with this id, without waiting for the grace period
}

var (
	// ErrNotTaken means that no worker took the sweep. It was terminated.
	ErrNotTaken = errors.New("no worker has taken it: is another release current? See `narthex worker promote`")
	// ErrCancelled means that the sweep was cancelled. The Result says what it did before that.
	ErrCancelled = errors.New("it was cancelled")
)

// Start runs a sweep on a task queue and waits for it. Errors: ErrNotTaken, ErrCancelled, or why it failed.
func Start(ctx context.Context, c client.Client, taskQueue string, sweep Sweep) (Result, error) {
	summary := "look for orphans, by hand"
	if sweep.Only != "" {
		summary = "remove the orphan " + sweep.Only + ", by hand"
	}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "sweep-orphans-by-hand-" + rand.Text(), TaskQueue: taskQueue, StaticSummary: summary,
	}, Workflow, sweep)
	if err != nil {
		return Result{}, fmt.Errorf("start sweep: %w", err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		if !taken(ctx, c, run) {
			stop(ErrNotTaken)
		}
	}()
	var result Result
	err = run.Get(ctx, &result)
	var cancelled *temporal.CanceledError
	switch {
	case errors.Is(context.Cause(ctx), ErrNotTaken):
		return Result{}, ErrNotTaken
	case errors.As(err, &cancelled):
		return readCancelled(cancelled)
	case err != nil:
		return Result{}, fmt.Errorf("wait for sweep: %w", err)
	}
	return result, nil
}

// readCancelled returns what a cancelled sweep did before the cancel. Errors: ErrCancelled.
func readCancelled(cancelled *temporal.CanceledError) (Result, error) {
	var result Result
	if !cancelled.HasDetails() {
		return result, ErrCancelled
	}
	if err := cancelled.Details(&result); err != nil {
		return Result{}, fmt.Errorf("read what the cancelled sweep did: %w", err)
	}
	return result, ErrCancelled
}

const takePatience = 30 * time.Second

// taken reports whether a worker takes a sweep, and terminates it if none does.
func taken(ctx context.Context, c client.Client, run client.WorkflowRun) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(takePatience):
	}
	described, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
	if err != nil || described.GetPendingWorkflowTask().GetState() != enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED {
		return true
	}
	_ = c.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "no worker has taken it") // otherwise a worker might take it later
	return false
}
