package workflows

import "go.temporal.io/sdk/workflow"

// ended counts, times and logs a saga that has ended. Its time is the history's, and a replay counts nothing:
// neither makes a command.
func ended(ctx workflow.Context, outcome, failedStep string) {
	took := workflow.Now(ctx).Sub(workflow.GetInfo(ctx).WorkflowStartTime)
	metrics := workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"outcome": outcome, "step": failedStep})
	metrics.Counter("signup_ended").Inc(1)
	metrics.Timer("signup_duration").Record(took)
	workflow.GetLogger(ctx).Info("Saga ended", "outcome", outcome, "failedStep", failedStep, "duration_ms", took.Milliseconds())
}
