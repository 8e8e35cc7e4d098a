// Package signup is the contract of a signup: what the API hands to the workflow, what the workflow
// hands to each activity, and the names by which they call each other. It is data alone, so that the
// workflow can depend on it without depending on a database.
package signup

import "time"

// Workflow is the registered name of the signup workflow.
const Workflow = "Signup"

// Step is an activity with the activity that undoes it, and what each is to people. Undo is empty for the
// commit point. In the texts {database} stands for the tenant's database and {server} for its server.
type Step struct {
	Do   string
	Undo string

	Doing   string // "create role and database {database} on {server}"
	Undoing string // "drop database and role {database} on {server}"
}

const firstStep = "CreateDatabase"

// IsTenantOpen is the activity that is asked before a rollback that might undo an open church: it takes a
// StepInput and returns a bool.
const IsTenantOpen = "IsTenantOpen"

// Types of the application errors that an activity or the workflow fails with.
const (
	ErrorEmailTaken = "EmailTaken" // another church's admin has this email; benign, never retried
	ErrorUndone     = "Undone"     // the signup was rolled back: a late attempt may make nothing; never retried
	ErrorNotOwned   = "NotOwned"   // what the step would touch belongs to another signup; never retried
	ErrorDatabase   = "Database"   // PostgreSQL failed; retried unless its SQLSTATE says that it would fail again
	ErrorSealing    = "Sealing"    // sealed data could not be opened or made; never retried
)

// Values of the search attribute SignupOutcome. Each signup starts with the first: only what goes wrong is
// written later. A signup that is created is one that has completed, too.
const (
	OutcomeCreated       = "created"
	OutcomeRefused       = "refused"        // rolled back because the email was taken
	OutcomeRolledBack    = "rolled_back"    // rolled back after a failure or a cancel
	OutcomeRollbackStuck = "rollback_stuck" // a compensation keeps failing; it is still being tried
)

// Input is what a signup workflow starts with. Every id and time in it was made before the start, so
// that a retry, a replay and a reset are the same function of the same input. It carries nothing
// personal or secret in clear.
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

// StepInput is what every activity of a signup gets.
type StepInput struct {
	// SignupID owns whatever the step makes. It is the id of the workflow's run before any reset: the
	// same for every retry and reset of one signup, another for a signup started anew with the same input.
	SignupID string `json:"signupId"`
	Input
}

// WorkflowID returns the workflow id of a signup: one can run per email.
func WorkflowID(emailHash string) string { return "signup-" + emailHash }
