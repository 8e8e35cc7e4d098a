package activities_test

import (
	"strings"
	"testing"

	"narthex/internal/invitation"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// A step whose input can't be opened with any key fails without retries. It is undone like any other.
func TestUnreadableInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := b.newSignup("pat@example.org")
	in.Applicant = []byte("sealed by nobody")
	for _, step := range signup.Steps {
		if step.Undo == "" {
			continue
		}
		b.wantFailure(step.Do, in, failure{kind: saga.ErrorSealing})
		b.want("with input that does not open", step.Undo, in, "")
	}
	invited := b.newInvitation(b.openChurch().TenantID, "kim@example.org")
	invited.Invitee = []byte("sealed by nobody")
	for _, step := range invitation.Steps {
		if step.Undo == "" {
			continue
		}
		b.wantFailure(step.Do, invited, failure{kind: saga.ErrorSealing})
		b.want("with input that does not open", step.Undo, invited, "")
	}
}

// An outage is retried. A compensation is retried whatever happens: a rollback never gives up.
func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	signups := b.signups()
	in := signups.begin()
	if _, err := b.registry.Exec(t.Context(), `ALTER TABLE signup_tombstones RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	for _, step := range signup.Steps {
		b.wantFailure(step.Do, in, failure{kind: saga.ErrorDatabase})
		if step.Undo != "" {
			b.wantFailure(step.Undo, in, failure{kind: saga.ErrorDatabase, retried: true})
		}
	}
	b.do.Registry.Close()
	for _, step := range signup.Steps {
		b.wantFailure(step.Do, in, failure{kind: saga.ErrorDatabase, retried: true})
	}
}

// A failure is kept in the history. PostgreSQL's errors, and its driver's, may quote what was to be written.
func TestFailuresHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a broken rule": `ALTER TABLE churches ADD CHECK (name <> 'Grace Chapel')`,
		"a wrong type":  `ALTER TABLE churches ALTER name TYPE int USING 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if _, err := b.registry.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			_, err := b.env.ExecuteActivity("CreateChurch", b.newSignup("pat@example.org"))
			if err == nil || strings.Contains(err.Error(), "Grace") || strings.Contains(err.Error(), "pat@") {
				t.Errorf("it fails with %v, want an error without the church's name and email", err)
			}
		})
	}
}
