package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// TestRollbackThatSticksFinishesByItself stops the tenants' server in the middle of a signup: the rollback
// stays open, in sight, and ends when the server is back.
func TestRollbackThatSticksFinishesByItself(t *testing.T) {
	t.Parallel()
	options := localpg.Options{Dir: testenv.Folder(t) + "/postgres"}
	server := startServer(t, options)
	options.Port = server.Port
	s := newStackOn(t, server.AdminURL(), withWait(0))
	s.faults.first(1, "CreateTenantAdmin", func(run func() error) error {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		return run()
	})
	body := applicant()
	got := s.post("/api/auth/register", body)
	if got.status != http.StatusAccepted {
		t.Fatalf("register: status %d, want 202\n%s", got.status, got.body)
	}
	signupID := got.json(t)["signupId"].(string)
	s.countStuck()

	eventually(t, "the rollback is stuck", func() bool { return s.outcome(body["email"]) == saga.OutcomeRollbackStuck })
	s.wantStatus(signupID, "running", "CreateTenantAdmin")
	if !strings.Contains(s.log.String(), `"msg":"A rollback is stuck and keeps being tried"`) {
		t.Error("the log does not say that a rollback is stuck")
	}
	eventually(t, "the rollback is counted as stuck", func() bool { return strings.Contains(s.scrape(), "\nnarthex_rollbacks_stuck 1\n") })
	var rows int
	eventually(t, "the compensations in the registry have run", func() bool {
		row(t, s.registry, `SELECT count(*) FROM churches`, nil, &rows)
		return rows == 0
	})
	startServer(t, options)
	eventually(t, "the rollback has ended", func() bool {
		return s.get("/api/signups/"+signupID, "").json(t)["state"] == "rolled_back"
	})
	eventually(t, "no rollback is counted as stuck", func() bool { return strings.Contains(s.scrape(), "\nnarthex_rollbacks_stuck 0\n") })
	s.server.Reset()
	s.wantNothingLeft()
	eventually(t, "the outcome is rolled_back", func() bool { return s.outcome(body["email"]) == saga.OutcomeRolledBack })
}

// countStuck counts the stuck rollbacks of the stack, as a worker does, until the test ends.
func (s *stack) countStuck() {
	go s.watch.CountStuck(s.t.Context(), s.temporal, s.queue, 100*time.Millisecond, s.logger())
	eventually(s.t, "stuck rollbacks are counted", func() bool { return strings.Contains(s.scrape(), "\nnarthex_rollbacks_stuck ") })
}

func startServer(t *testing.T, options localpg.Options) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() }) // again, where the test has stopped it
	return server
}

// outcome returns the search attribute SignupOutcome of an email's newest signup.
func (s *stack) outcome(email any) (outcome string) {
	s.t.Helper()
	workflowID, runID := s.newest(email)
	described, err := s.temporal.DescribeWorkflow(s.t.Context(), workflowID, runID)
	if err != nil {
		s.t.Fatal(err)
	}
	outcome, _ = described.TypedSearchAttributes.GetKeyword(saga.Outcome)
	if described.Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED && outcome != saga.OutcomeCreated {
		s.t.Errorf("a completed signup's outcome is %q, want %q", outcome, saga.OutcomeCreated)
	}
	return outcome
}

// TestWhetherTheChurchIsOpenIsAskedForAsLongAsItTakes has the question before a rollback fail: that is seen as a
// compensation's failing is, and forgotten where the signup had ended well.
func TestWhetherTheChurchIsOpenIsAskedForAsLongAsItTakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what    fault
		state   string
		outcome string
	}{
		"and it is not": {failsBefore, "rolled_back", saga.OutcomeRolledBack},
		"and it is":     {failsAfter, "completed", saga.OutcomeCreated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, withWait(0))
			s.faults.always("ActivateTenant", c.what)
			s.faults.always(signup.IsTenantOpen, failsRetryably)
			body := applicant()
			signupID := s.post("/api/auth/register", body).json(t)["signupId"].(string)
			eventually(t, "the question is stuck", func() bool { return s.outcome(body["email"]) == saga.OutcomeRollbackStuck })
			s.faults.always(signup.IsTenantOpen, nil)
			eventually(t, "the signup is "+c.state, func() bool {
				return s.get("/api/signups/"+signupID, "").json(t)["state"] == c.state
			})
			eventually(t, "the outcome is "+c.outcome, func() bool { return s.outcome(body["email"]) == c.outcome })
		})
	}
}

// TestInputThatDoesNotOpenIsRolledBack starts a signup whose seal does not open: nothing of it can be done, and
// that it cannot be opened either keeps no compensation from its end.
func TestInputThatDoesNotOpenIsRolledBack(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	in := signup.Input{TenantID: ids.New(), AdminID: ids.New(), EmailHash: ids.New(), Applicant: []byte("sealed by nobody"), RequestedAt: time.Now(), TrialEndsAt: time.Now()}
	run, err := s.temporal.ExecuteWorkflow(t.Context(), signup.StartOptions(s.queue, in, true), signup.Workflow, in)
	if err != nil {
		t.Fatal(err)
	}
	var failure *temporal.ApplicationError
	if err := run.Get(t.Context(), nil); !errors.As(err, &failure) || failure.Type() != saga.ErrorSealing {
		t.Errorf("the signup ended with %v, want a failure of type %s", err, saga.ErrorSealing)
	}
	if got, want := s.faults.succeeded(allUndos()...), allUndos(); !slices.Equal(got, want) {
		t.Errorf("compensations ran as\n  %v, want\n  %v", got, want)
	}
	s.wantNothingLeft()
}

// TestADatabaseThatIsStillClosedIsDropped fails a signup whose database was made, but not opened to its role yet:
// what has to look into it has nothing to undo.
func TestADatabaseThatIsStillClosedIsDropped(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.makeTemplate()
	s.faults.always("CreateDatabase", func(run func() error) error {
		_ = run()
		s.exec(`ALTER DATABASE tenant_` + s.faults.tenantIDs()[0] + ` ALLOW_CONNECTIONS false`)
		return failsBefore(nil)
	})
	wantProblem(t, s.post("/api/auth/register", applicant()), http.StatusInternalServerError, "signup-rolled-back")
	s.wantNothingLeft()
	for _, undo := range allUndos() {
		if got := s.faults.attemptsOf(undo); got != 1 {
			t.Errorf("%s was tried %d times, want once", undo, got)
		}
	}
}
