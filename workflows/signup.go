// Package workflows says what happens in a signup, in order. It is deterministic: it imports no
// database, no HTTP and no clock, and knows the activities by name alone.
package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/signup"
)

// Steps are the steps of a signup, in order, each with what undoes it.
var Steps = []signup.Step{
	{Do: "CreateDatabase", Doing: "create role and database {database} on {server}",
		Undo: "DropDatabase", Undoing: "drop database and role {database} on {server}"},
	{Do: "MigrateDatabase", Doing: "fill {database} with its 24 tables",
		Undo: "RevertDatabase", Undoing: "take the tables out of {database}"},
	{Do: "CreateChurch", Doing: "enter the church in the registry, in trial",
		Undo: "DeleteChurch", Undoing: "delete the church from the registry"},
	{Do: "CreateTenant", Doing: "enter in the registry where {database} is",
		Undo: "DeleteTenant", Undoing: "delete the tenant from the registry"},
	{Do: "CreateAdmin", Doing: "enter the PRIMARY admin in the registry",
		Undo: "DeleteAdmin", Undoing: "delete the admin from the registry"},
	{Do: "IndexAdminEmail", Doing: "make the email lead to the church",
		Undo: "UnindexAdminEmail", Undoing: "free the email"},
	{Do: "CreateTenantAdmin", Doing: "add the admin to {database}",
		Undo: "DeleteTenantAdmin", Undoing: "delete the admin from {database}"},
	{Do: "ActivateTenant", Doing: "open the church"}, // the commit point: nothing after it can fail
}

// Workflows are what a worker runs.
type Workflows struct {
	Server   string        // for people: the PostgreSQL server, host:port, on which databases are made
	Patience time.Duration // with a compensation that fails, until an operator is told of it; 0 is a minute
	Pause    time.Duration // between the orphans that a sweep removes; 0 is ten seconds
}

// Signup gives a church its own database, enters it in the registry, makes its first admin on both
// sides, and opens it. If a step fails for good, or the signup is cancelled, everything that was made
// is removed again, and the first error is returned once nothing is left.
func (w *Workflows) Signup(ctx workflow.Context, in signup.Input) error {
	saga := w.saga(Steps, in.TenantID)
	input := signup.StepInput{SignupID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	if workflow.GetVersion(ctx, "quick steps", workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		saga.Quick = &quick
		saga.Plan(Steps, input)
	}
	for _, step := range Steps {
		if err := saga.Do(ctx, step, input); err != nil {
			if hasEnded(ctx, saga, step, "ask whether the church is open", signup.IsTenantOpen, input) {
				break
			}
			return rollBack(ctx, saga, step.Do, err)
		}
	}
	ended(ctx, signup.OutcomeCreated, "")
	return nil
}

func (w *Workflows) saga(steps []signup.Step, tenantID string) *Saga {
	saga := &Saga{Forward: forward, Backward: backward, Patience: patience, Stuck: stuck, Progress: newChecklist(steps, tenantID, w.Server)}
	if w.Patience > 0 {
		saga.Patience = w.Patience
	}
	return saga
}

// Register makes the workflows known to a worker or a replayer, under their names.
func (w *Workflows) Register(to interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}) {
	to.RegisterWorkflowWithOptions(w.Signup, workflow.RegisterOptions{Name: signup.Workflow})
	to.RegisterWorkflowWithOptions(w.Invitation, workflow.RegisterOptions{Name: invitation.Workflow})
	to.RegisterWorkflowWithOptions(w.SweepOrphans, workflow.RegisterOptions{Name: orphan.Workflow})
	to.RegisterWorkflowWithOptions(w.KeepPool, workflow.RegisterOptions{Name: readydb.Workflow})
}

// hasEnded reports, after a step has failed, whether the saga has come to its end all the same: at the commit
// point only the answer may have been lost, so may quick steps with their workflow task, and a reset may be of
// a run that had ended well. Then what it made is in use, and must not be removed. question is an activity that knows, and rules out that it changes; change
// names this in histories.
func hasEnded(ctx workflow.Context, saga *Saga, failed signup.Step, change, question string, input any) (ended bool) {
	info := workflow.GetInfo(ctx)
	commitPoint, reset := failed.Undo == "", info.OriginalRunID != info.WorkflowExecution.RunID
	if !commitPoint && !reset && saga.Quick == nil {
		return false
	}
	if workflow.GetVersion(ctx, change, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false // a rollback that had begun before, by an older release or before the point of the reset
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	asking := backward
	asking.Summary = "has it come to its end all the same?"
	answer := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, asking), question, input)
	late := saga.Quick != nil && !within(ctx, saga.Patience, answer)
	if late {
		saga.Stuck(ctx, question)
	}
	_ = answer.Get(ctx, &ended) // retried without limit
	if late && ended {
		upsert(ctx, signup.Outcome.ValueSet(signup.OutcomeCreated))
	}
	return ended
}

// Steps are bounded: each ends, one way or the other, and its quick attempt with it, inside the time that the API
// waits by default.
// Cancelling waits for the attempt in hand, so that it is over before it is undone.
var forward = workflow.ActivityOptions{
	StartToCloseTimeout:    4 * time.Second,
	ScheduleToCloseTimeout: 8500 * time.Millisecond,
	WaitForCancellation:    true,
	RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second},
}

// The first attempt of a step ends before the workflow task in which it is made is extended.
var quick = workflow.LocalActivityOptions{
	ScheduleToCloseTimeout: 1500 * time.Millisecond,
	RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
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
	upsert(ctx, signup.FailedStep.ValueSet(failedStep), signup.SignupStep.ValueSet(failedStep))
	saga.Compensate(ctx)
	upsert(ctx, signup.Outcome.ValueSet(outcome))
	ended(ctx, outcome, failedStep)
	return cause
}

// stuck makes a rollback that does not come to its end visible: by search attribute, metric and log.
func stuck(ctx workflow.Context, undo string) {
	upsert(ctx, signup.Outcome.ValueSet(signup.OutcomeRollbackStuck), signup.SignupStep.ValueSet(undo))
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"compensation": undo}).
		Counter("signup_rollback_stuck").Inc(1)
	workflow.GetLogger(ctx).Error("A rollback is stuck and keeps being tried", "compensation", undo)
}

func upsert(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) {
	// The command only fails to be made for an invalid attribute, which the types rule out.
	_ = workflow.UpsertTypedSearchAttributes(ctx, updates...)
}
