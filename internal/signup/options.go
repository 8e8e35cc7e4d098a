package signup

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/ids"
	"narthex/internal/saga"
)

// TaskTimeout is how long a worker may hold a signup's workflow task before it has to report progress. If the
// worker dies, the signup continues after that, within the time that the API waits by default.
const TaskTimeout = 5 * time.Second

// StartOptions returns the options for starting a signup. If one with the same email is running, starting fails
// (serviceerror.WorkflowExecutionAlreadyStarted). Temporal's UI shows people what it is. eager gives the first
// task, in which a signup usually ends, to a worker on the client that starts it, whatever its release.
func StartOptions(taskQueue string, in Input, eager bool) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                                       WorkflowID(in.EmailHash),
		TaskQueue:                                taskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         eager,
		WorkflowTaskTimeout:                      TaskTimeout,
		TypedSearchAttributes:                    saga.StartAttributes(Steps, in.TenantID),
		StaticSummary:                            "sign up " + ids.DatabaseName(in.TenantID),
		StaticDetails: fmt.Sprintf("Requested at %s\n\n- tenant and church: `%s`\n- database and role: `%s`\n- PRIMARY admin: `%s`\n",
			in.RequestedAt.Format(time.RFC3339), in.TenantID, ids.DatabaseName(in.TenantID), in.AdminID),
	}
}
