package httpapi_test

import (
	"crypto/rand"
	"maps"
	"net/http"
	"testing"
	"time"
)

// TestHostileDatabase has a church's own database answer what it likes, as who holds its credentials can: it
// gets nobody's name in a token, and takes nothing from the others.
func TestHostileDatabase(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	evilBody, body := applicant(), applicant()
	evil, other := s.register(evilBody), s.register(body)
	login := map[string]any{"email": evilBody["email"], "password": evilBody["password"]}
	db := s.tenant(evil["tenantId"].(string))
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}

	exec(`CREATE TABLE kept AS SELECT * FROM admins`)
	exec(`UPDATE admins SET password_hash = '$2a$31$' || substr(password_hash, 8)`) // hours of hashing
	count(4, func(int) answer {
		got := s.post("/api/auth/login", login)
		if got.status != http.StatusUnauthorized {
			t.Errorf("with a hash of another cost: status %d, want 401\n%s", got.status, got.body)
		}
		return got
	})
	s.logIn(body)

	exec(`UPDATE admins SET password_hash = (SELECT password_hash FROM kept), first_name = repeat('x', 100000000)`)
	if got := s.post("/api/auth/login", login); got.status != http.StatusServiceUnavailable {
		t.Errorf("with a name of 100 MB: status %d, want 503", got.status)
	}

	exec(`DROP TABLE admins CASCADE`)
	exec(`CREATE VIEW admins AS SELECT '` + other["adminId"].(string) + `'::text AS id, email, encrypted_email, email_hash, password_hash, first_name,
		last_name, 'SUPERUSER'::text AS role, welcome_completed, last_login_at, updated_at FROM kept`)
	if got := s.post("/api/auth/login", login); got.status != http.StatusUnauthorized {
		t.Errorf("as another church's admin: status %d, want 401\n%s", got.status, got.body)
	}
	exec(`DROP VIEW admins`)
	exec(`CREATE VIEW admins AS SELECT id, email, encrypted_email, email_hash, password_hash, first_name,
		last_name, 'SUPERUSER'::text AS role, welcome_completed, last_login_at, updated_at FROM kept`)
	if got := s.logIn(login); got["adminId"] != evil["adminId"] || field(got, "admin", "role") != "PRIMARY" {
		t.Errorf("with a role of its own making: %v, want the registry's", got)
	}
}

func TestTwoBranchesOfASessionEndIt(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	first := s.register(applicant())["refreshToken"]
	own, copied := s.wantRefresh(first)["refreshToken"], s.wantRefresh(first)["refreshToken"]
	own = s.wantRefresh(own)["refreshToken"]
	s.wantEnded(copied)
	s.wantEnded(own) // somebody has a copy: it ends for both

	second := s.register(applicant())["refreshToken"]
	next := s.wantRefresh(s.wantRefresh(second)["refreshToken"])["refreshToken"]
	s.wantEnded(second) // within 10 seconds, but its answer was not lost
	s.wantEnded(next)
}

// A church that a newer release has migrated answers 503 from this one, at login too, and nobody is told that the
// password was wrong.
func TestANewerSchemaIsAnsweredWith503(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	token := s.register(body)["accessToken"].(string)
	if _, err := s.registry.Exec(t.Context(), `UPDATE tenants SET schema_version = schema_version + 1`); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // as long as it may take to be heard of
	for _, got := range []answer{
		s.get("/api/auth/me", token),
		s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}),
	} {
		wantProblem(t, got, http.StatusServiceUnavailable, "schema-ahead")
		if got.header.Get("Retry-After") == "" {
			t.Error("the answer has no Retry-After")
		}
	}
}

func TestReuseIsNoticedWhileSuspended(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	first := s.register(applicant())["refreshToken"]
	next := s.wantRefresh(first)["refreshToken"]
	s.age()
	for _, status := range []string{"suspended", "active"} {
		if _, err := s.registry.Exec(t.Context(), `UPDATE tenants SET status = $1`, status); err != nil {
			t.Fatal(err)
		}
		s.wantEnded(first)
	}
	s.wantEnded(next)
}

// TestPasswordChangeAndLoginsRace logs in with the old password while it is changed: no such session is left.
func TestPasswordChangeAndLoginsRace(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	mine := s.register(body)
	sessions := make([]answer, 9)
	count(len(sessions), func(i int) answer {
		time.Sleep(time.Duration(i) * 20 * time.Millisecond)
		if i == 4 {
			sessions[i] = s.postAs(mine["accessToken"].(string), "/api/auth/password", map[string]any{"currentPassword": body["password"], "newPassword": "another password"})
		} else {
			sessions[i] = s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
		}
		return sessions[i]
	})
	for i, got := range sessions {
		switch {
		case i == 4 && got.status != http.StatusNoContent:
			t.Errorf("the change: status %d, want 204\n%s", got.status, got.body)
		case i != 4 && got.status == http.StatusOK:
			s.wantEnded(got.json(t)["refreshToken"])
		case i != 4 && got.status != http.StatusUnauthorized:
			t.Errorf("login %d: status %d, want 200 or 401\n%s", i, got.status, got.body)
		}
	}
}

func TestTwoPasswordChangesAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	tokens := []string{s.register(body)["accessToken"].(string), s.logIn(body)["accessToken"].(string)}
	statuses := count(2, func(i int) answer {
		return s.postAs(tokens[i], "/api/auth/password", map[string]any{"currentPassword": body["password"], "newPassword": "another password " + tokens[i][:4]})
	})
	if statuses[http.StatusNoContent] != 1 || statuses[http.StatusForbidden] != 1 {
		t.Errorf("statuses %v, want 1 × 204, 1 × 403", statuses)
	}
	var refusals int
	row(t, s.registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed'`, nil, &refusals)
	wantProblem(t, s.postAs(tokens[0], "/api/auth/password", map[string]any{"currentPassword": "not mine", "newPassword": "another password"}), http.StatusForbidden, "wrong-password")
	var after int
	row(t, s.registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed'`, nil, &after)
	if after != refusals+1 {
		t.Errorf("a wrong current password adds %d entries to the audit log, want 1", after-refusals)
	}
}

// TestStartThatWasNotRecorded takes away what an API process would have written last, had it not died.
func TestStartThatWasNotRecorded(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body, key := applicant(), rand.Text()
	first := s.registerUnder(key, body)
	forget := func() {
		t.Helper()
		if _, err := s.registry.Exec(t.Context(), `UPDATE idempotency_keys SET run_id = NULL, public_id = NULL, claim = 'x', claimed_at = now() - interval '1 hour'`); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if again := s.another().registerUnder(key, body); again.status != http.StatusCreated || again.json(t)["tenantId"] != first.json(t)["tenantId"] {
		t.Errorf("status %d, want 201 and the same church\n%s", again.status, again.body)
	}
	if got := s.postAs(first.json(t)["accessToken"].(string), "/api/auth/password",
		map[string]any{"currentPassword": body["password"], "newPassword": "another password"}); got.status != http.StatusNoContent {
		t.Fatalf("change password: status %d\n%s", got.status, got.body)
	}
	forget()
	wantProblem(t, s.registerUnder(key, body), http.StatusConflict, "email-taken")
}

func TestManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	bodies := make([]map[string]any, 24)
	for i := range bodies {
		bodies[i] = maps.Clone(applicant())
	}
	statuses := count(len(bodies), func(i int) answer { return s.registerUnder(rand.Text(), bodies[i]) })
	if statuses[http.StatusCreated] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", statuses, len(bodies))
	}
}
