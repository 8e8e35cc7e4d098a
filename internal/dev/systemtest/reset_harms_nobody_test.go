package systemtest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"narthex/internal/dev/teststack"
	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// resetPoints returns the events to which Temporal's UI lets a run be reset.
func resetPoints(s *teststack.Stack, workflowID, runID string) (points []int64) {
	s.T.Helper()
	for _, event := range history(s, workflowID, runID).Events {
		if event.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			points = append(points, event.EventId)
		}
	}
	return points
}

// reset resets a run as the UI does, waits for the new one, and returns its error.
func reset(s *teststack.Stack, workflowID, runID string, point int64) error {
	s.T.Helper()
	started, err := s.Temporal.ResetWorkflowExecution(s.T.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
		Reason: "a test", WorkflowTaskFinishEventId: point, RequestId: rand.Text(),
	})
	if err != nil {
		s.T.Fatalf("reset to event %d: %v", point, err)
	}
	return s.Temporal.GetWorkflow(s.T.Context(), workflowID, started.RunId).Get(s.T.Context(), nil)
}

// newest returns the ids of an email's newest run.
func newest(s *teststack.Stack, email any) (workflowID, runID string) {
	s.T.Helper()
	hash, err := s.Keys.EmailIndex(email.(string))
	if err != nil {
		s.T.Fatal(err)
	}
	workflowID = signup.WorkflowID(hash)
	described, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), workflowID, "")
	if err != nil {
		s.T.Fatal(err)
	}
	return workflowID, described.WorkflowExecutionInfo.Execution.RunId
}

// TestResetOfARolledBackSignupLeavesNothing resets a signup that was rolled back to each point.
func TestResetOfARolledBackSignupLeavesNothing(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	s.Faults.Always("ActivateTenant", teststack.FailsBefore)
	body := teststack.Applicant()
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	s.Faults.Always("ActivateTenant", nil)
	workflowID, runID := newest(s, body["email"])
	points := resetPoints(s, workflowID, runID)
	if len(points) < 10 { // quick steps, the last step, whether it has ended, and 7 compensations
		t.Fatalf("%d points to reset to, want at least 10", len(points))
	}
	for _, point := range points {
		if err := reset(s, workflowID, runID, point); err == nil {
			t.Errorf("reset to event %d: the signup succeeded, want it rolled back", point)
		}
		wantNothingLeft(s)
	}
	if tenants := s.Faults.TenantIDs(); len(tenants) != 1 {
		t.Errorf("resets worked on the tenants %v, want one", tenants)
	}
	s.Faults.Reset()
	wantWhole(s, s.Register(body))
}

// TestResetOfACompletedSignupLeavesItWhole resets a completed signup to each point. The church is in use and must stay as
// it is, even if the steps fail when they run again.
func TestResetOfACompletedSignupLeavesItWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(s *teststack.Stack, tenantID string)
		after     func(s *teststack.Stack, session map[string]any)
	}{
		"and nothing fails": {
			func(*teststack.Stack, string) {}, wantWhole,
		},
		"and the last step fails": {
			func(s *teststack.Stack, _ string) { s.Faults.Always("ActivateTenant", teststack.FailsBefore) }, wantWhole,
		},
		"and the first step fails": {
			func(s *teststack.Stack, _ string) { s.Faults.Always("CreateDatabase", teststack.FailsBefore) }, wantWhole,
		},
		"and the church was suspended": {
			func(s *teststack.Stack, tenantID string) { setStatus(s, tenantID, "suspended") },
			wantSuspended,
		},
		"and its admin was removed": {
			func(s *teststack.Stack, tenantID string) { removeAdmins(s, tenantID) },
			wantNoAdmins,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := teststack.New(t)
			body := teststack.Applicant()
			session := s.Register(body)
			workflowID, runID := newest(s, body["email"])
			c.meanwhile(s, session["tenantId"].(string))
			for _, point := range resetPoints(s, workflowID, runID) {
				if err := reset(s, workflowID, runID, point); err != nil {
					t.Errorf("reset to event %d: %v, want the church to stay as it is", point, err)
				}
			}
			c.after(s, session)
			var databases int
			teststack.Row(t, s.Registry, `SELECT count(*) FROM tenants`, nil, &databases)
			if databases != 1 {
				t.Errorf("%d tenants after the resets, want 1", databases)
			}
		})
	}
}

