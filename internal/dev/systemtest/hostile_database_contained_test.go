package systemtest

import (
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
)

// TestHostileDatabase makes a church's database give false answers, as anybody with its credentials can. It can't get a
// token for another admin or role, and it doesn't delay other churches.
func TestHostileDatabase(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	evilBody, body := teststack.Applicant(), teststack.Applicant()
	evil, other := s.Register(evilBody), s.Register(body)
	login := map[string]any{"email": evilBody["email"], "password": evilBody["password"]}
	db := s.Tenant(evil["tenantId"].(string))
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}

	exec(`CREATE TABLE kept AS SELECT * FROM admins`)
	exec(`UPDATE admins SET password_hash = '$2a$31$' || substr(password_hash, 8)`) // checking this hash takes hours
	teststack.AtOnce(4, func(int) teststack.Answer {
		got := s.Post("/api/auth/login", login)
		if got.Status != http.StatusUnauthorized {
			t.Errorf("with a hash of another cost: status %d, want 401\n%s", got.Status, got.Body)
		}
		return got
	})
	s.LogIn(body)

	exec(`UPDATE admins SET password_hash = (SELECT password_hash FROM kept), first_name = repeat('x', 100000000)`)
	if got := s.Post("/api/auth/login", login); got.Status != http.StatusServiceUnavailable {
		t.Errorf("with a name of 100 MB: status %d, want 503", got.Status)
	}

	exec(`DROP TABLE admins CASCADE`)
	exec(`CREATE VIEW admins AS SELECT '` + other["adminId"].(string) + `'::text AS id,
		email, encrypted_email, email_hash, password_hash, first_name, last_name, 'SUPERUSER'::text AS role,
		welcome_completed, last_login_at, updated_at FROM kept`)
	if got := s.Post("/api/auth/login", login); got.Status != http.StatusUnauthorized {
		t.Errorf("as another church's admin: status %d, want 401\n%s", got.Status, got.Body)
	}
	exec(`DROP VIEW admins`)
	exec(`CREATE VIEW admins AS SELECT id, email, encrypted_email, email_hash, password_hash, first_name,
		last_name, 'SUPERUSER'::text AS role, welcome_completed, last_login_at, updated_at FROM kept`)
	if got := s.LogIn(login); got["adminId"] != evil["adminId"] || teststack.Field(got, "admin", "role") != "PRIMARY" {
		t.Errorf("with a role of its own invention: %v, want the registry's", got)
	}
}
