package httpapi_test

import (
	"net/http"
	"testing"
)

// A refusal that can't be recorded because the registry fails is an outage, not a wrong password.
func TestAnOutageIsNotAWrongPassword(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	session := s.register(body)
	if _, err := s.registry.Exec(t.Context(), `ALTER TABLE audit_log RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]any{"email": body["email"], "password": "not the password"}
	wantProblem(t, s.post("/api/auth/login", wrong), http.StatusServiceUnavailable, "unavailable")
	change := map[string]any{"currentPassword": "not the password", "newPassword": "another horse battery"}
	token, _ := session["accessToken"].(string)
	wantProblem(t, s.postAs(token, "/api/auth/password", change), http.StatusServiceUnavailable, "unavailable")
}
