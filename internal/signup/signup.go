// Package signup is the contract of a signup: what the API passes to the workflow, what the workflow
// passes to each activity, and the names by which they call each other. It imports no database, so that
// the workflow can depend on it without depending on one.
package signup

import (
	"time"

	"narthex/internal/saga"
)

// Workflow is the registered name of the signup workflow.
const Workflow = "Signup"

// Steps are the steps of a signup, in order, each with its compensation.
var Steps = []saga.Step{
	{Do: "CreateDatabase", Doing: "create role and database {database} on {server}",
		Undo: "DropDatabase", Undoing: "drop database and role {database} on {server}"},
	{Do: "MigrateDatabase", Doing: "create the 24 tables in {database}",
		Undo: "RevertDatabase", Undoing: "remove the tables from {database}"},
	{Do: "CreateChurch", Doing: "add the church to the registry, on trial",
		Undo: "DeleteChurch", Undoing: "delete the church from the registry"},
	{Do: "CreateTenant", Doing: "record in the registry where {database} is",
		Undo: "DeleteTenant", Undoing: "delete the tenant from the registry"},
	{Do: "CreateAdmin", Doing: "add the PRIMARY admin to the registry",
		Undo: "DeleteAdmin", Undoing: "delete the admin from the registry"},
	{Do: "IndexAdminEmail", Doing: "index the email, so that it leads to the church",
		Undo: "UnindexAdminEmail", Undoing: "free the email"},
	{Do: "CreateTenantAdmin", Doing: "add the admin to {database}",
		Undo: "DeleteTenantAdmin", Undoing: "delete the admin from {database}"},
	{Do: "ActivateTenant", Doing: "open the church"}, // the commit point: nothing after it can fail
}

// IsTenantOpen is the activity that is asked before a rollback, which must not undo an open church. It takes
// a StepInput and returns a bool.
const IsTenantOpen = "IsTenantOpen"

// Input is what a signup workflow starts with. Every id and time in it is made before the start, so
// that a retry, a replay and a reset are the same function of the same input. It contains no personal
// or secret data in clear.
type Input struct {
	TenantID    string    `json:"tenantId"`    // ULID; the church's and the tenant's id
	AdminID     string    `json:"adminId"`     // ULID; the admin's id on both sides
	EmailHash   string    `json:"emailHash"`   // blind index of the normalised email
	Applicant   []byte    `json:"applicant"`   // an Applicant, sealed
	RequestedAt time.Time `json:"requestedAt"` // UTC
	TrialEndsAt time.Time `json:"trialEndsAt"` // UTC
}

// Applicant is the personal and secret part of a signup; it travels sealed.
type Applicant struct {
	ChurchName       string `json:"churchName"`
	Email            string `json:"email"` // normalised
	FirstName        string `json:"firstName"`
	LastName         string `json:"lastName"`
	PasswordHash     string `json:"passwordHash"`     // bcrypt
	DatabasePassword string `json:"databasePassword"` // of the tenant's role, 256 random bits
}

// StepInput is the input of every activity of a signup.
type StepInput struct {
	// SignupID owns whatever the step makes. It is the id of the workflow's run before any reset: the same
	// for every retry and reset of one signup, but different if a signup is started again with the same input.
	SignupID string `json:"signupId"`
	Input
}

// WorkflowID returns the workflow id of a signup: only one can run per email.
func WorkflowID(emailHash string) string { return "signup-" + emailHash }
