package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"narthex/internal/dev/teststack"
)

func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	s.Faults.Always("CreateTenant", teststack.FailsBefore)
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	s.Faults.Reset()
	session := s.Register(body)
	mistyped := map[string]any{"email": body["email"], "password": "a mistyped one"}
	teststack.WantProblem(t, s.Post("/api/auth/login", mistyped), http.StatusUnauthorized, "invalid-credentials")
	s.LogIn(body)
	hash, err := s.Keys.EmailIndex(body["email"].(string))
	if err != nil {
		t.Fatal(err)
	}
	var events string
	teststack.Row(t, s.Registry, `SELECT string_agg(event, ' ' ORDER BY id) FROM audit_log`, nil, &events)
	if want := "signup_failed signed_up login_failed logged_in"; events != want {
		t.Errorf("the audit log has %q, want %q", events, want)
	}
	var known, failed int
	const countKnown = `
		SELECT count(*) FROM audit_log WHERE event IN ('signed_up', 'logged_in') AND tenant_id = $1 AND admin_id = $2`
	teststack.Row(t, s.Registry, countKnown, []any{session["tenantId"], session["adminId"]}, &known)
	teststack.Row(t, s.Registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed' AND email_hash = $1`, []any{hash}, &failed)
	if known != 2 || failed != 1 {
		t.Errorf("%d entries name the tenant and admin, %d the failed login's email by its index; want 2 and 1", known, failed)
	}
	for _, change := range []string{`DELETE FROM audit_log`, `UPDATE audit_log SET event = 'logged_in'`, `TRUNCATE audit_log`} {
		if _, err := s.Registry.Exec(t.Context(), change); err == nil || !strings.Contains(fmt.Sprint(err), "append-only") {
			t.Errorf("%s: %v, want it refused: the log is append-only", change, err)
		}
	}
}
