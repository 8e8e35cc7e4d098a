package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"

	"narthex/internal/localpg"
	"narthex/internal/signup"
	"narthex/internal/testenv"
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

	eventually(t, "the rollback is stuck", func() bool { return s.outcome(body["email"]) == signup.OutcomeRollbackStuck })
	s.wantStatus(signupID, "running", "CreateTenantAdmin")
	if !strings.Contains(s.log.String(), `"msg":"A rollback is stuck and keeps being tried"`) {
		t.Error("the log does not say that a rollback is stuck")
	}
	var rows int
	eventually(t, "the compensations in the registry have run all the same", func() bool {
		row(t, s.registry, `SELECT count(*) FROM churches`, nil, &rows)
		return rows == 0
	})
	startServer(t, options)
	eventually(t, "the rollback has ended", func() bool {
		return s.get("/api/signups/"+signupID, "").json(t)["state"] == "rolled_back"
	})
	s.server.Reset()
	s.wantNothingLeft()
	eventually(t, "the outcome is rolled_back", func() bool { return s.outcome(body["email"]) == signup.OutcomeRolledBack })
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
	outcome, _ = described.TypedSearchAttributes.GetKeyword(signup.Outcome)
	if described.Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED && outcome != signup.OutcomeCreated {
		s.t.Errorf("a completed signup's outcome is %q, want %q", outcome, signup.OutcomeCreated)
	}
	return outcome
}
