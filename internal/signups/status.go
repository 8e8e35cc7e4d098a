// Package signups reads how a signup stands from its workflow's history. It needs no worker, and it
// reads names and states alone, no payload.
package signups

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"narthex/internal/signup"
)

// ErrNotFound says that Temporal does not know the signup (any more: it keeps closed ones for its retention).
var ErrNotFound = errors.New("no such signup")

// State is how a signup, a step or a compensation stands.
type State string

// A signup is running, completed, rolled_back (it failed, and nothing of it is left) or failed (it was
// ended from outside before it could undo what it had made). A step or a compensation is pending,
// running, completed, failed or cancelled.
const (
	Pending    State = "pending"
	Running    State = "running"
	Completed  State = "completed"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	RolledBack State = "rolled_back"
)

// Activity is how a step or a compensation stands.
type Activity struct {
	Name  string `json:"name"`
	State State  `json:"state"`
}

// Step is a step with its compensation, once that has begun.
type Step struct {
	Activity
	Undo *Activity `json:"undo,omitempty"`
}

// Status is how a signup stands.
type Status struct {
	State      State      `json:"state"`
	StartedAt  time.Time  `json:"startedAt"`
	ClosedAt   *time.Time `json:"closedAt,omitempty"`
	FailedStep string     `json:"failedStep,omitempty"` // the step that made it roll back
	Reason     string     `json:"reason,omitempty"`     // a signup.Error… type, "Timeout" or "Cancelled"
	Steps      []Step     `json:"steps"`
}

// Read returns how the signup of this run stands, by its steps in their order. Errors: ErrNotFound, or
// why Temporal did not answer.
func Read(ctx context.Context, temporal client.Client, workflowID, runID string, steps []signup.Step) (Status, error) {
	r := reader{activities: map[string]State{}, scheduled: map[int64]string{}}
	history := temporal.GetWorkflowHistory(ctx, workflowID, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		var notFound *serviceerror.NotFound
		if errors.As(err, &notFound) {
			return Status{}, ErrNotFound
		}
		if err != nil {
			return Status{}, fmt.Errorf("read history: %w", err)
		}
		r.apply(event)
	}
	return r.status(steps), nil
}

// reader folds a history into states.
type reader struct {
	startedAt  time.Time
	closedAt   *time.Time
	close      enumspb.EventType
	scheduled  map[int64]string // activity by the event that scheduled it
	activities map[string]State
	failedStep string
	reason     string
}

func (r *reader) apply(event *historypb.HistoryEvent) {
	switch event.EventType {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		r.startedAt = event.EventTime.AsTime()
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		name := event.GetActivityTaskScheduledEventAttributes().ActivityType.Name
		r.scheduled[event.EventId] = name
		r.activities[name] = Running
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		r.activities[r.scheduled[event.GetActivityTaskCompletedEventAttributes().ScheduledEventId]] = Completed
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		attributes := event.GetActivityTaskFailedEventAttributes()
		r.fail(attributes.ScheduledEventId, Failed, reason(attributes.Failure))
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		attributes := event.GetActivityTaskTimedOutEventAttributes()
		r.fail(attributes.ScheduledEventId, Failed, reason(attributes.Failure))
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		r.fail(event.GetActivityTaskCanceledEventAttributes().ScheduledEventId, Cancelled, "Cancelled")
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		if r.reason == "" {
			r.reason = "Cancelled"
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		closedAt := event.EventTime.AsTime()
		r.closedAt, r.close = &closedAt, event.EventType
	}
}

func (r *reader) fail(scheduledEvent int64, state State, why string) {
	name := r.scheduled[scheduledEvent]
	r.activities[name] = state
	if r.failedStep == "" {
		r.failedStep, r.reason = name, why
	}
}

// reason returns the type of the innermost failure that says one.
func reason(failure *failurepb.Failure) string {
	why := "Timeout"
	for ; failure != nil; failure = failure.Cause {
		if info := failure.GetApplicationFailureInfo(); info != nil {
			why = info.Type
		}
	}
	return why
}

func (r *reader) status(steps []signup.Step) Status {
	status := Status{StartedAt: r.startedAt, ClosedAt: r.closedAt, FailedStep: r.failedStep, Reason: r.reason}
	undone := true
	for _, s := range steps {
		step := Step{Activity: Activity{Name: s.Do, State: Pending}}
		if state, ok := r.activities[s.Do]; ok {
			step.State = state
			undone = undone && (s.Undo == "" || r.activities[s.Undo] == Completed)
		}
		if state, ok := r.activities[s.Undo]; ok {
			step.Undo = &Activity{Name: s.Undo, State: state}
		}
		status.Steps = append(status.Steps, step)
	}
	switch {
	case r.closedAt == nil:
		status.State = Running
	case r.close == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		status.State, status.Reason = Completed, ""
	case undone && r.close != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED && r.close != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		status.State = RolledBack
	default:
		status.State = Failed
	}
	return status
}
