package workflows

import (
	"go.temporal.io/sdk/workflow"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// InvitationSteps are the steps of the invitation of a co-admin, in order, each with what undoes it.
var InvitationSteps = []signup.Step{
	{Do: "CreateInvitedAdmin", Doing: "enter the admin in the registry",
		Undo: "DeleteInvitedAdmin", Undoing: "delete the admin from the registry"},
	{Do: "IndexInvitedEmail", Doing: "make the email lead to the church",
		Undo: "UnindexInvitedEmail", Undoing: "free the email"},
	{Do: "CreateInvitedTenantAdmin", Doing: "add the admin to {database}",
		Undo: "DeleteInvitedTenantAdmin", Undoing: "delete the admin from {database}"},
	{Do: "OfferInvitation", Doing: "make the token good"}, // the commit point
}

// Invitation makes an admin on both sides who has no password yet, and lets a token choose one. If a step
// fails for good, everything that was made is removed again.
func (w *Workflows) Invitation(ctx workflow.Context, in invitation.Input) error {
	saga := w.saga(InvitationSteps, in.TenantID)
	input := invitation.StepInput{InvitationID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	for _, step := range InvitationSteps {
		if err := saga.Do(ctx, step, input); err != nil {
			if hasEnded(ctx, saga, step, "ask whether the invitation was offered", invitation.IsOffered, input) {
				break
			}
			return rollBack(ctx, saga, step.Do, err)
		}
	}
	ended(ctx, signup.OutcomeCreated, "")
	return nil
}
