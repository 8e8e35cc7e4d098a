package workflows

import (
	"go.temporal.io/sdk/workflow"

	"narthex/internal/invitation"
	"narthex/internal/saga"
)

// Invitation creates an admin without a password on both sides, and offers a token with which to choose one. If
// a step fails for good, or the invitation is cancelled, everything that was made is removed again.
func (w *Workflows) Invitation(ctx workflow.Context, in invitation.Input) error {
	input := invitation.StepInput{InvitationID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	s := w.saga(invitation.Steps, input, in.TenantID)
	for _, step := range invitation.Steps {
		if err := s.Do(ctx, step); err != nil {
			if s.HasCommitted(ctx, step, isOffered) {
				break
			}
			return s.RollBack(ctx, step, err)
		}
	}
	s.Complete(ctx)
	return nil
}

var isOffered = saga.Question{Activity: invitation.IsOffered, Change: "ask whether the invitation was offered"}
