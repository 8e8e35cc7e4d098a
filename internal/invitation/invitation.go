// Package invitation is the contract of the invitation of a co-admin: what the API hands to the workflow,
// and what the workflow hands to each activity. It is data alone.
package invitation

import (
	"time"

	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// Workflow is the registered name of the invitation workflow.
const Workflow = "Invitation"

// Steps are the steps of the invitation of a co-admin, in order, each with what undoes it.
var Steps = []saga.Step{
	{Do: "CreateInvitedAdmin", Doing: "enter the admin in the registry",
		Undo: "DeleteInvitedAdmin", Undoing: "delete the admin from the registry"},
	{Do: "IndexInvitedEmail", Doing: "make the email lead to the church",
		Undo: "UnindexInvitedEmail", Undoing: "free the email"},
	{Do: "CreateInvitedTenantAdmin", Doing: "add the admin to {database}",
		Undo: "DeleteInvitedTenantAdmin", Undoing: "delete the admin from {database}"},
	{Do: "OfferInvitation", Doing: "make the token good"}, // the commit point
}

// IsOffered is the activity that is asked before a rollback that might undo what was offered: it takes a
// StepInput and returns a bool.
const IsOffered = "IsInvitationOffered"

// Lifetime is how long an invitation can be accepted.
const Lifetime = 7 * 24 * time.Hour

// Input is what an invitation workflow starts with. It carries nothing personal or secret in clear.
type Input struct {
	TenantID  string    `json:"tenantId"`
	AdminID   string    `json:"adminId"`   // of the admin to be
	EmailHash string    `json:"emailHash"` // blind index of the normalised email
	TokenHash []byte    `json:"tokenHash"` // of what the invitee shows
	Invitee   []byte    `json:"invitee"`   // an Invitee, sealed
	InvitedAt time.Time `json:"invitedAt"` // UTC
	ExpiresAt time.Time `json:"expiresAt"` // UTC
}

// EndsAt returns until when an invitation can be accepted that is offered now. One that is offered a day or more after it
// was asked for, because it was replayed, has its whole lifetime from now on.
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

// StepInput is what each activity is given.
type StepInput struct {
	InvitationID string `json:"invitationId"` // of the workflow's first run; what is made carries it
	Input
}

// WorkflowID is the workflow's id: one running invitation per email.
func WorkflowID(emailHash string) string { return "invitation-" + emailHash }

// InviteePlace is where an input's Invitee is sealed for.
func InviteePlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "invitation", Column: "invitee", Tenant: tenantID}
}
