package readydb

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// Start starts the workflow that keeps databases ready, unless it is running.
func Start(ctx context.Context, c client.Client, taskQueue string) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       WorkflowID(taskQueue),
		TaskQueue:                taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "keep databases ready for signups; it never ends",
	}, Workflow)
	if err != nil {
		return fmt.Errorf("start the keeper of ready databases: %w", err)
	}
	return nil
}
