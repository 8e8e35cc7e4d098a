package signup

import "narthex/internal/secrets"

// ApplicantPlace is where a signup's sealed Applicant belongs: in the input of that tenant's signup.
func ApplicantPlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "signup.input", Column: "applicant", Tenant: tenantID}
}
