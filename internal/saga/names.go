package saga

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// The search attributes of a saga's run, with their names in Temporal. None contains personal data.
var (
	TenantID    = temporal.NewSearchAttributeKeyKeyword("TenantId")
	CurrentStep = temporal.NewSearchAttributeKeyKeyword("SignupStep") // the first step, then the failed step or stuck compensation
	Outcome     = temporal.NewSearchAttributeKeyKeyword("SignupOutcome")
	FailedStep  = temporal.NewSearchAttributeKeyKeyword("FailedStep")
)

// Values of the search attribute SignupOutcome.
const (
	OutcomeRunning       = "running"        // until another outcome is known; before November 2026 runs started as created
	OutcomeCompleted     = "created"        // everything that the saga makes exists; the value is older than invitations
	OutcomeRefused       = "refused"        // rolled back because the email was taken
	OutcomeRolledBack    = "rolled_back"    // rolled back after a failure or a cancel
	OutcomeRollbackStuck = "rollback_stuck" // a compensation keeps failing; it is still being tried
)

// Types of the application errors with which an activity or the workflow fails.
const (
	ErrorEmailTaken = "EmailTaken" // another admin has this email; benign, never retried
	ErrorUndone     = "Undone"     // the saga was rolled back: a late attempt may make nothing; never retried
	ErrorNotOwned   = "NotOwned"   // the step would touch what belongs to another saga; never retried
	ErrorDatabase   = "Database"   // PostgreSQL failed; retried unless the SQLSTATE says that it would fail again
	ErrorSealing    = "Sealing"    // data could not be sealed or opened; never retried
)

// SearchAttributes lists the search attributes that a namespace needs before a saga can start in it.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	all := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{TenantID, CurrentStep, Outcome, FailedStep} {
		all[key.GetName()] = key.GetValueType()
	}
	return all
}

// StartAttributes returns the search attributes with which a run of the steps for a tenant starts.
func StartAttributes(steps []Step, tenantID string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(TenantID.ValueSet(tenantID), CurrentStep.ValueSet(steps[0].Do), Outcome.ValueSet(OutcomeRunning))
}
