package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

// TestPasswordChangeAndLoginsRace logs in with the old password while it is changed: no such session is left.
func TestPasswordChangeAndLoginsRace(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithRealPasswords)
	body := teststack.Applicant()
	mine := s.Register(body)
	login := map[string]any{"email": body["email"], "password": body["password"]}
	change := map[string]any{"currentPassword": body["password"], "newPassword": "another password"}
	sessions := make([]teststack.Answer, 9)
	teststack.AtOnce(len(sessions), func(i int) teststack.Answer {
		time.Sleep(time.Duration(i) * 20 * time.Millisecond)
		if i == 4 {
			sessions[i] = s.PostAs(mine["accessToken"].(string), "/api/auth/password", change)
		} else {
			sessions[i] = s.Post("/api/auth/login", login)
		}
		return sessions[i]
	})
	for i, got := range sessions {
		switch {
		case i == 4 && got.Status != http.StatusNoContent:
			t.Errorf("the change: status %d, want 204\n%s", got.Status, got.Body)
		case i != 4 && got.Status == http.StatusOK:
			s.WantEnded(got.JSON(t)["refreshToken"])
		case i != 4 && got.Status != http.StatusUnauthorized:
			t.Errorf("login %d: status %d, want 200 or 401\n%s", i, got.Status, got.Body)
		}
	}
}

func TestTwoPasswordChangesAtOnce(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	tokens := []string{s.Register(body)["accessToken"].(string), s.LogIn(body)["accessToken"].(string)}
	statuses := teststack.AtOnce(2, func(i int) teststack.Answer {
		change := map[string]any{"currentPassword": body["password"], "newPassword": "another password " + tokens[i][:4]}
		return s.PostAs(tokens[i], "/api/auth/password", change)
	})
	if statuses[http.StatusNoContent] != 1 || statuses[http.StatusForbidden] != 1 {
		t.Errorf("statuses %v, want 1 × 204, 1 × 403", statuses)
	}
	var refusals int
	teststack.Row(t, s.Registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed'`, nil, &refusals)
	wrong := map[string]any{"currentPassword": "not mine", "newPassword": "another password"}
	teststack.WantProblem(t, s.PostAs(tokens[0], "/api/auth/password", wrong), http.StatusForbidden, "wrong-password")
	var after int
	teststack.Row(t, s.Registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed'`, nil, &after)
	if after != refusals+1 {
		t.Errorf("a wrong current password adds %d entries to the audit log, want 1", after-refusals)
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	other, mine := s.Register(body), s.LogIn(body)
	change := func(current, next string) teststack.Answer {
		return s.PostAs(mine["accessToken"].(string), "/api/auth/password", map[string]any{"currentPassword": current, "newPassword": next})
	}
	teststack.WantProblem(t, change("wrong horse battery", "another password"), http.StatusForbidden, "wrong-password")
	teststack.WantProblem(t, change("correct horse battery", "short"), http.StatusUnprocessableEntity, "invalid-fields")
	s.LogIn(body)
	if got := change("correct horse battery", "another password"); got.Status != http.StatusNoContent {
		t.Fatalf("change: status %d, want 204\n%s", got.Status, got.Body)
	}
	s.WantEnded(other["refreshToken"])
	s.WantRefresh(mine["refreshToken"])
	old := map[string]any{"email": body["email"], "password": body["password"]}
	teststack.WantProblem(t, s.Post("/api/auth/login", old), http.StatusUnauthorized, "invalid-credentials")
	body["password"] = "another password"
	s.LogIn(body)
}

// TestAChangeThatTheChurchMissed lets the registry commit a change of the password, and fails the church's commit.
func TestAChangeThatTheChurchMissed(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	other, mine := s.Register(body), s.LogIn(body)
	c := teststack.Church{Stack: s, Token: mine["accessToken"].(string)}
	tenant := c.Tenant(c.TenantID())
	exec := func(sql string) {
		t.Helper()
		if _, err := tenant.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no commit'; END $$;
		CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE OF password_hash ON admins DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION refuse()`)
	change := map[string]any{"currentPassword": body["password"], "newPassword": "another password"}
	teststack.WantProblem(t, c.Call(http.MethodPost, "/api/auth/password", change), http.StatusServiceUnavailable, "unavailable")
	exec(`DROP TRIGGER refuse ON admins`)
	c.WantEnded(other["refreshToken"])
	mine = c.WantRefresh(mine["refreshToken"])
	teststack.WantProblem(t, c.Post("/api/auth/login", map[string]any{"email": body["email"], "password": "another password"}),
		http.StatusUnauthorized, "invalid-credentials")
	third := c.LogIn(body) // with the old password
	c.Want(http.StatusNoContent, http.MethodPost, "/api/auth/password", change)
	c.WantEnded(third["refreshToken"])
	c.WantRefresh(mine["refreshToken"])
	body["password"] = "another password"
	c.LogIn(body)
}
