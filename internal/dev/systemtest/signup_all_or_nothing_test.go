package systemtest

import (
	"net/http"
	"slices"
	"testing"

	"narthex/internal/dev/teststack"
	"narthex/internal/signup"
)

// wantNothingLeft checks that no database, no role and no row is left of any signup of this stack.
func wantNothingLeft(s *teststack.Stack) {
	s.T.Helper()
	tenants := s.Faults.TenantIDs()
	if len(tenants) == 0 {
		s.T.Fatal("no signup ran, so it proves nothing that nothing is left")
	}
	for _, tenantID := range tenants {
		var databases, roles int
		teststack.Row(s.T, s.Server, `
			SELECT (SELECT count(*) FROM pg_database WHERE datname = $1), (SELECT count(*) FROM pg_roles WHERE rolname = $1)`,
			[]any{"tenant_" + tenantID}, &databases, &roles)
		if databases != 0 || roles != 0 {
			s.T.Errorf("tenant %s: %d databases and %d roles are left, want none", tenantID, databases, roles)
		}
	}
	for _, table := range []string{"churches", "tenants", "admins", "admin_email_index"} {
		var rows int
		teststack.Row(s.T, s.Registry, `SELECT count(*) FROM `+table, nil, &rows)
		if rows != 0 {
			s.T.Errorf("%d rows are left in the registry's %s, want none", rows, table)
		}
	}
	wantStockConsistent(s)
}

// allUndos returns the compensations in the order in which they must run. All of them run whichever step fails, because an
// earlier workflow task that was lost may have got further.
func allUndos() (names []string) {
	for _, step := range signup.Steps {
		if step.Undo != "" {
			names = append(names, step.Undo)
		}
	}
	slices.Reverse(names)
	return names
}

// TestFaultMatrix makes each step fail for good, in each way. Afterwards nothing is left, all compensations
// have run in exactly reverse order, and the same email can sign up again at once. But a signup that has opened
// the church has succeeded, even if the answer was lost: somebody may be using it.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	for i, step := range signup.Steps {
		for j, c := range []struct {
			name   string
			what   teststack.Fault
			effect bool
		}{
			{"before its effect", teststack.FailsBefore, false},
			{"after its effect", teststack.FailsAfter, true},
			{"after its effect with answers lost", teststack.AnswerLost, true},
			{"retryably until its budget is spent", teststack.FailsRetryably, false},
		} {
			for k, way := range databaseSources {
				t.Run(step.Do+" fails "+c.name+way.name, func(t *testing.T) {
					t.Parallel()
					skipMost(t, i-j, 4) // each step fails in one way
					skipMost(t, i-k, 3)
					s := teststack.New(t)
					way.prepare(s)
					s.Faults.Always(step.Do, c.what)
					if commitPoint := step.Undo == ""; commitPoint && c.effect {
						wantWhole(s, s.Register(teststack.Applicant()))
						return
					}
					testFault(s, step.Do)
				})
			}
		}
	}
}

// databaseSources are the ways in which a signup gets its database.
var databaseSources = []struct {
	name    string
	prepare func(*teststack.Stack)
}{
	{"", func(*teststack.Stack) {}}, // it is made and migrated
	{" with a template", makeTemplate},
	{" ready", stockUp},
}

// makeTemplate makes the template, from which tenants' databases are then copied.
func makeTemplate(s *teststack.Stack) {
	s.T.Helper()
	for _, server := range s.Tenants {
		if err := server.EnsureTemplate(s.T.Context()); err != nil {
			s.T.Fatal(err)
		}
	}
}

// testFault signs up while a step fails, and checks that nothing is left and that the email can sign up again.
func testFault(s *teststack.Stack, step string) {
	s.T.Helper()
	body := teststack.Applicant()
	problem := teststack.WantProblem(s.T, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")

	wantNothingLeft(s)
	if got, want := s.Faults.Succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
		s.T.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
	}
	wantStatus(s, problem["signupId"].(string), "rolled_back", step)
	s.Faults.Reset()
	wantWhole(s, s.Register(body))
	wantStockConsistent(s)
}

// wantStatus checks what the status route says about a signup.
func wantStatus(s *teststack.Stack, signupID, state, failedStep string) map[string]any {
	s.T.Helper()
	got := s.Get("/api/signups/"+signupID, "")
	if got.Status != http.StatusOK {
		s.T.Fatalf("signup status: %d, want 200\n%s", got.Status, got.Body)
	}
	status := got.JSON(s.T)
	if status["state"] != state || (failedStep != "" && status["failedStep"] != failedStep) {
		s.T.Errorf("signup status %s\nwant state %q, failed step %q", got.Body, state, failedStep)
	}
	return status
}

// TestTransientFaults makes each step fail once. The signup still succeeds, and creates nothing twice.
func TestTransientFaults(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]teststack.Fault{"fails once": teststack.FailsRetryably, "loses an answer": teststack.AnswerLost} {
		for i, step := range signup.Steps {
			t.Run(step.Do+" "+name, func(t *testing.T) {
				t.Parallel()
				skipMost(t, i, 4)
				s := teststack.New(t)
				s.Faults.First(1, step.Do, what)
				wantWhole(s, s.Register(teststack.Applicant()))
				if got := s.Faults.AttemptsOf(step.Do); got < 2 {
					t.Errorf("%s was tried %d times, want at least 2", step.Do, got)
				}
			})
		}
	}
}

func TestCompensationIsRetriedUntilItWorks(t *testing.T) {
	t.Parallel()
	for i, undo := range allUndos() {
		t.Run(undo, func(t *testing.T) {
			t.Parallel()
			skipMost(t, i, 3)
			s := teststack.New(t)
			s.Faults.Always("ActivateTenant", teststack.FailsBefore)
			s.Faults.Set(undo, func(attempt int) teststack.Fault {
				switch attempt {
				case 1:
					return teststack.FailsRetryably
				case 2: // it works but reports a failure, so the next attempt finds nothing to do
					return func(run func() error) error { _ = run(); return teststack.ErrInjected }
				}
				return nil
			})
			teststack.WantProblem(t, s.Post("/api/auth/register", teststack.Applicant()), http.StatusInternalServerError, "signup-rolled-back")
			wantNothingLeft(s)
			if got, want := s.Faults.Succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
				t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
			}
			if got := s.Faults.AttemptsOf(undo); got != 3 {
				t.Errorf("%s was tried %d times, want 3", undo, got)
			}
		})
	}
}
