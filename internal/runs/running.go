package runs

import (
	"context"
	"fmt"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// Running reports whether a tenant has a run of the kind that is running. It may miss one that has only just started.
func (k Kind) Running(ctx context.Context, c client.Client, tenantID string) (bool, error) {
	count, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND TenantId = '%s' AND ExecutionStatus = 'Running'", k.Workflow, tenantID),
	})
	if err != nil {
		return false, fmt.Errorf("look for a running %s: %w", k.Noun, err)
	}
	return count.GetCount() > 0, nil
}
