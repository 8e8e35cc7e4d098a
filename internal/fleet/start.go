package fleet

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

var (
	// ErrBusy means that another run over the same server's churches is active.
	ErrBusy = errors.New("another run over this server's churches is active")
	// ErrNotRunning means that no run over a server's churches is active.
	ErrNotRunning = errors.New("no run is active")
	// ErrRefused means that a worker refused the run. The error says why.
	ErrRefused = errors.New("the run was refused")
	// ErrRehearsal means that the run's rehearsal failed. The error says why.
	ErrRehearsal = errors.New("no church was touched")
	// ErrCancelled means that an operator cancelled the run.
	ErrCancelled = errors.New("the run was cancelled")
)

// Start starts a run. Errors: ErrBusy, or why Temporal did not answer, in which case the run may have started.
func Start(ctx context.Context, c client.Client, taskQueue string, in Input) error {
	summary := fmt.Sprintf("migrate the churches on %s to schema version %d", in.Server, in.Version)
	if in.Undoes != "" {
		summary = fmt.Sprintf("undo run %s over the churches on %s", in.Undoes, in.Server)
	}
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: WorkflowID(in.Server), TaskQueue: taskQueue, StaticSummary: summary,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    temporal.NewSearchAttributes(StateAttribute.ValueSet(string(Running))),
	}, Workflow, in)
	if _, running := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); running {
		return ErrBusy
	}
	if err != nil {
		return fmt.Errorf("start the run: %w", err)
	}
	return nil
}

// Wait waits for the end of the active run over a server's churches, or of the last one.
// Errors: ErrRefused, ErrRehearsal, ErrCancelled, or why Temporal did not answer.
func Wait(ctx context.Context, c client.Client, server string) (Progress, error) {
	var progress Progress
	err := c.GetWorkflow(ctx, WorkflowID(server), "").Get(ctx, &progress)
	if failure, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		if failure.Type() == ErrorRehearsal {
			return Progress{}, fmt.Errorf("%w: %s", ErrRehearsal, failure.Message())
		}
		return Progress{}, fmt.Errorf("%w: %s", ErrRefused, failure.Message())
	}
	if temporal.IsCanceledError(err) {
		return Progress{}, ErrCancelled
	}
	if err != nil {
		return Progress{}, fmt.Errorf("wait for the run: %w", err)
	}
	return progress, nil
}

// Look asks the last run over a server's churches how far it is, also if it is not in the ledger yet. If it has ended, only
// its state is known. Errors: ErrNotRunning if there is none.
func Look(ctx context.Context, c client.Client, server string) (Progress, error) {
	described, err := c.DescribeWorkflowExecution(ctx, WorkflowID(server), "")
	if err != nil {
		return Progress{}, ifRunning(err, "look for")
	}
	switch described.GetWorkflowExecutionInfo().GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return Progress{Server: server, State: Completed}, nil
	default: // the ledger calls failed runs cancelled too
		return Progress{Server: server, State: Cancelled}, nil
	}
	answer, err := c.QueryWorkflow(ctx, WorkflowID(server), "", Query)
	if err != nil {
		return Progress{}, ifRunning(err, "ask")
	}
	var progress Progress
	err = answer.Get(&progress)
	return progress, err
}

// Tell sends a signal to the active run over a server's churches. Errors: ErrNotRunning.
func Tell(ctx context.Context, c client.Client, server, signal string) error {
	return ifRunning(c.SignalWorkflow(ctx, WorkflowID(server), "", signal, nil), signal)
}

// Cancel cancels the active run over a server's churches. Changed churches stay changed. Errors: ErrNotRunning.
func Cancel(ctx context.Context, c client.Client, server string) error {
	found, err := c.DescribeWorkflow(ctx, WorkflowID(server), "") // Temporal accepts a cancel of what has ended, and does nothing
	if err == nil && found.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return ErrNotRunning
	}
	if err == nil {
		err = c.CancelWorkflow(ctx, WorkflowID(server), "")
	}
	return ifRunning(err, "cancel")
}

func ifRunning(err error, what string) error {
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("%s the run: %w", what, err)
	}
	return nil
}
