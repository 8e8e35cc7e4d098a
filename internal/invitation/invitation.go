// Package invitation is the contract for inviting a co-admin: what the API passes to the workflow, and what
// the workflow passes to each activity. It also starts invitations for the API.
package invitation

import (
	"time"

	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// Workflow is the registered name of the invitation workflow.
const Workflow = "Invitation"

// Steps are the steps of a co-admin's invitation, in order, each with its compensation.
var Steps = []saga.Step{
	{Do: "CreateInvitedAdmin", Doing: "add the admin to the registry",
		Undo: "DeleteInvitedAdmin", Undoing: "delete the admin from the registry"},
	{Do: "IndexInvitedEmail", Doing: "index the email, so that it leads to the church",
		Undo: "UnindexInvitedEmail", Undoing: "free the email"},
	{Do: "CreateInvitedTenantAdmin", Doing: "add the admin to {database}",
		Undo: "DeleteInvitedTenantAdmin", Undoing: "delete the admin from {database}"},
	{Do: "OfferInvitation", Doing: "activate the invitation's token"}, // the commit point
}

// IsOffered is the activity that is asked before a rollback, which must not undo an offered invitation. It
// takes a StepInput and returns a bool.
const IsOffered = "IsInvitationOffered"

// Lifetime is how long an invitation can be accepted.
const Lifetime = 7 * 24 * time.Hour

// Input is what an invitation workflow starts with. It contains no personal or secret data in clear.
type Input struct {
	TenantID  string    `json:"tenantId"`
	AdminID   string    `json:"adminId"`   // of the future admin
	EmailHash string    `json:"emailHash"` // blind index of the normalised email
	TokenHash []byte    `json:"tokenHash"` // of the token that the invitee presents
	Invitee   []byte    `json:"invitee"`   // an Invitee, sealed
	InvitedAt time.Time `json:"invitedAt"` // UTC
	ExpiresAt time.Time `json:"expiresAt"` // UTC
}

// EndsAt returns until when an invitation that is offered now can be accepted. If it is offered a day or more after it was
// requested, because it was replayed, its whole lifetime starts now.
func (in Input) EndsAt(now time.Time) time.Time {
	if now.Sub(in.InvitedAt) < 24*time.Hour {
		return in.ExpiresAt
	}
	return now.UTC().Truncate(time.Microsecond).Add(Lifetime) // PostgreSQL's precision
}

// Invitee is the personal part of an invitation; it travels sealed.
type Invitee struct {
	Email     string `json:"email"` // normalised
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Role      string `json:"role"`
}

// StepInput is the input of each activity.
type StepInput struct {
	InvitationID string `json:"invitationId"` // id of the workflow's first run; everything that is made carries it
	Input
}

// WorkflowID is the workflow's id: one running invitation per email.
func WorkflowID(emailHash string) string { return "invitation-" + emailHash }

// InviteePlace is the place for which an input's Invitee is sealed.
func InviteePlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "invitation", Column: "invitee", Tenant: tenantID}
}
