package runs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"narthex/internal/codec"
	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// State is the state of a run, a step or a compensation.
type State string

// A run is running, completed, rolled_back (it failed and nothing of it is left) or failed (it was
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

// Activity is the status of a step or a compensation.
type Activity struct {
	Name      string     `json:"name"`
	State     State      `json:"state"`
	Attempts  int        `json:"attempts,omitempty"` // set once it has ended
	StartedAt *time.Time `json:"startedAt,omitempty"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`

	// Failure is the failure of the activity, or of its last but one attempt. It is only for operators.
	Failure *failurepb.Failure `json:"-"`
}

// Step is a step with its compensation, if that has begun.
type Step struct {
	Activity
	Undo *Activity `json:"undo,omitempty"`
}

// Status is the status of a run.
type Status struct {
	State      State      `json:"state"`
	StartedAt  time.Time  `json:"startedAt"`
	ClosedAt   *time.Time `json:"closedAt,omitempty"`
	FailedStep string     `json:"failedStep,omitempty"` // the step that made it roll back
	Reason     string     `json:"reason,omitempty"`     // a saga.Error… type, "Timeout" or "Cancelled"
	Steps      []Step     `json:"steps"`

	// Only for operators:
	Outcome  string `json:"-"` // as in an Entry
	TenantID string `json:"-"`
	Server   string `json:"-"` // host:port of the tenant's database, if a step that names it has begun
}

// Read returns a run's status, with its steps in order. Errors: ErrNotFound, secrets.ErrSealed, or why Temporal did not
// answer.
func (o *Operator) Read(ctx context.Context, run Run) (status Status, err error) {
	r := newReader(o.Keys, o.Steps)
	err = o.follow(ctx, run, false, r, func() {})
	return r.status(), err
}

// Watch calls show with a run's status, now and whenever it changes, until the run has ended.
// Errors: ErrNotFound, ctx's, secrets.ErrSealed, or why Temporal did not answer.
func (o *Operator) Watch(ctx context.Context, run Run, show func(Status)) error {
	r := newReader(o.Keys, o.Steps)
	return o.follow(ctx, run, true, r, func() { show(r.status()) })
}

// follow passes a run's history to r, event by event, up to its current end or, if wait is set, until the run has ended.
// It does not find runs of other workflows.
func (o *Operator) follow(ctx context.Context, run Run, wait bool, r *reader, applied func()) error {
	history := o.Temporal.GetWorkflowHistory(ctx, run.WorkflowID, run.RunID, wait, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return o.failed("read the history of", err)
		}
		if started := event.GetWorkflowExecutionStartedEventAttributes(); started != nil && started.WorkflowType.GetName() != o.Workflow {
			return ErrNotFound
		}
		if err := r.apply(event); err != nil {
			return err
		}
		applied()
	}
	return nil
}

// ReadPending returns a run's status like Read, and how often the running activities have been tried.
func (o *Operator) ReadPending(ctx context.Context, run Run) (Status, error) {
	status, err := o.Read(ctx, run)
	if err != nil || status.State != Running {
		return status, err
	}
	described, err := o.Temporal.DescribeWorkflowExecution(ctx, run.WorkflowID, run.RunID)
	if err != nil {
		return Status{}, o.failed("look at", err)
	}
	for _, pending := range described.PendingActivities {
		if activity := status.activity(pending.ActivityType.Name); activity != nil {
			activity.Attempts, activity.Failure = int(pending.Attempt), pending.LastFailure
		}
	}
	return status, nil
}

func (s Status) activity(name string) *Activity {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i].Activity
		}
		if undo := s.Steps[i].Undo; undo != nil && undo.Name == name {
			return undo
		}
	}
	return nil
}

// reader turns a history into states.
type reader struct {
	opening    converter.DataConverter
	steps      []saga.Step
	quickSince time.Time // when the next recorded quick step began, which is when the previous one ended
	startedAt  time.Time
	closedAt   *time.Time
	ended      enumspb.WorkflowExecutionStatus // how it ended; running until then
	indexed    attributes
	server     string
	scheduled  map[int64]string // activities by the events that scheduled them
	activities map[string]*Activity
	failedStep string
	reason     string
}

func newReader(keys *secrets.Keys, steps []saga.Step) *reader {
	return &reader{
		opening: codec.Converter(keys), steps: steps, activities: map[string]*Activity{}, scheduled: map[int64]string{},
		indexed: attributes{}, ended: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}
}

