package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/codec"
	"narthex/internal/release"
	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// Why a saga isn't replayed.
var (
	ErrRunning      = errors.New("it is running")
	ErrSucceeded    = errors.New("it has succeeded")
	ErrOtherRunning = errors.New("another one with the same email is running")
	ErrEmailTaken   = errors.New("another church has its email")
	ErrNoWorker     = errors.New("no worker polls the task queue: start one with `narthex worker`")
	ErrInput        = errors.New("its input can't be read: its seal key may have been retired")
)

// CheckWorker checks that a worker is running to take replayed sagas. Errors: ErrNoWorker.
func (o *Operator) CheckWorker(ctx context.Context) error {
	polls, err := release.Polls(ctx, o.Temporal, o.TaskQueue, "")
	if err == nil && !polls {
		return ErrNoWorker
	}
	return err
}

// Replayable returns the sagas to replay among those that have failed since a time. There is at most one per workflow id,
// because only one can have the email, and none if a later one has completed or is running. Terminated sagas come first:
// what they left may block the others.
func (o *Operator) Replayable(ctx context.Context, since time.Time) ([]Entry, error) {
	failed, _, err := o.List(ctx, Filter{Failed: true, Since: since})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(failed, func(a, b Entry) int { return rank(a) - rank(b) })
	seen := map[string]bool{}
	var found []Entry
	for _, e := range failed {
		if seen[e.WorkflowID] || e.ClosedAt == nil {
			continue
		}
		seen[e.WorkflowID] = true
		newest, err := o.describe(ctx, Run{WorkflowID: e.WorkflowID})
		if err != nil {
			return nil, err
		}
		if newest.ClosedAt != nil && newest.Outcome != saga.OutcomeCompleted {
			found = append(found, e)
		}
	}
	sortByStart(found)
	return found, nil
}

func rank(e Entry) int {
	if e.Outcome == OutcomeTerminated {
		return 0
	}
	return 1
}

// Replay starts a run's failed saga again with the same input, and returns the new run. A saga that was rolled back starts
// from scratch. One that was terminated keeps what it has made: its run is reset to its beginning.
// Errors: ErrNotFound, ErrRunning, ErrSucceeded, ErrOtherRunning, ErrEmailTaken, ErrInput.
func (o *Operator) Replay(ctx context.Context, run Run) (Run, error) {
	latest, err := o.Latest(ctx, run)
	if err != nil {
		return Run{}, err
	}
	newest, err := o.describe(ctx, Run{WorkflowID: run.WorkflowID})
	if err != nil {
		return Run{}, err
	}
	status, err := o.Read(ctx, latest.Run)
	switch {
	case err != nil:
		return Run{}, err
	case status.State == Running:
		return Run{}, ErrRunning
	case status.State == Completed:
		return Run{}, ErrSucceeded
	case newest.ClosedAt == nil: // a reset would terminate it
		return Run{}, ErrOtherRunning
	}
	if err := o.checkEmail(ctx, latest.Run); err != nil {
		return Run{}, err
	}
	if status.State == Failed {
		return o.takeUp(ctx, latest.Run)
	}
	return o.startAgain(ctx, latest.Run)
}

// checkEmail checks whether another church has the email of a run's saga. If the sealed email doesn't open, the saga decides.
func (o *Operator) checkEmail(ctx context.Context, run Run) error {
	if o.Emails == nil {
		return nil
	}
	email, tenantID, err := o.Email(o.Keys, func(input any) error { return o.Input(ctx, run, input) })
	if errors.Is(err, secrets.ErrSealed) {
		return nil
	}
	if err != nil {
		return err
	}
	holder, err := o.Emails.EmailHolder(ctx, email)
	if err != nil {
		return fmt.Errorf("look for the email's holder: %w", err)
	}
	if holder != "" && holder != tenantID {
		return ErrEmailTaken
	}
	return nil
}

// Input reads what a run started with. Errors: ErrNotFound, ErrInput.
func (o *Operator) Input(ctx context.Context, run Run, input any) error {
	const all = enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT
	started, err := o.Temporal.GetWorkflowHistory(ctx, run.WorkflowID, run.RunID, false, all).Next()
	if err != nil {
		return o.failed("read the input of", err)
	}
	err = codec.Converter(o.Keys).FromPayloads(started.GetWorkflowExecutionStartedEventAttributes().GetInput(), input)
	if err != nil {
		return ErrInput
	}
	return nil
}

func (o *Operator) startAgain(ctx context.Context, last Run) (Run, error) {
	options, input, err := o.Again(o.TaskQueue, func(input any) error { return o.Input(ctx, last, input) })
	if err != nil {
		return Run{}, err
	}
	options.ID = last.WorkflowID // the email index may have another key by now
	run, err := o.Start(ctx, options, input)
	if errors.Is(err, ErrRunning) {
		return Run{}, ErrOtherRunning
	}
	return run, err
}

// takeUp resets a run to its beginning. What the new run makes belongs to the same saga.
func (o *Operator) takeUp(ctx context.Context, last Run) (Run, error) {
	first, err := o.firstTask(ctx, last)
	if err != nil {
		return Run{}, err
	}
	if first == nil { // it ended before a worker took it
		return o.startAgain(ctx, last)
	}
	reset, err := o.Temporal.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: o.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: last.WorkflowID, RunId: last.RunID},
		Reason: "replayed by an operator", WorkflowTaskFinishEventId: first.EventId + 1, // the event that ended the task, if any
	})
	if err != nil {
		return Run{}, o.failed("reset", err)
	}
	return Run{last.WorkflowID, reset.RunId}, nil
}

func (o *Operator) firstTask(ctx context.Context, run Run) (*historypb.HistoryEvent, error) {
	history := o.Temporal.GetWorkflowHistory(ctx, run.WorkflowID, run.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return nil, o.failed("read the history of", err)
		}
		// The task need not be completed: quick steps leave no other event.
		if event.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
			return event, nil
		}
	}
	return nil, nil
}

// AwaitEnd waits until a run or ctx has ended, and returns the run's status.
func (o *Operator) AwaitEnd(ctx context.Context, run Run) (Status, error) {
	handle := o.Temporal.GetWorkflow(ctx, run.WorkflowID, run.RunID)
	err := handle.GetWithOptions(ctx, nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	_, ended := errors.AsType[*temporal.WorkflowExecutionError](err)
	if err != nil && !ended && ctx.Err() == nil {
		return Status{}, o.failed("wait for", err)
	}
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	return o.Read(reading, run)
}

// readLimit bounds the last read of a run's status.
const readLimit = 10 * time.Second
