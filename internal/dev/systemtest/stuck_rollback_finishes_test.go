package systemtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/ids"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// TestStuckRollbackFinishes stops the tenants' server during a signup. The rollback stays open and visible, and ends when
// the server is back.
func TestStuckRollbackFinishes(t *testing.T) {
	t.Parallel()
	options := localpg.Options{Dir: testenv.Folder(t) + "/postgres"}
	server := startServer(t, options)
	options.Port = server.Port
	s := teststack.NewOn(t, server.AdminURL(), teststack.WithWait(0))
	s.Faults.First(1, "CreateTenantAdmin", func(run func() error) error {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		return run()
	})
	body := teststack.Applicant()
	got := s.Post("/api/auth/register", body)
	if got.Status != http.StatusAccepted {
		t.Fatalf("register: status %d, want 202\n%s", got.Status, got.Body)
	}
	signupID := got.JSON(t)["signupId"].(string)
	countStuck(s)

	teststack.Eventually(t, "the rollback is stuck", func() bool { return outcome(s, body["email"]) == saga.OutcomeRollbackStuck })
	wantStatus(s, signupID, "running", "CreateTenantAdmin")
	if !strings.Contains(s.Log.String(), `"msg":"A rollback is stuck and is being retried"`) {
		t.Error("the log does not say that a rollback is stuck")
	}
	counted := func(n int) bool { return strings.Contains(scrape(s), fmt.Sprintf("\nnarthex_rollbacks_stuck %d\n", n)) }
	teststack.Eventually(t, "the rollback is counted as stuck", func() bool { return counted(1) })
	var rows int
	teststack.Eventually(t, "the compensations in the registry have run", func() bool {
		teststack.Row(t, s.Registry, `SELECT count(*) FROM churches`, nil, &rows)
		return rows == 0
	})
	startServer(t, options)
	teststack.Eventually(t, "the rollback has ended", func() bool {
		return s.Get("/api/signups/"+signupID, "").JSON(t)["state"] == "rolled_back"
	})
	teststack.Eventually(t, "no rollback is counted as stuck", func() bool { return counted(0) })
	s.Server.Reset()
	wantNothingLeft(s)
	teststack.Eventually(t, "the outcome is rolled_back", func() bool { return outcome(s, body["email"]) == saga.OutcomeRolledBack })
}

// countStuck counts the stuck rollbacks of the stack, as a worker does, until the test ends.
func countStuck(s *teststack.Stack) {
	go s.Watch.CountStuck(s.T.Context(), s.Temporal, s.Queue, 100*time.Millisecond, s.Logger())
	teststack.Eventually(s.T, "stuck rollbacks are counted", func() bool { return strings.Contains(scrape(s), "\nnarthex_rollbacks_stuck ") })
}

func startServer(t *testing.T, options localpg.Options) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() }) // if the test has stopped it
	return server
}

// outcome returns the search attribute SignupOutcome of an email's newest signup.
func outcome(s *teststack.Stack, email any) (outcome string) {
	s.T.Helper()
	workflowID, runID := newest(s, email)
	described, err := s.Temporal.DescribeWorkflow(s.T.Context(), workflowID, runID)
	if err != nil {
		s.T.Fatal(err)
	}
	outcome, _ = described.TypedSearchAttributes.GetKeyword(saga.Outcome)
	if described.Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED && outcome != saga.OutcomeCompleted {
		s.T.Errorf("a completed signup's outcome is %q, want %q", outcome, saga.OutcomeCompleted)
	}
	return outcome
}

// TestQuestionBeforeARollbackIsRetried makes the question before a rollback fail. That is reported
// like a failing compensation, and the report is cleared if the signup turns out to have succeeded.
func TestQuestionBeforeARollbackIsRetried(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what    teststack.Fault
		state   string
		outcome string
	}{
		"the church is not open": {teststack.FailsBefore, "rolled_back", saga.OutcomeRolledBack},
		"the church is open":     {teststack.FailsAfter, "completed", saga.OutcomeCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := teststack.New(t, teststack.WithWait(0))
			s.Faults.Always("ActivateTenant", c.what)
			s.Faults.Always(signup.IsTenantOpen, teststack.FailsRetryably)
			body := teststack.Applicant()
			signupID := s.Post("/api/auth/register", body).JSON(t)["signupId"].(string)
			teststack.Eventually(t, "the question is stuck", func() bool { return outcome(s, body["email"]) == saga.OutcomeRollbackStuck })
			s.Faults.Always(signup.IsTenantOpen, nil)
			teststack.Eventually(t, "the signup is "+c.state, func() bool {
				return s.Get("/api/signups/"+signupID, "").JSON(t)["state"] == c.state
			})
			teststack.Eventually(t, "the outcome is "+c.outcome, func() bool { return outcome(s, body["email"]) == c.outcome })
		})
	}
}

// TestSignupWithUnreadableInputIsRolledBack starts a signup whose input can't be opened. No step can run, but that must not
// stop any compensation.
func TestSignupWithUnreadableInputIsRolledBack(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	in := signup.Input{
		TenantID: ids.New(), AdminID: ids.New(), EmailHash: ids.New(), Applicant: []byte("sealed by nobody"),
		RequestedAt: time.Now(), TrialEndsAt: time.Now(),
	}
	run, err := s.Temporal.ExecuteWorkflow(t.Context(), signup.StartOptions(s.Queue, in, true), signup.Workflow, in)
	if err != nil {
		t.Fatal(err)
	}
	var failure *temporal.ApplicationError
	if err := run.Get(t.Context(), nil); !errors.As(err, &failure) || failure.Type() != saga.ErrorSealing {
		t.Errorf("the signup ended with %v, want a failure of type %s", err, saga.ErrorSealing)
	}
	if got, want := s.Faults.Succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
		t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
	}
	wantNothingLeft(s)
}

// TestClosedDatabaseIsDropped lets a signup fail when its database exists but accepts no connections yet. Compensations
// that would need to connect have nothing to undo.
func TestClosedDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	makeTemplate(s)
	s.Faults.Always("CreateDatabase", func(run func() error) error {
		_ = run()
		s.Exec(`ALTER DATABASE tenant_` + s.Faults.TenantIDs()[0] + ` ALLOW_CONNECTIONS false`)
		return teststack.FailsBefore(nil)
	})
	teststack.WantProblem(t, s.Post("/api/auth/register", teststack.Applicant()), http.StatusInternalServerError, "signup-rolled-back")
	wantNothingLeft(s)
	for _, undo := range allUndos() {
		if got := s.Faults.AttemptsOf(undo); got != 1 {
			t.Errorf("%s was tried %d times, want once", undo, got)
		}
	}
}
