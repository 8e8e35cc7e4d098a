package activities_test

import (
	"testing"

	"narthex/internal/saga"
)

func TestIndexAdminEmail(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("IndexAdminEmail")
}

// The email of an invited admin isn't a church's, so only the index knows that it is taken.
func TestTheIndexRefusesATakenEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const email = "kim@example.org"
	church := b.openChurch()
	b.invitations(church).do(2, b.newInvitation(church.TenantID, email))
	in := b.newSignup(email)
	b.signups().do(4, in)
	for _, activity := range []string{"CreateAdmin", "IndexAdminEmail"} {
		b.wantFailure(activity, in, failure{kind: saga.ErrorEmailTaken, benign: true})
	}
}
