package signup

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/saga"
)

// TaskTimeout is how long a worker may hold a workflow task of a signup before it has to say that it is still
// at it. A signup whose worker has died goes on after that: within the time that the API waits by default.
const TaskTimeout = 5 * time.Second

// StartOptions says how a signup is started: whoever starts it, a running one with the same email is an
// error (serviceerror.WorkflowExecutionAlreadyStarted), and people read in Temporal's UI what it is. eager gives
// its first task, in which it usually ends, to a worker on the client that starts it, whatever its release.
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
		StaticSummary:                            "sign up tenant_" + in.TenantID,
		StaticDetails: fmt.Sprintf("Requested at %s\n\n- tenant and church: `%s`\n- database and role: `tenant_%[2]s`\n"+
			"- PRIMARY admin: `%s`\n- trial until %s\n",
			in.RequestedAt.Format(time.RFC3339), in.TenantID, in.AdminID, in.TrialEndsAt.Format(time.DateOnly)),
	}
}
