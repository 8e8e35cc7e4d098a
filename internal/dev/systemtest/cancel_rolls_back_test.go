package systemtest

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
	"narthex/internal/signup"
)

// cancelling is a fault that cancels an email's signup during an attempt.
func cancelling(s *teststack.Stack, email any) teststack.Fault {
	s.T.Helper()
	hash, err := s.Keys.EmailIndex(email.(string))
	if err != nil {
		s.T.Fatal(err)
	}
	return func(run func() error) error {
		if err := s.Temporal.CancelWorkflow(s.T.Context(), signup.WorkflowID(hash), ""); err != nil {
			s.T.Errorf("cancel: %v", err)
		}
		time.Sleep(200 * time.Millisecond) // the cancel arrives while the step is running
		return run()
	}
}

// TestCancelRollsBack cancels a signup during each of its steps, when the step runs as an activity: its quick attempt and
// all earlier steps have ended.
func TestCancelRollsBack(t *testing.T) {
	t.Parallel()
	for i, step := range signup.Steps[:len(signup.Steps)-1] { // after the last step, there is nothing to stop
		t.Run("during "+step.Do, func(t *testing.T) {
			t.Parallel()
			skipMost(t, i, 3)
			s := teststack.New(t)
			body := teststack.Applicant()
			s.Faults.AsActivity(step.Do, cancelling(s, body["email"]))
			teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
			wantNothingLeft(s)
			if got, want := s.Faults.Succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
				t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
			}
			s.Faults.Reset()
			s.Register(body)
		})
	}
}

// TestCancelOfQuickSteps cancels a signup while a quick step is running. Temporal learns of the cancel before it learns of
// the steps, and repeats the workflow task. If the church is open by then, the cancel is too late. If a later step fails
// for good, nothing is left, not even of the steps after it.
func TestCancelOfQuickSteps(t *testing.T) {
	t.Parallel()
	for i, step := range signup.Steps {
		t.Run("all steps work, during "+step.Do, func(t *testing.T) {
			t.Parallel()
			skipMost(t, i, 4)
			s := teststack.New(t)
			stockUp(s) // a quick step that takes too long becomes an activity, and then the signup can be stopped
			body := teststack.Applicant()
			s.Faults.First(1, step.Do, cancelling(s, body["email"]))
			wantWhole(s, s.Register(body))
		})
	}
	t.Run("a later step fails", func(t *testing.T) {
		t.Parallel()
		s := teststack.New(t)
		body := teststack.Applicant()
		s.Faults.First(1, "CreateDatabase", cancelling(s, body["email"]))
		s.Faults.Always("ActivateTenant", teststack.FailsBefore)
		teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
		wantNothingLeft(s)
		if got, want := s.Faults.Succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
			t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
		}
		s.Faults.Reset()
		wantWhole(s, s.Register(body))
	})
}
