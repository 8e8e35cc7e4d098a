package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/saga"
)

// ErrNotPrepared means that the namespace, or a search attribute in it, is missing.
var ErrNotPrepared = errors.New("Temporal's namespace or its search attributes are missing: " +
	"see TEMPORAL_NAMESPACE and docs/production.md, 2. Temporal")

// Ready checks that Temporal can run a saga. Errors: ErrNotPrepared, or why it did not answer.
func Ready(ctx context.Context, temporal client.Client) error {
	var conditions []string
	for name := range saga.SearchAttributes() {
		conditions = append(conditions, name+"='none'")
	}
	slices.Sort(conditions)
	_, err := temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: strings.Join(conditions, " AND ")})
	var missing *serviceerror.NamespaceNotFound
	var unknown *serviceerror.InvalidArgument
	switch {
	case errors.As(err, &missing), errors.As(err, &unknown):
		return ErrNotPrepared
	case err != nil:
		return fmt.Errorf("count workflows: %w", err)
	}
	return nil
}
