// Package workflows says what happens in a signup, in order. It is deterministic: it imports no
// database, no HTTP and no clock, and knows the activities by name alone.
package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// Steps are the steps of a signup, in order, each with what undoes it.
var Steps = []signup.Step{
	{Do: "CreateDatabase", Undo: "DropDatabase"},         // role and database tenant_{tenantId}
	{Do: "MigrateDatabase", Undo: "RevertDatabase"},      // its 24 tables
	{Do: "CreateChurch", Undo: "DeleteChurch"},           // registry: in trial
	{Do: "CreateTenant", Undo: "DeleteTenant"},           // registry: where the database is; provisioning
	{Do: "CreateAdmin", Undo: "DeleteAdmin"},             // registry: the PRIMARY admin
	{Do: "IndexAdminEmail", Undo: "UnindexAdminEmail"},   // registry: email → tenant
	{Do: "CreateTenantAdmin", Undo: "DeleteTenantAdmin"}, // the same admin in the tenant's own database
	{Do: "ActivateTenant"},                               // the commit point: nothing after it can fail
}

// Signup gives a church its own database, enters it in the registry, makes its first admin on both
// sides, and opens it. If a step fails for good, or the signup is cancelled, everything that was made
// is removed again, and the first error is returned once nothing is left.
func Signup(ctx workflow.Context, in signup.Input) error {
	saga := &Saga{Forward: forward, Backward: backward, Patience: patience, Stuck: stuck}
	input := signup.StepInput{SignupID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	for _, step := range Steps {
		if err := saga.Do(ctx, step, input); err != nil {
			return rollBack(ctx, saga, step.Do, err)
		}
	}
	ended(ctx, signup.OutcomeCompleted, "")
	return nil
}

// Register makes the workflows known to a worker or a replayer, under their names.
func Register(to interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}) {
	to.RegisterWorkflowWithOptions(Signup, workflow.RegisterOptions{Name: signup.Workflow})
	to.RegisterWorkflowWithOptions(Invitation, workflow.RegisterOptions{Name: invitation.Workflow})
}

// Steps are bounded: each ends, one way or the other, inside the time that the API waits by default.
// Cancelling waits for the attempt in hand, so that it is over before it is undone.
var forward = workflow.ActivityOptions{
	StartToCloseTimeout:    4 * time.Second,
	ScheduleToCloseTimeout: 9 * time.Second,
	WaitForCancellation:    true,
	RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second},
}

// Compensations are tried until they work, however long that takes.
var backward = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Second,
	RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second},
}

// patience is how long a compensation may fail before an operator is told of it.
const patience = time.Minute

// rollBack undoes what was begun, leaves for operators what failed and how it ended, and returns cause.
func rollBack(ctx workflow.Context, saga *Saga, failedStep string, cause error) error {
	outcome := signup.OutcomeRolledBack
	var failure *temporal.ApplicationError
	if errors.As(cause, &failure) && failure.Type() == signup.ErrorEmailTaken {
		outcome = signup.OutcomeRefused
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	upsert(ctx, signup.FailedStep.ValueSet(failedStep))
	saga.Compensate(ctx)
	upsert(ctx, signup.Outcome.ValueSet(outcome))
	ended(ctx, outcome, failedStep)
	return cause
}

// stuck makes a rollback that does not come to its end visible: by search attribute, metric and log.
func stuck(ctx workflow.Context, undo string) {
	upsert(ctx, signup.Outcome.ValueSet(signup.OutcomeRollbackStuck))
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"compensation": undo}).
		Counter("signup_rollback_stuck").Inc(1)
	workflow.GetLogger(ctx).Error("A rollback is stuck and keeps being tried", "compensation", undo)
}

func upsert(ctx workflow.Context, update temporal.SearchAttributeUpdate) {
	// The command only fails to be made for an invalid attribute, which the types rule out.
	_ = workflow.UpsertTypedSearchAttributes(ctx, update)
}
