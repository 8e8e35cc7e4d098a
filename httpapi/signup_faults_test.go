package httpapi_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"narthex/internal/signup"
)

// wantNothingLeft checks that no database, no role and no row is left of any signup of this stack.
func (s *stack) wantNothingLeft() {
	s.t.Helper()
	tenants := s.faults.tenantIDs()
	if len(tenants) == 0 {
		s.t.Fatal("no signup ran, so that nothing was left proves nothing")
	}
	for _, tenantID := range tenants {
		var databases, roles int
		row(s.t, s.server, `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1), (SELECT count(*) FROM pg_roles WHERE rolname = $1)`,
			[]any{"tenant_" + tenantID}, &databases, &roles)
		if databases != 0 || roles != 0 {
			s.t.Errorf("tenant %s: %d databases and %d roles are left, want none", tenantID, databases, roles)
		}
	}
	for _, table := range []string{"churches", "tenants", "admins", "admin_email_index"} {
		var rows int
		row(s.t, s.registry, `SELECT count(*) FROM `+table, nil, &rows)
		if rows != 0 {
			s.t.Errorf("%d rows are left in the registry's %s, want none", rows, table)
		}
	}
	s.wantStockWhole()
}

// allUndos returns the compensations in the order in which they must run: whichever step fails, those of all
// steps do, since an earlier, lost workflow task may have come further.
func allUndos() (names []string) {
	for _, step := range signup.Steps {
		if step.Undo != "" {
			names = append(names, step.Undo)
		}
	}
	slices.Reverse(names)
	return names
}

// TestFaultMatrix makes each step fail in each way, for good. Afterwards nothing is left, all
// compensations have run in exactly reverse order, and the same email signs up again at once. But what has
// opened the church has ended well, whatever became of its answer: somebody may be using it.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	for _, step := range signup.Steps {
		for name, c := range map[string]struct {
			what   fault
			effect bool
		}{
			"before its effect":                   {failsBefore, false},
			"after its effect":                    {failsAfter, true},
			"after its effect with answers lost":  {answerLost, true},
			"retryably until its budget is spent": {failsRetryably, false},
		} {
			for way, prepare := range waysToMakeDatabases {
				t.Run(step.Do+" fails "+name+way, func(t *testing.T) {
					t.Parallel()
					s := newStack(t)
					prepare(s)
					s.faults.always(step.Do, c.what)
					if commitPoint := step.Undo == ""; commitPoint && c.effect {
						s.wantWhole(s.register(applicant()))
						return
					}
					s.testFault(step.Do)
				})
			}
		}
	}
}

// waysToMakeDatabases are how a signup comes by a database.
var waysToMakeDatabases = map[string]func(*stack){
	"":                 func(*stack) {}, // it is made, and migrated
	" with a template": (*stack).makeTemplate,
	" ready":           (*stack).stockUp,
}

// makeTemplate lets tenants' databases be copied from a template.
func (s *stack) makeTemplate() {
	s.t.Helper()
	for _, server := range s.tenants {
		if err := server.EnsureTemplate(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}

// testFault signs up while a step fails, and checks that nothing is left and that the email can sign up again.
func (s *stack) testFault(step string) {
	s.t.Helper()
	body := applicant()
	problem := wantProblem(s.t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")

	s.wantNothingLeft()
	if got, want := s.faults.succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
		s.t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
	}
	s.wantStatus(problem["signupId"].(string), "rolled_back", step)
	s.faults.reset()
	s.wantWhole(s.register(body))
	s.wantStockWhole()
}

// wantStatus checks what the status route says of a signup.
func (s *stack) wantStatus(signupID, state, failedStep string) map[string]any {
	s.t.Helper()
	got := s.get("/api/signups/"+signupID, "")
	if got.status != http.StatusOK {
		s.t.Fatalf("signup status: %d, want 200\n%s", got.status, got.body)
	}
	status := got.json(s.t)
	if status["state"] != state || (failedStep != "" && status["failedStep"] != failedStep) {
		s.t.Errorf("signup status %s\nwant state %q, failed step %q", got.body, state, failedStep)
	}
	return status
}

// TestPassingFaults makes each step go wrong once: the signup gets over it, and makes nothing twice.
func TestPassingFaults(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]fault{"fails once": failsRetryably, "loses an answer": answerLost} {
		for _, step := range signup.Steps {
			t.Run(step.Do+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newStack(t)
				s.faults.first(1, step.Do, what)
				s.wantWhole(s.register(applicant()))
				if got := s.faults.attemptsOf(step.Do); got < 2 {
					t.Errorf("%s was tried %d times, want at least 2", step.Do, got)
				}
			})
		}
	}
}

