package runs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/saga"
)

// Outcomes of a run, in addition to saga's.
const (
	OutcomeRollingBack = "rolling_back"
	OutcomeTerminated  = "terminated" // from outside, so it couldn't undo what it had made
)

// Entry is a run in a list.
type Entry struct {
	Run
	TenantID   string     `json:"tenantId"`
	Outcome    string     `json:"outcome"`
	FailedStep string     `json:"failedStep,omitempty"`
	StartedAt  time.Time  `json:"startedAt"`
	ClosedAt   *time.Time `json:"closedAt,omitempty"`
}

// Filter says which runs to list. Empty fields match all runs.
type Filter struct {
	Outcome    string
	FailedStep string
	Failed     bool      // runs that need attention: stuck, or rolled back or terminated and not replayed since; not refused ones
	Since      time.Time // earliest start, inclusive
	Until      time.Time // latest start, exclusive
	Limit      int       // 0 lists all
}

// conditions are Temporal's list filters for the outcomes of a Filter. Runs of older releases have the search attribute
// "created" from their start.
var conditions = map[string]string{
	saga.OutcomeRunning:       "ExecutionStatus = 'Running'",
	OutcomeTerminated:         "ExecutionStatus IN ('Terminated', 'TimedOut')",
	saga.OutcomeCompleted:     "ExecutionStatus = 'Completed'",
	saga.OutcomeRefused:       "SignupOutcome = 'refused'",
	saga.OutcomeRolledBack:    "SignupOutcome = 'rolled_back'",
	saga.OutcomeRollbackStuck: "SignupOutcome = 'rollback_stuck' AND ExecutionStatus = 'Running'",
}

const hasFailed = "(SignupOutcome = 'rolled_back' OR (SignupOutcome = 'rollback_stuck' AND ExecutionStatus = 'Running')" +
	" OR ExecutionStatus IN ('Terminated', 'TimedOut'))"

// Outcomes returns the possible values of a Filter's Outcome.
func Outcomes() []string {
	return []string{saga.OutcomeCompleted, saga.OutcomeRefused, saga.OutcomeRolledBack, saga.OutcomeRollbackStuck,
		saga.OutcomeRunning, OutcomeTerminated}
}

// List returns the runs that started last, newest first, and whether there are more than the filter's limit. For a moment,
// a run that has just started may be missing, and one that has just ended may have its earlier state.
func (o *Operator) List(ctx context.Context, filter Filter) (entries []Entry, more bool, err error) {
	query := []string{o.ofKind()}
	if filter.Outcome != "" {
		query = append(query, conditions[filter.Outcome])
	}
	if filter.FailedStep != "" {
		query = append(query, fmt.Sprintf("FailedStep = '%s'", filter.FailedStep))
	}
	if filter.Failed {
		query = append(query, hasFailed)
	}
	if !filter.Until.IsZero() {
		query = append(query, fmt.Sprintf("StartTime < '%s'", filter.Until.UTC().Format(time.RFC3339Nano)))
	}
	entries, err = o.since(ctx, strings.Join(query, " AND "), filter)
	if err == nil && filter.Failed {
		entries, err = o.notReplayed(ctx, entries)
	}
	if err != nil {
		return nil, false, err
	}
	sortByStart(entries)
	if filter.Limit > 0 && len(entries) > filter.Limit {
		return entries[:filter.Limit], true, nil
	}
	return entries, false, nil
}

// since returns, in no order, at least as many runs as the filter's limit and one more. Temporal lists runs by closing
// time, so since counts them in windows that grow backwards in time until there are enough.
func (o *Operator) since(ctx context.Context, query string, filter Filter) ([]Entry, error) {
	from := func(t time.Time) string {
		if t.IsZero() {
			return query
		}
		return query + fmt.Sprintf(" AND StartTime >= '%s'", t.UTC().Format(time.RFC3339Nano))
	}
	if filter.Limit == 0 || filter.Failed {
		return o.all(ctx, from(filter.Since))
	}
	end := filter.Until
	if end.IsZero() {
		end = time.Now()
	}
	for window := firstWindow; window < lastWindow; window *= 4 {
		start := end.Add(-window)
		if start.Before(filter.Since) {
			break
		}
		counted, err := o.Temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: o.Namespace, Query: from(start)})
		if err != nil {
			return nil, fmt.Errorf("count %ss: %w", o.Noun, err)
		}
		if counted.GetCount() > int64(filter.Limit) {
			return o.all(ctx, from(start))
		}
	}
	return o.all(ctx, from(filter.Since))
}

const (
	firstWindow = time.Minute
	lastWindow  = 365 * 24 * time.Hour
	listPage    = 100
)

func (o *Operator) all(ctx context.Context, query string) (entries []Entry, err error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: o.Namespace, Query: query, PageSize: listPage}
	for {
		page, err := o.Temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list %ss: %w", o.Noun, err)
		}
		for _, info := range page.Executions {
			entries = append(entries, entryOf(info))
		}
		request.NextPageToken = page.NextPageToken
		if len(request.NextPageToken) == 0 {
			return entries, nil
		}
	}
}

// notReplayed returns the runs that are the newest of their saga.
func (o *Operator) notReplayed(ctx context.Context, entries []Entry) (kept []Entry, err error) {
	for _, e := range entries {
		latest, err := o.Latest(ctx, e.Run)
		if err != nil {
			return nil, err
		}
		if latest.RunID == e.RunID {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

func sortByStart(entries []Entry) {
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.RunID, b.RunID))
	})
}

func entryOf(info *workflowpb.WorkflowExecutionInfo) Entry {
	indexed := attributes(info.GetSearchAttributes().GetIndexedFields())
	entry := Entry{
		Run:      Run{info.Execution.WorkflowId, info.Execution.RunId},
		TenantID: indexed.text(saga.TenantID), FailedStep: indexed.text(saga.FailedStep),
		Outcome: indexed.outcome(info.Status), StartedAt: info.StartTime.AsTime(),
	}
	if info.CloseTime != nil {
		closedAt := info.CloseTime.AsTime()
		entry.ClosedAt = &closedAt
	}
	return entry
}

// attributes are a run's search attributes, by name.
type attributes map[string]*commonpb.Payload

// text returns an attribute's value, or "" if it is missing or not a text.
func (a attributes) text(key temporal.SearchAttributeKeyKeyword) (value string) {
	_ = converter.GetDefaultDataConverter().FromPayload(a[key.GetName()], &value)
	return value
}

// outcome returns the outcome of a run with these attributes.
func (a attributes) outcome(status enumspb.WorkflowExecutionStatus) string {
	recorded := a.text(saga.Outcome)
	switch status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return saga.OutcomeCompleted
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return OutcomeTerminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		if recorded == saga.OutcomeRollbackStuck {
			return recorded
		}
		if a.text(saga.FailedStep) != "" {
			return OutcomeRollingBack
		}
		return saga.OutcomeRunning
	}
	return recorded
}
