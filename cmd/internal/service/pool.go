package service

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/pool"
)

// startPool starts the workflow that keeps the pool of databases, unless it runs.
func startPool(ctx context.Context, c client.Client, taskQueue string) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: pool.WorkflowID(taskQueue), TaskQueue: taskQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary: "keep databases ready for signups; it has no end",
	}, pool.Workflow)
	if err != nil {
		return fmt.Errorf("start the keeper of the pool: %w", err)
	}
	return nil
}