func (r *reader) apply(event *historypb.HistoryEvent) error {
	at := event.EventTime.AsTime()
	switch event.EventType {
	case enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED:
		r.quickSince = at
	case enumspb.EVENT_TYPE_MARKER_RECORDED:
		return r.quick(event)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		r.startedAt = at
		maps.Copy(r.indexed, event.GetWorkflowExecutionStartedEventAttributes().GetSearchAttributes().GetIndexedFields())
	case enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
		maps.Copy(r.indexed, event.GetUpsertWorkflowSearchAttributesEventAttributes().GetSearchAttributes().GetIndexedFields())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		name := event.GetActivityTaskScheduledEventAttributes().ActivityType.Name
		r.findServer(name, event)
		r.scheduled[event.EventId] = name
		r.activities[name] = &Activity{Name: name, State: Running, StartedAt: &at}
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED: // this event is written when the activity ends
		attributes := event.GetActivityTaskStartedEventAttributes()
		activity := r.of(attributes.ScheduledEventId)
		activity.Attempts, activity.Failure = int(attributes.Attempt), attributes.LastFailure
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		r.end(event.GetActivityTaskCompletedEventAttributes().ScheduledEventId, Completed, at, nil)
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		attributes := event.GetActivityTaskFailedEventAttributes()
		r.fail(attributes.ScheduledEventId, Failed, at, attributes.Failure)
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		attributes := event.GetActivityTaskTimedOutEventAttributes()
		r.fail(attributes.ScheduledEventId, Failed, at, attributes.Failure)
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		r.fail(event.GetActivityTaskCanceledEventAttributes().ScheduledEventId, Cancelled, at, nil)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		if r.reason == "" {
			r.reason = reasonCancelled
		}
	default:
		if how, ended := endings[event.EventType]; ended {
			r.closedAt, r.ended = &at, how
		}
	}
	return nil
}

// endings are the events that close a run.
var endings = map[enumspb.EventType]enumspb.WorkflowExecutionStatus{
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:  enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:     enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:   enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:  enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
}

// findServer looks for the server's name in the summary of a step that has begun.
func (r *reader) findServer(name string, event *historypb.HistoryEvent) {
	i := slices.IndexFunc(r.steps, func(s saga.Step) bool { return s.Do == name })
	if i < 0 || r.server != "" {
		return
	}
	var summary string
	if err := r.opening.FromPayload(event.GetUserMetadata().GetSummary(), &summary); err == nil { // otherwise it is missing, or stays sealed
		r.server = r.steps[i].ServerIn(summary, r.indexed.text(saga.TenantID))
	}
}

// quick reads a step that ran within a workflow task, as a local activity. If it failed there, it became an
// activity, whose events follow.
func (r *reader) quick(event *historypb.HistoryEvent) error {
	marker := event.GetMarkerRecordedEventAttributes()
	if marker.MarkerName != "LocalActivity" {
		return nil
	}
	var recorded struct { // the format of Temporal's SDK
		ActivityType string
		ReplayTime   time.Time // when it ended
	}
	if err := r.opening.FromPayloads(marker.Details["data"], &recorded); err != nil {
		return fmt.Errorf("read a quick step: %w", secrets.ErrSealed)
	}
	r.findServer(recorded.ActivityType, event)
	began, ended := r.quickSince, recorded.ReplayTime
	r.quickSince = ended
	if marker.Failure == nil {
		name := recorded.ActivityType
		r.activities[name] = &Activity{Name: name, State: Completed, Attempts: 1, StartedAt: &began, EndedAt: &ended}
	}
	return nil
}

// of returns an event's activity, or a dummy if none was scheduled.
func (r *reader) of(scheduledEvent int64) *Activity {
	if activity, ok := r.activities[r.scheduled[scheduledEvent]]; ok {
		return activity
	}
	return new(Activity)
}

func (r *reader) end(scheduledEvent int64, state State, at time.Time, failure *failurepb.Failure) {
	activity := r.of(scheduledEvent)
	activity.State, activity.EndedAt = state, &at
	if failure != nil {
		activity.Failure = failure
	}
}

func (r *reader) fail(scheduledEvent int64, state State, at time.Time, failure *failurepb.Failure) {
	r.end(scheduledEvent, state, at, failure)
	if r.failedStep != "" {
		return
	}
	r.failedStep, r.reason = r.scheduled[scheduledEvent], reason(failure)
	if state == Cancelled {
		r.reason = reasonCancelled
	}
}

const reasonCancelled = "Cancelled"

// reason returns the type of the innermost failure that has one.
func reason(failure *failurepb.Failure) string {
	why := "Timeout"
	for ; failure != nil; failure = failure.Cause {
		if info := failure.GetApplicationFailureInfo(); info != nil {
			why = info.Type
		}
	}
	return why
}

func (r *reader) status() Status {
	status := Status{
		StartedAt: r.startedAt, ClosedAt: r.closedAt, FailedStep: r.failedStep, Reason: r.reason,
		Outcome: r.indexed.outcome(r.ended), TenantID: r.indexed.text(saga.TenantID), Server: r.server,
	}
	undone := true
	for _, s := range r.steps {
		step := Step{Activity: Activity{Name: s.Do, State: Pending}}
		if done, ok := r.activities[s.Do]; ok {
			step.Activity = *done
			undone = undone && (s.Undo == "" || r.activities[s.Undo] != nil && r.activities[s.Undo].State == Completed)
		}
		if undo, ok := r.activities[s.Undo]; ok {
			copied := *undo
			step.Undo = &copied
		}
		status.Steps = append(status.Steps, step)
	}
	stopped := r.ended == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED || r.ended == enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT
	switch {
	case r.closedAt == nil:
		status.State = Running
	case r.ended == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		status.State, status.FailedStep, status.Reason = Completed, "", ""
	case undone && !stopped:
		status.State = RolledBack
	default:
		status.State = Failed
	}
	return status
}
