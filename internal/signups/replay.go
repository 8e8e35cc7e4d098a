package signups

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/codec"
	"narthex/internal/release"
	"narthex/internal/signup"
)

// What a signup cannot be asked for.
var (
	ErrRunning   = errors.New("it is running")
	ErrSucceeded = errors.New("it has succeeded")
	ErrClosed    = errors.New("it has ended")
	ErrNewer     = errors.New("another signup of the same email came after it")
	ErrNoWorker  = errors.New("no worker takes signups from the task queue: start one with `narthex worker`")
)

// CheckWorker looks whether a worker is there to run signups. Errors: ErrNoWorker.
func (o *Operator) CheckWorker(ctx context.Context) error {
	polls, err := release.Polls(ctx, o.Temporal, o.TaskQueue, "")
	if err == nil && !polls {
		return ErrNoWorker
	}
	return err
}

// Replay starts a failed signup again with its own input, and returns the new run. One that was rolled back
// begins anew. One that was terminated goes on with what it has made: its run is reset to its beginning. A
// tenant id that is not empty must be the newest signup's of the workflow.
// Errors: ErrNotFound, ErrRunning, ErrSucceeded, ErrNewer.
func (o *Operator) Replay(ctx context.Context, workflowID, tenantID string) (Run, error) {
	newest, err := o.describe(ctx, workflowID)
	if err != nil {
		return Run{}, err
	}
	if tenantID != "" && newest.TenantID != tenantID {
		return Run{}, ErrNewer
	}
	last := newest.Run
	status, err := o.Read(ctx, last)
	if err != nil {
		return Run{}, err
	}
	switch status.State {
	case Running:
		return Run{}, ErrRunning
	case Completed:
		return Run{}, ErrSucceeded
	case Failed:
		return o.takeUp(ctx, last)
	}
	return o.startAgain(ctx, last)
}

func (o *Operator) startAgain(ctx context.Context, last Run) (Run, error) {
	history := o.Temporal.GetWorkflowHistory(ctx, last.WorkflowID, last.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	started, err := history.Next()
	if err != nil {
		return Run{}, inTemporal("read the signup's input", err)
	}
	var in signup.Input
	if err := codec.Converter(o.Keys).FromPayloads(started.GetWorkflowExecutionStartedEventAttributes().GetInput(), &in); err != nil {
		return Run{}, errors.New("the signup's input cannot be read: its seal key may have been retired")
	}
	options := signup.StartOptions(o.TaskQueue, in, false)
	options.ID = last.WorkflowID // the email's index may have another key by now
	run, err := o.Temporal.ExecuteWorkflow(ctx, options, signup.Workflow, in)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return Run{}, ErrRunning
	}
	if err != nil {
		return Run{}, fmt.Errorf("start the signup: %w", err)
	}
	return Run{run.GetID(), run.GetRunID()}, nil
}

// takeUp resets a run to its beginning: what the new one makes belongs to the same signup.
func (o *Operator) takeUp(ctx context.Context, last Run) (Run, error) {
	first, err := o.firstTask(ctx, last)
	if err != nil {
		return Run{}, err
	}
	if first == nil { // it was ended before a worker had it
		return o.startAgain(ctx, last)
	}
	reset, err := o.Temporal.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: o.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: last.WorkflowID, RunId: last.RunID},
		Reason: "replayed by an operator", WorkflowTaskFinishEventId: first.EventId + 1, // how the task ended, if it did
	})
	if err != nil {
		return Run{}, inTemporal("reset the signup", err)
	}
	return Run{last.WorkflowID, reset.RunId}, nil
}

func (o *Operator) firstTask(ctx context.Context, run Run) (*historypb.HistoryEvent, error) {
	history := o.Temporal.GetWorkflowHistory(ctx, run.WorkflowID, run.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return nil, inTemporal("read history", err)
		}
		if event.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED { // it need not have been completed: quick steps leave nothing else
			return event, nil
		}
	}
	return nil, nil
}

// Await waits until a run has ended, or ctx has, and returns how it stands.
func (o *Operator) Await(ctx context.Context, run Run) (Status, error) {
	err := o.Temporal.GetWorkflow(ctx, run.WorkflowID, run.RunID).GetWithOptions(ctx, nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	var ended *temporal.WorkflowExecutionError
	if err != nil && !errors.As(err, &ended) && ctx.Err() == nil {
		return Status{}, inTemporal("wait for the signup", err)
	}
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	return o.Read(reading, run)
}

// readLimit bounds a last look at how a signup stands.
const readLimit = 10 * time.Second
