package runs

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/saga"
)

// How a run that didn't complete ended.
var (
	ErrRefused    = errors.New("the email is taken")
	ErrRolledBack = errors.New("it was rolled back")
	ErrTerminated = errors.New("it was terminated")
)

// Start starts a run. Errors: ErrRunning, if a run with the same workflow id is running, or why Temporal did not answer, in
// which case the run may have started.
func (o *Operator) Start(ctx context.Context, options client.StartWorkflowOptions, input any) (Run, error) {
	run, err := o.Temporal.ExecuteWorkflow(ctx, options, o.Workflow, input)
	if _, running := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); running {
		return Run{}, ErrRunning
	}
	if err != nil {
		return Run{}, fmt.Errorf("start the %s: %w", o.Noun, err)
	}
	return Run{run.GetID(), run.GetRunID()}, nil
}

// Wait waits until a run or ctx has ended, and reports whether the run has completed. If it is still running, or its
// status can't be read, Wait returns false and no error. Errors: ErrRefused, ErrRolledBack, ErrTerminated, ErrNotFound.
func (o *Operator) Wait(ctx context.Context, run Run) (completed bool, err error) {
	err = o.Temporal.GetWorkflow(ctx, run.WorkflowID, run.RunID).Get(ctx, nil)
	if err == nil {
		return true, nil
	}
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return false, ErrNotFound
	}
	if _, ended := errors.AsType[*temporal.WorkflowExecutionError](err); !ended {
		return false, nil
	}
	if failure, ok := errors.AsType[*temporal.ApplicationError](err); ok && failure.Type() == saga.ErrorEmailTaken {
		return false, ErrRefused
	}
	if _, terminated := errors.AsType[*temporal.TerminatedError](err); terminated {
		return false, ErrTerminated
	}
	return false, ErrRolledBack
}
