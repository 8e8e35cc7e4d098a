package workflows

import (
	"go.temporal.io/sdk/workflow"

	"narthex/internal/saga"
	"narthex/internal/signup"
)

// Signup gives a church its own database, enters it in the registry, creates its first admin on both
// sides, and opens the church. If a step fails for good, or the signup is cancelled, everything that was
// made is removed again. It returns the first error once nothing is left.
func (w *Workflows) Signup(ctx workflow.Context, in signup.Input) error {
	input := signup.StepInput{SignupID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	s := w.saga(signup.Steps, input, in.TenantID)
	if workflow.GetVersion(ctx, "quick steps", workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		s.RunQuickly()
	}
	for _, step := range signup.Steps {
		if err := s.Do(ctx, step); err != nil {
			if s.HasCommitted(ctx, step, isTenantOpen) {
				break
			}
			return s.RollBack(ctx, step, err)
		}
	}
	s.Complete(ctx)
	return nil
}

var isTenantOpen = saga.Question{Activity: signup.IsTenantOpen, Change: "ask whether the church is open"}
