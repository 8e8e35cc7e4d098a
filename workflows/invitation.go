package workflows

import (
	"go.temporal.io/sdk/workflow"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// InvitationSteps are the steps of the invitation of a co-admin, in order, each with what undoes it.
var InvitationSteps = []signup.Step{
	{Do: "CreateInvitedAdmin", Undo: "DeleteInvitedAdmin"},             // registry
	{Do: "IndexInvitedEmail", Undo: "UnindexInvitedEmail"},             // registry: email → tenant
	{Do: "CreateInvitedTenantAdmin", Undo: "DeleteInvitedTenantAdmin"}, // the same admin in the tenant's own database
	{Do: "OfferInvitation"}, // the commit point: its token is good
}

// Invitation makes an admin on both sides who has no password yet, and lets a token choose one. If a step
// fails for good, everything that was made is removed again.
func Invitation(ctx workflow.Context, in invitation.Input) error {
	saga := &Saga{Forward: forward, Backward: backward, Patience: patience, Stuck: stuck}
	input := invitation.StepInput{InvitationID: workflow.GetInfo(ctx).OriginalRunID, Input: in}
	for _, step := range InvitationSteps {
		if err := saga.Do(ctx, step, input); err != nil {
			return rollBack(ctx, saga, step.Do, err)
		}
	}
	ended(ctx, signup.OutcomeCompleted, "")
	return nil
}
