package systemtest

import (
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
)

// A refusal that can't be recorded because the registry fails is an outage, not a wrong password.
func TestAnOutageIsNotAWrongPassword(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	session := s.Register(body)
	if _, err := s.Registry.Exec(t.Context(), `ALTER TABLE audit_log RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]any{"email": body["email"], "password": "not the password"}
	teststack.WantProblem(t, s.Post("/api/auth/login", wrong), http.StatusServiceUnavailable, "unavailable")
	change := map[string]any{"currentPassword": "not the password", "newPassword": "another horse battery"}
	token, _ := session["accessToken"].(string)
	teststack.WantProblem(t, s.PostAs(token, "/api/auth/password", change), http.StatusServiceUnavailable, "unavailable")
}
