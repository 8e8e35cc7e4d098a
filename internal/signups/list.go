package signups

import (
	"context"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"narthex/internal/saga"
	"narthex/internal/signup"
)

// What became of a signup, over and above signup's outcomes.
const (
	OutcomeRunning     = "running"
	OutcomeRollingBack = "rolling_back"
	OutcomeTerminated  = "terminated" // from outside: it could not undo what it had made
)

// Entry is a signup's run in a list.
type Entry struct {
	Run
	TenantID   string     `json:"tenantId"`
	Outcome    string     `json:"outcome"`
	FailedStep string     `json:"failedStep,omitempty"`
	StartedAt  time.Time  `json:"startedAt"`
	ClosedAt   *time.Time `json:"closedAt,omitempty"`
}

// Filter says which signups to list. What is empty does not matter.
type Filter struct {
	Outcome    string
	FailedStep string
	Since      time.Time // when they started
	Limit      int       // 0 lists all
}

// conditions are Temporal's list filters for the outcomes that can be asked for.
var conditions = map[string]string{
	OutcomeRunning:            "ExecutionStatus = 'Running'",
	OutcomeTerminated:         "ExecutionStatus IN ('Terminated', 'TimedOut')",
	saga.OutcomeCreated:       "ExecutionStatus = 'Completed'",
	saga.OutcomeRefused:       "SignupOutcome = 'refused'",
	saga.OutcomeRolledBack:    "SignupOutcome = 'rolled_back'",
	saga.OutcomeRollbackStuck: "SignupOutcome = 'rollback_stuck' AND ExecutionStatus = 'Running'",
}

// Outcomes are what a Filter's Outcome can be.
func Outcomes() []string {
	return []string{saga.OutcomeCreated, saga.OutcomeRefused, saga.OutcomeRolledBack, saga.OutcomeRollbackStuck, OutcomeRunning, OutcomeTerminated}
}

// List returns signups' runs, newest first. A run that has just started or ended may be missing or look
// older for a moment.
func (o *Operator) List(ctx context.Context, filter Filter) ([]Entry, error) {
	query := []string{fmt.Sprintf("WorkflowType = '%s'", signup.Workflow)}
	if filter.Outcome != "" {
		query = append(query, conditions[filter.Outcome])
	}
	if filter.FailedStep != "" {
		query = append(query, fmt.Sprintf("FailedStep = '%s'", filter.FailedStep))
	}
	if !filter.Since.IsZero() {
		query = append(query, fmt.Sprintf("StartTime >= '%s'", filter.Since.UTC().Format(time.RFC3339)))
	}
	return o.list(ctx, strings.Join(query, " AND "), filter.Limit)
}

const listPage = 100

func (o *Operator) list(ctx context.Context, query string, limit int) (entries []Entry, err error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: o.Namespace, Query: query, PageSize: listPage}
	for {
		page, err := o.Temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list signups: %w", err)
		}
		for _, info := range page.Executions {
			entries = append(entries, entryOf(info))
			if len(entries) == limit {
				return entries, nil
			}
		}
		if request.NextPageToken = page.NextPageToken; len(request.NextPageToken) == 0 {
			return entries, nil
		}
	}
}

func entryOf(info *workflowpb.WorkflowExecutionInfo) Entry {
	attribute := func(name string) (value string) {
		// One that is missing, or not a text, stays empty.
		_ = converter.GetDefaultDataConverter().FromPayload(info.GetSearchAttributes().GetIndexedFields()[name], &value)
		return value
	}
	entry := Entry{
		Run:      Run{info.Execution.WorkflowId, info.Execution.RunId},
		TenantID: attribute(saga.TenantID.GetName()), FailedStep: attribute(saga.FailedStep.GetName()),
		Outcome: attribute(saga.Outcome.GetName()), StartedAt: info.StartTime.AsTime(),
	}
	if info.CloseTime != nil {
		closedAt := info.CloseTime.AsTime()
		entry.ClosedAt = &closedAt
	}
	switch info.Status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		entry.Outcome = saga.OutcomeCreated
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		entry.Outcome = OutcomeTerminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		if entry.Outcome != saga.OutcomeRollbackStuck {
			entry.Outcome = OutcomeRunning
			if entry.FailedStep != "" {
				entry.Outcome = OutcomeRollingBack
			}
		}
	}
	return entry
}
