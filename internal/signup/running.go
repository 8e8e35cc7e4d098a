package signup

import (
	"context"
	"fmt"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// Running reports whether a signup of a tenant is running. It may miss one that has only just started.
func Running(ctx context.Context, c client.Client, tenantID string) (bool, error) {
	count, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND TenantId = '%s' AND ExecutionStatus = 'Running'", Workflow, tenantID),
	})
	if err != nil {
		return false, fmt.Errorf("look for a running signup: %w", err)
	}
	return count.GetCount() > 0, nil
}
