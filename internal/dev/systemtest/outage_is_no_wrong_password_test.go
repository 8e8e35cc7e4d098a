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

// The password is right, but a change of it has reached only the church. Its database fails while the registry follows.
func TestAnOutageDuringAChangeIsNotAWrongPassword(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	session := s.Register(body)
	adminID, _ := session["adminId"].(string)
	if _, err := s.Registry.Exec(t.Context(), `UPDATE admins SET password_hash = 'of before' WHERE id = $1`, adminID); err != nil {
		t.Fatal(err)
	}
	church := s.Tenant(session["tenantId"].(string))
	if _, err := church.Exec(t.Context(), `
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';
		CREATE TRIGGER fail BEFORE UPDATE OF password_hash ON admins FOR EACH ROW EXECUTE FUNCTION fail()`); err != nil {
		t.Fatal(err)
	}
	login := map[string]any{"email": body["email"], "password": body["password"]}
	teststack.WantProblem(t, s.Post("/api/auth/login", login), http.StatusServiceUnavailable, "unavailable")
	if _, err := church.Exec(t.Context(), `DROP FUNCTION fail CASCADE`); err != nil {
		t.Fatal(err)
	}
	s.LogIn(body)
}
