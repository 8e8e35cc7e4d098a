package activities_test

import (
	"testing"

	"narthex/internal/saga"
)

func TestCreateChurch(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("CreateChurch")
}

// A taken email is an answer, not a fault, and must not alert anybody.
func TestCreateChurchWithATakenEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.newSignup("pat@example.org")
	b.want("the first time", "CreateChurch", first, "")
	b.wantFailure("CreateChurch", b.newSignup("pat@example.org"), failure{kind: saga.ErrorEmailTaken, benign: true})
	b.want("for the email's holder", "DeleteChurch", first, "")
	b.want("once the email is free", "CreateChurch", b.newSignup("pat@example.org"), "")
}