func TestCompensationIsRetriedUntilItWorks(t *testing.T) {
	t.Parallel()
	for _, undo := range allUndos() {
		t.Run(undo, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			s.faults.always("ActivateTenant", failsBefore)
			s.faults.set(undo, func(attempt int) fault {
				switch attempt {
				case 1:
					return failsRetryably
				case 2: // done, but its failure is reported: the next attempt finds nothing to do
					return func(run func() error) error { _ = run(); return errInjected }
				}
				return nil
			})
			wantProblem(t, s.post("/api/auth/register", applicant()), http.StatusInternalServerError, "signup-rolled-back")
			s.wantNothingLeft()
			if got, want := s.faults.succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
				t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
			}
			if got := s.faults.attemptsOf(undo); got != 3 {
				t.Errorf("%s was tried %d times, want 3", undo, got)
			}
		})
	}
}

// cancelling is a fault that cancels the signup of an email while an attempt is at work.
func (s *stack) cancelling(email any) fault {
	s.t.Helper()
	hash, err := s.keys.EmailIndex(email.(string))
	if err != nil {
		s.t.Fatal(err)
	}
	return func(run func() error) error {
		if err := s.temporal.CancelWorkflow(s.t.Context(), signup.WorkflowID(hash), ""); err != nil {
			s.t.Errorf("cancel: %v", err)
		}
		time.Sleep(200 * time.Millisecond) // the cancel arrives while the step is at work
		return run()
	}
}

// TestCancelRollsBack cancels a signup while each of its steps is at work as an activity: its quick attempt,
// and all earlier ones, have ended.
func TestCancelRollsBack(t *testing.T) {
	t.Parallel()
	for _, step := range signup.Steps[:len(signup.Steps)-1] { // after the last there is nothing to stop
		t.Run("during "+step.Do, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			body := applicant()
			s.faults.asActivity(step.Do, s.cancelling(body["email"]))
			wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
			s.wantNothingLeft()
			if got, want := s.faults.succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
				t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
			}
			s.faults.reset()
			s.register(body)
		})
	}
}

// TestCancelOfQuickSteps cancels a signup while a quick step is at work. Temporal hears of the cancel before it
// hears of the steps, and has the workflow task done anew. Where the church was open by then, the cancel has
// come too late; where a later step fails for good, nothing is left, of the steps after it either.
func TestCancelOfQuickSteps(t *testing.T) {
	t.Parallel()
	for _, step := range signup.Steps {
		t.Run("that all work, during "+step.Do, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			body := applicant()
			s.faults.first(1, step.Do, s.cancelling(body["email"]))
			s.wantWhole(s.register(body))
		})
	}
	t.Run("before one that fails", func(t *testing.T) {
		t.Parallel()
		s := newStack(t)
		body := applicant()
		s.faults.first(1, "CreateDatabase", s.cancelling(body["email"]))
		s.faults.always("ActivateTenant", failsBefore)
		wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
		s.wantNothingLeft()
		if got, want := s.faults.succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
			t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
		}
		s.faults.reset()
		s.wantWhole(s.register(body))
	})
}

// TestZombieMakesNothing cuts an attempt off before its effect, lets Temporal give up on it and roll
// back, and then lets the attempt go on: it must make nothing, and harm nothing of a new signup.
func TestZombieMakesNothing(t *testing.T) {
	t.Parallel()
	for _, step := range signup.Steps {
		for way, prepare := range waysToMakeDatabases {
			if way != "" && step.Do != "CreateDatabase" && step.Do != "MigrateDatabase" {
				continue // how the database was made is nothing to it
			}
			t.Run(step.Do+way, func(t *testing.T) {
				t.Parallel()
				s := newStack(t)
				prepare(s)
				s.testZombie(step.Do)
			})
		}
	}
}

func (s *stack) testZombie(step string) {
	s.t.Helper()
	goOn, gone := make(chan struct{}), make(chan error, 10)
	s.faults.always(step, func(run func() error) error {
		<-goOn
		err := run()
		gone <- err
		return err
	})
	body := applicant()
	wantProblem(s.t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	attempts := s.faults.attemptsOf(step)
	close(goOn)
	for range attempts {
		if err := <-gone; err == nil {
			s.t.Errorf("a late attempt of %s ended well, want an error", step)
		}
	}
	s.wantNothingLeft()
	s.faults.reset()
	s.wantWhole(s.register(body))
}

// TestLateCompensationHarmsNoOtherSignup runs a compensation of a rolled-back signup once more after
// the same email, and then the same input, has signed up anew.
func TestLateCompensationHarmsNoOtherSignup(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var late []func() error
	for _, undo := range allUndos() {
		s.faults.set(undo, func(int) fault {
			return func(run func() error) error {
				late = append(late, run) // compensations of one signup run one after the other
				return run()
			}
		})
	}
	s.faults.always("ActivateTenant", failsBefore)
	body := applicant()
	wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	input := s.inputOf(body["email"].(string))
	s.faults.reset()
	s.replay(input)
	for _, undo := range late {
		if err := undo(); err != nil {
			t.Errorf("a late compensation failed: %v", err)
		}
	}
	login := s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	if login.status != http.StatusOK {
		t.Fatalf("login after late compensations: status %d, want 200\n%s", login.status, login.body)
	}
	s.wantWhole(login.json(t))
}
