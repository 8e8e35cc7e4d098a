package saga

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Question is an activity that is asked before a rollback whether the saga has committed. It takes a step's input and
// returns a bool. If the answer is no, late attempts of the steps can no longer commit.
type Question struct {
	Activity string
	Change   string // names the question in histories
}

// HasCommitted reports, after a step has failed, whether the saga has committed anyway. That is possible if only the
// answer of the commit point was lost, if a workflow task was lost with its quick steps, or if a completed run was
// reset. In these cases what the saga made is in use, and must not be removed.
func (s *Saga) HasCommitted(ctx workflow.Context, failed Step, question Question) (committed bool) {
	info := workflow.GetInfo(ctx)
	commitPoint, reset := failed.Undo == "", info.OriginalRunID != info.WorkflowExecution.RunID
	if !commitPoint && !reset && s.quick == nil {
		return false
	}
	if workflow.GetVersion(ctx, question.Change, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false // an older release began the rollback, or it began before the point of the reset
	}
	impatient := s.quick != nil ||
		workflow.GetVersion(ctx, "report a question that is stuck", workflow.DefaultVersion, 1) != workflow.DefaultVersion
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	asking := s.backward
	asking.Summary = "has it committed?"
	answer := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, asking), question.Activity, s.input)
	if impatient && !within(ctx, s.Patience, answer) {
		stuck(ctx, question.Activity)
	}
	_ = answer.Get(ctx, &committed) // retried without limit
	return committed
}

// RollBack undoes the steps that have begun, records for operators which step failed and how the saga ended, and returns cause.
func (s *Saga) RollBack(ctx workflow.Context, failed Step, cause error) error {
	outcome := OutcomeRolledBack
	if failure, ok := errors.AsType[*temporal.ApplicationError](cause); ok && failure.Type() == ErrorEmailTaken {
		outcome = OutcomeRefused
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	upsert(ctx, FailedStep.ValueSet(failed.Do), CurrentStep.ValueSet(failed.Do))
	s.compensate(ctx)
	upsert(ctx, Outcome.ValueSet(outcome))
	s.ended(ctx, outcome, failed.Do)
	return cause
}

// Complete records that the saga has completed. Runs of older releases started with this outcome or without one, and
// record nothing.
func (s *Saga) Complete(ctx workflow.Context) {
	if outcome, ok := workflow.GetTypedSearchAttributes(ctx).GetKeyword(Outcome); ok && outcome != OutcomeCompleted {
		upsert(ctx, Outcome.ValueSet(OutcomeCompleted))
	}
	s.ended(ctx, OutcomeCompleted, "")
}

// ended counts, times and logs a saga that has ended. It takes the time from the history, and a replay counts
// nothing. It creates no command.
func (s *Saga) ended(ctx workflow.Context, outcome, failedStep string) {
	took := workflow.Now(ctx).Sub(workflow.GetInfo(ctx).WorkflowStartTime)
	metrics := workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"outcome": outcome, "step": failedStep})
	metrics.Counter("saga_ended").Inc(1)
	metrics.Timer("saga_duration").Record(took)
	log := workflow.GetLogger(ctx).Info
	if outcome == OutcomeRolledBack {
		log = workflow.GetLogger(ctx).Warn
	}
	log("Saga ended", "tenantId", s.TenantID, "outcome", outcome, "failedStep", failedStep, "duration_ms", took.Milliseconds())
}

// stuck makes a rollback that doesn't finish visible: by search attribute, metric and log.
func stuck(ctx workflow.Context, undo string) {
	upsert(ctx, Outcome.ValueSet(OutcomeRollbackStuck), CurrentStep.ValueSet(undo))
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"compensation": undo}).
		Counter("saga_rollback_stuck").Inc(1)
	workflow.GetLogger(ctx).Error("A rollback is stuck and is being retried", "compensation", undo)
}

func upsert(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) {
	// This can only fail for an invalid attribute, which the types rule out.
	_ = workflow.UpsertTypedSearchAttributes(ctx, updates...)
}