// wantSuspended expects a church to be still suspended, and complete once it is active again.
func wantSuspended(s *teststack.Stack, session map[string]any) {
	s.T.Helper()
	tenantID := session["tenantId"].(string)
	var status string
	teststack.Row(s.T, s.Registry, `SELECT status FROM tenants WHERE id = $1`, []any{tenantID}, &status)
	if status != "suspended" {
		s.T.Errorf("the tenant is %s after a reset, want it still suspended", status)
	}
	setStatus(s, tenantID, "active")
	wantWhole(s, session)
}

// wantNoAdmins expects a church whose only admin was removed to have none.
func wantNoAdmins(s *teststack.Stack, session map[string]any) {
	s.T.Helper()
	var rows, own int
	const countRows = `SELECT (SELECT count(*) FROM admins) + (SELECT count(*) FROM admin_email_index)`
	teststack.Row(s.T, s.Registry, countRows, nil, &rows)
	teststack.Row(s.T, s.Tenant(session["tenantId"].(string)), `SELECT count(*) FROM admins`, nil, &own)
	if rows != 0 || own != 0 {
		s.T.Errorf("the admin who was removed has %d rows in the registry and %d in the church's database, want none", rows, own)
	}
}

// TestResetOfAnInvitationRemovesNobody resets an accepted invitation to each point while its steps fail. After the admin
// was removed, it does so while they work: the admin must not come back.
func TestResetOfAnInvitationRemovesNobody(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	other, adminID := c.Join("CO_ADMIN")
	var hash string
	teststack.Row(t, c.Registry, `SELECT email_hash FROM admins WHERE id = $1`, []any{adminID}, &hash)
	workflowID := invitation.WorkflowID(hash)
	described, err := c.Temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
	if err != nil {
		t.Fatal(err)
	}
	runID := described.WorkflowExecutionInfo.Execution.RunId
	c.Faults.Always("CreateInvitedTenantAdmin", teststack.FailsAfter)
	for _, point := range resetPoints(c.Stack, workflowID, runID) {
		if err := reset(c.Stack, workflowID, runID, point); err != nil {
			t.Errorf("reset to event %d: %v, want the admin to stay", point, err)
		}
	}
	other.Want(http.StatusOK, http.MethodGet, "/api/auth/me", nil)
	c.Faults.Reset()
	c.Want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+adminID, nil)
	for _, point := range resetPoints(c.Stack, workflowID, runID) {
		if err := reset(c.Stack, workflowID, runID, point); err != nil {
			t.Errorf("reset to event %d: %v", point, err)
		}
	}
	var left int
	teststack.Row(t, c.Registry, `
		SELECT (SELECT count(*) FROM admins WHERE id = $1) + (SELECT count(*) FROM invitations)
			+ (SELECT count(*) FROM admin_email_index WHERE admin_id = $1)`, []any{adminID}, &left)
	if left != 0 {
		t.Errorf("a reset gave the admin who was removed %d rows, want none", left)
	}
}

func setStatus(s *teststack.Stack, tenantID, status string) {
	s.T.Helper()
	if _, err := s.Registry.Exec(s.T.Context(), `UPDATE tenants SET status = $2 WHERE id = $1`, tenantID, status); err != nil {
		s.T.Fatal(err)
	}
}

// removeAdmins removes a church's admins on both sides.
func removeAdmins(s *teststack.Stack, tenantID string) {
	s.T.Helper()
	for _, table := range []string{"admin_email_index", "admins"} {
		if _, err := s.Registry.Exec(s.T.Context(), fmt.Sprintf(`DELETE FROM %s WHERE tenant_id = $1`, table), tenantID); err != nil {
			s.T.Fatal(err)
		}
	}
	if _, err := s.Tenant(tenantID).Exec(s.T.Context(), `DELETE FROM admins`); err != nil {
		s.T.Fatal(err)
	}
}
