package systemtest

import (
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
	"narthex/internal/signup"
)

// TestZombieMakesNothing holds an attempt before its effect until Temporal has given up on it and rolled back, then lets it
// continue. It must create nothing, and must not harm a new signup.
func TestZombieMakesNothing(t *testing.T) {
	t.Parallel()
	for i, step := range signup.Steps {
		for _, way := range databaseSources {
			if way.name != "" && step.Do != "CreateDatabase" && step.Do != "MigrateDatabase" {
				continue // how the database was made doesn't matter here
			}
			t.Run(step.Do+way.name, func(t *testing.T) {
				t.Parallel()
				skipMost(t, i, 5)
				s := teststack.New(t)
				way.prepare(s)
				testZombie(s, step.Do)
			})
		}
	}
}

func testZombie(s *teststack.Stack, step string) {
	s.T.Helper()
	goOn, gone := make(chan struct{}), make(chan error, 10)
	s.Faults.Always(step, func(run func() error) error {
		<-goOn
		err := run()
		gone <- err
		return err
	})
	body := teststack.Applicant()
	teststack.WantProblem(s.T, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	attempts := s.Faults.AttemptsOf(step)
	close(goOn)
	for range attempts {
		if err := <-gone; err == nil {
			s.T.Errorf("a late attempt of %s succeeded, want an error", step)
		}
	}
	wantNothingLeft(s)
	s.Faults.Reset()
	wantWhole(s, s.Register(body))
}

// TestLateCompensationHarmsNoOtherSignup runs a compensation of a rolled-back signup again after the same
// email, and then the same input, has signed up again.
func TestLateCompensationHarmsNoOtherSignup(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	var late []func() error
	for _, undo := range allUndos() {
		s.Faults.Set(undo, func(int) teststack.Fault {
			return func(run func() error) error {
				late = append(late, run) // compensations of one signup run one after the other
				return run()
			}
		})
	}
	s.Faults.Always("ActivateTenant", teststack.FailsBefore)
	body := teststack.Applicant()
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	input := inputOf(s, body["email"].(string))
	s.Faults.Reset()
	replay(s, input)
	for _, undo := range late {
		if err := undo(); err != nil {
			t.Errorf("a late compensation failed: %v", err)
		}
	}
	login := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	if login.Status != http.StatusOK {
		t.Fatalf("login after late compensations: status %d, want 200\n%s", login.Status, login.Body)
	}
	wantWhole(s, login.JSON(t))
}
