package signup

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// The search attributes of a signup, written at its start and when something goes wrong. None holds
// personal data.
var (
	TenantID   = temporal.NewSearchAttributeKeyKeyword("TenantId")
	SignupStep = temporal.NewSearchAttributeKeyKeyword("SignupStep") // the step it began with, that failed, or the compensation that is stuck
	Outcome    = temporal.NewSearchAttributeKeyKeyword("SignupOutcome")
	FailedStep = temporal.NewSearchAttributeKeyKeyword("FailedStep")
)

// SearchAttributes lists the search attributes that a namespace needs before a signup can start in it.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	all := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{TenantID, SignupStep, Outcome, FailedStep} {
		all[key.GetName()] = key.GetValueType()
	}
	return all
}

// startAttributes are the search attributes that a signup starts with.
func startAttributes(tenantID string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(TenantID.ValueSet(tenantID), SignupStep.ValueSet(firstStep), Outcome.ValueSet(OutcomeCreated))
}
