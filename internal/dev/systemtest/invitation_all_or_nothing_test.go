package systemtest

import (
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
	"narthex/internal/invitation"
)

// TestInvitationFaults makes each step fail in each way: nothing of the invitation is left, and the same
// email can be invited at once.
func TestInvitationFaults(t *testing.T) {
	t.Parallel()
	for i, step := range invitation.Steps {
		for name, what := range map[string]teststack.Fault{"fails before": teststack.FailsBefore, "fails after": teststack.FailsAfter} {
			t.Run(step.Do+" "+name, func(t *testing.T) {
				t.Parallel()
				skipMost(t, i, 3)
				if step.Undo == "" && name == "fails after" {
					t.Skip("after the commit point there is nothing to undo")
				}
				c := teststack.New(t).Church()
				person := teststack.Invitee()
				c.Faults.Always(step.Do, what)
				if step.Undo != "" {
					c.Faults.First(2, step.Undo, teststack.FailsRetryably)
				}
				failed := c.Call(http.MethodPost, "/api/admins/invitations", person)
				teststack.WantProblem(t, failed, http.StatusInternalServerError, "invitation-rolled-back")
				var left, tenantAdmins int
				teststack.Row(t, c.Registry, `
					SELECT (SELECT count(*) FROM admins) + (SELECT count(*) FROM admin_email_index)
						+ (SELECT count(*) FROM invitations)`, nil, &left)
				teststack.Row(t, c.Tenant(c.TenantID()), `SELECT count(*) FROM admins`, nil, &tenantAdmins)
				if left != 2 || tenantAdmins != 1 {
					t.Errorf("%d rows in the registry, %d admins in the church's database; want 2 and 1, the first admin's", left, tenantAdmins)
				}
				c.Faults.Reset()
				invited := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).JSON(t)
				if got := c.Accept(invited["invitationToken"]); got.Status != http.StatusOK {
					t.Errorf("accept: status %d, want 200\n%s", got.Status, got.Body)
				}
			})
		}
	}
}
