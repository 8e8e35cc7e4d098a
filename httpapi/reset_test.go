package httpapi_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// resetPoints returns the events to which Temporal's UI lets a run be reset.
func (s *stack) resetPoints(workflowID, runID string) (points []int64) {
	s.t.Helper()
	for _, event := range s.history(workflowID, runID).Events {
		if event.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			points = append(points, event.EventId)
		}
	}
	return points
}

// reset resets a run as the UI does, waits for the new one, and returns its error.
func (s *stack) reset(workflowID, runID string, point int64) error {
	s.t.Helper()
	started, err := s.temporal.ResetWorkflowExecution(s.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
		Reason: "a test", WorkflowTaskFinishEventId: point, RequestId: rand.Text(),
	})
	if err != nil {
		s.t.Fatalf("reset to event %d: %v", point, err)
	}
	return s.temporal.GetWorkflow(s.t.Context(), workflowID, started.RunId).Get(s.t.Context(), nil)
}

// newest returns the ids of an email's newest run.
func (s *stack) newest(email any) (workflowID, runID string) {
	s.t.Helper()
	hash, err := s.keys.EmailIndex(email.(string))
	if err != nil {
		s.t.Fatal(err)
	}
	workflowID = signup.WorkflowID(hash)
	described, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return workflowID, described.WorkflowExecutionInfo.Execution.RunId
}

// TestResetOfARolledBackSignupLeavesNothing resets a signup that was rolled back to each point.
func TestResetOfARolledBackSignupLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.faults.always("ActivateTenant", failsBefore)
	body := applicant()
	wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	s.faults.always("ActivateTenant", nil)
	workflowID, runID := s.newest(body["email"])
	points := s.resetPoints(workflowID, runID)
	if len(points) < 10 { // quick steps, the last step, whether it has ended, and 7 compensations
		t.Fatalf("%d points to reset to, want at least 10", len(points))
	}
	for _, point := range points {
		if err := s.reset(workflowID, runID, point); err == nil {
			t.Errorf("reset to event %d: the signup ends well, want it rolled back", point)
		}
		s.wantNothingLeft()
	}
	if tenants := s.faults.tenantIDs(); len(tenants) != 1 {
		t.Errorf("resets worked on the tenants %v, want one", tenants)
	}
	s.faults.reset()
	s.wantWhole(s.register(body))
}

// TestResetOfACompletedSignupLeavesItWhole resets a signup that has completed to each point: the church is
// in use, and must stay as it is, also where the steps fail when they are run again.
func TestResetOfACompletedSignupLeavesItWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(s *stack, tenantID string)
		after     func(s *stack, session map[string]any)
	}{
		"and nothing fails": {
			func(*stack, string) {}, (*stack).wantWhole,
		},
		"and the last step fails": {
			func(s *stack, _ string) { s.faults.always("ActivateTenant", failsBefore) }, (*stack).wantWhole,
		},
		"and the first step fails": {
			func(s *stack, _ string) { s.faults.always("CreateDatabase", failsBefore) }, (*stack).wantWhole,
		},
		"and the church was suspended": {
			func(s *stack, tenantID string) { s.setStatus(tenantID, "suspended") },
			func(s *stack, session map[string]any) {
				tenantID := session["tenantId"].(string)
				var status string
				row(s.t, s.registry, `SELECT status FROM tenants WHERE id = $1`, []any{tenantID}, &status)
				if status != "suspended" {
					s.t.Errorf("the tenant is %s after a reset, want it suspended still", status)
				}
				s.setStatus(tenantID, "active")
				s.wantWhole(session)
			},
		},
		"and its admin was removed": {
			func(s *stack, tenantID string) { s.removeAdmins(tenantID) },
			func(s *stack, session map[string]any) {
				var rows, own int
				row(s.t, s.registry, `SELECT (SELECT count(*) FROM admins) + (SELECT count(*) FROM admin_email_index)`, nil, &rows)
				row(s.t, s.tenant(session["tenantId"].(string)), `SELECT count(*) FROM admins`, nil, &own)
				if rows != 0 || own != 0 {
					s.t.Errorf("a reset gave the admin who was removed %d rows in the registry and %d in the church's database, want none", rows, own)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			body := applicant()
			session := s.register(body)
			workflowID, runID := s.newest(body["email"])
			c.meanwhile(s, session["tenantId"].(string))
			for _, point := range s.resetPoints(workflowID, runID) {
				if err := s.reset(workflowID, runID, point); err != nil {
					t.Errorf("reset to event %d: %v, want the church to stay as it is", point, err)
				}
			}
			c.after(s, session)
			var databases int
			row(t, s.registry, `SELECT count(*) FROM tenants`, nil, &databases)
			if databases != 1 {
				t.Errorf("%d tenants after the resets, want 1", databases)
			}
		})
	}
}

// TestResetOfAnInvitationTakesNobodyAway resets an invitation that was accepted to each point, while its steps
// fail, and while they do not after the admin was removed.
func TestResetOfAnInvitationTakesNobodyAway(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	other, adminID := c.join("CO_ADMIN")
	var hash string
	row(t, c.registry, `SELECT email_hash FROM admins WHERE id = $1`, []any{adminID}, &hash)
	workflowID := invitation.WorkflowID(hash)
	described, err := c.temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
	if err != nil {
		t.Fatal(err)
	}
	runID := described.WorkflowExecutionInfo.Execution.RunId
	c.faults.always("CreateInvitedTenantAdmin", failsAfter)
	for _, point := range c.resetPoints(workflowID, runID) {
		if err := c.reset(workflowID, runID, point); err != nil {
			t.Errorf("reset to event %d: %v, want the admin to stay", point, err)
		}
	}
	other.want(http.StatusOK, http.MethodGet, "/api/auth/me", nil)
	c.faults.reset()
	c.want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+adminID, nil)
	for _, point := range c.resetPoints(workflowID, runID) {
		if err := c.reset(workflowID, runID, point); err != nil {
			t.Errorf("reset to event %d: %v", point, err)
		}
	}
	var left int
	row(t, c.registry, `SELECT (SELECT count(*) FROM admins WHERE id = $1) + (SELECT count(*) FROM invitations) + (SELECT count(*) FROM admin_email_index WHERE admin_id = $1)`, []any{adminID}, &left)
	if left != 0 {
		t.Errorf("a reset gave the admin who was removed %d rows, want none", left)
	}
}

func (s *stack) setStatus(tenantID, status string) {
	s.t.Helper()
	if _, err := s.registry.Exec(s.t.Context(), `UPDATE tenants SET status = $2 WHERE id = $1`, tenantID, status); err != nil {
		s.t.Fatal(err)
	}
}

// removeAdmins removes a church's admins on both sides.
func (s *stack) removeAdmins(tenantID string) {
	s.t.Helper()
	for _, table := range []string{"admin_email_index", "admins"} {
		if _, err := s.registry.Exec(s.t.Context(), fmt.Sprintf(`DELETE FROM %s WHERE tenant_id = $1`, table), tenantID); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := s.tenant(tenantID).Exec(s.t.Context(), `DELETE FROM admins`); err != nil {
		s.t.Fatal(err)
	}
}
