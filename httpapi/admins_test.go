package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"narthex/internal/invitation"
	"narthex/internal/tenantdb"
)

func invitee() map[string]any {
	person := applicant()
	return map[string]any{"email": person["email"], "firstName": "Kim", "lastName": "Other"}
}

// join invites somebody and accepts; it returns the church as the new admin sees it, and their id.
func (c church) join(role string) (other church, id string) {
	c.t.Helper()
	person := invitee()
	person["role"] = role
	invited := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).json(c.t)
	session := c.accept(invited["invitationToken"])
	if session.status != http.StatusOK {
		c.t.Fatalf("accept: status %d, want 200\n%s", session.status, session.body)
	}
	other = c
	other.token = session.json(c.t)["accessToken"].(string)
	return other, invited["adminId"].(string)
}

func (c church) accept(token any) answer {
	c.t.Helper()
	return c.post("/api/auth/invitations/accept", map[string]any{"invitationToken": token, "password": "a password of mine"})
}

func (c church) admins() (ids []string) {
	c.t.Helper()
	return c.walk("/api/admins?limit=1", func(int) {})
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	person := invitee()
	invited := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).json(t)
	token := invited["invitationToken"]
	login := map[string]any{"email": person["email"], "password": "a password of mine"}
	wantProblem(t, c.post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	for _, password := range []string{"", "!"} {
		if got := c.post("/api/auth/login", map[string]any{"email": person["email"], "password": password}); got.status == http.StatusOK {
			t.Errorf("an invited admin is logged in with the password %q", password)
		}
	}
	wantProblem(t, c.call(http.MethodPost, "/api/admins/invitations", person), http.StatusConflict, "email-taken")
	wantProblem(t, c.accept("guess"), http.StatusNotFound, "invitation-not-found")
	accepted := c.accept(token)
	if accepted.status != http.StatusOK {
		t.Fatalf("accept: status %d, want 200\n%s", accepted.status, accepted.body)
	}
	session := accepted.json(t)
	if session["adminId"] != invited["adminId"] || field(session, "admin", "role") != "CO_ADMIN" || field(session, "admin", "firstName") != "Kim" {
		t.Errorf("accepted: %s", accepted.body)
	}
	wantProblem(t, c.accept(token), http.StatusNotFound, "invitation-not-found") // it is good once
	c.logIn(login)
	co := c
	co.token = session["accessToken"].(string)
	wantProblem(t, co.call(http.MethodPost, "/api/admins/invitations", invitee()), http.StatusForbidden, "forbidden")
	wantProblem(t, co.call(http.MethodDelete, "/api/admins/"+session["adminId"].(string), nil), http.StatusForbidden, "forbidden")
	if n := len(c.admins()); n != 2 {
		t.Errorf("%d admins, want 2", n)
	}
	c.want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+session["adminId"].(string), nil)
	wantProblem(t, c.post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	c.wantEnded(session["refreshToken"])
	wantProblem(t, co.call(http.MethodGet, "/api/auth/me", nil), http.StatusUnauthorized, "invalid-token")
	c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person) // the email is free again
}

func TestTheLastPrimaryStays(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	first := c.admins()[0]
	wantProblem(t, c.call(http.MethodDelete, "/api/admins/"+first, nil), http.StatusConflict, "last-primary")
	c.join("CO_ADMIN")
	unaccepted := invitee()
	unaccepted["role"] = "PRIMARY"
	c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", unaccepted)
	wantProblem(t, c.call(http.MethodDelete, "/api/admins/"+first, nil), http.StatusConflict, "last-primary")
	other, second := c.join("PRIMARY")
	statuses := count(2, func(i int) answer { // each removes the other
		if i == 0 {
			return c.call(http.MethodDelete, "/api/admins/"+second, nil)
		}
		return other.call(http.MethodDelete, "/api/admins/"+first, nil)
	})
	if statuses[http.StatusNoContent] != 1 {
		t.Errorf("two PRIMARYs remove each other: statuses %v, want one 204", statuses)
	}
	var primaries int
	row(t, c.registry, `SELECT count(*) FROM admins WHERE role = 'PRIMARY' AND password_hash <> ''`, nil, &primaries)
	if primaries != 1 {
		t.Errorf("%d PRIMARYs are left, want 1", primaries)
	}
}

// TestInvitationFaults makes each step fail in each way: nothing of the invitation is left, and the same
// email can be invited at once.
func TestInvitationFaults(t *testing.T) {
	t.Parallel()
	for _, step := range invitation.Steps {
		for name, what := range map[string]fault{"fails before": failsBefore, "fails after": failsAfter} {
			t.Run(step.Do+" "+name, func(t *testing.T) {
				t.Parallel()
				if step.Undo == "" && name == "fails after" {
					t.Skip("after the commit point there is nothing to undo")
				}
				c := newStack(t).church()
				person := invitee()
				c.faults.always(step.Do, what)
				if step.Undo != "" {
					c.faults.first(2, step.Undo, failsRetryably)
				}
				wantProblem(t, c.call(http.MethodPost, "/api/admins/invitations", person), http.StatusInternalServerError, "invitation-rolled-back")
				var left, tenantAdmins int
				row(t, c.registry, `SELECT (SELECT count(*) FROM admins) + (SELECT count(*) FROM admin_email_index) + (SELECT count(*) FROM invitations)`, nil, &left)
				row(t, c.tenant(c.tenantID()), `SELECT count(*) FROM admins`, nil, &tenantAdmins)
				if left != 2 || tenantAdmins != 1 {
					t.Errorf("%d rows in the registry, %d admins in the church's database; want 2 and 1, the first admin's", left, tenantAdmins)
				}
				c.faults.reset()
				invited := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).json(t)
				if got := c.accept(invited["invitationToken"]); got.status != http.StatusOK {
					t.Errorf("accept: status %d, want 200\n%s", got.status, got.body)
				}
			})
		}
	}
}

func TestExpiredInvitation(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	person := invitee()
	token := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).json(t)["invitationToken"]
	cutOff := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", invitee()).json(t) // half-way accepted
	if _, err := c.tenant(c.tenantID()).Exec(t.Context(), `UPDATE admins SET password_hash = 'hash' WHERE id = $1`, cutOff["adminId"]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.registry.Exec(t.Context(), `UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, c.accept(token), http.StatusNotFound, "invitation-not-found")
	router := tenantdb.NewRouter(c.openRegistry(), c.keys, 5, c.logger())
	defer router.Close()
	for range 2 {
		if err := router.RemoveExpired(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.admins()); n != 2 {
		t.Errorf("%d admins after the expired invitations were removed, want 2", n)
	}
	c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
}

// TestCleanupKeepsWhomItCannotRead has an invitation accepted in the church's database alone, and expire. While the
// admin can't be read there, nobody knows that they have a password.
func TestCleanupKeepsWhomItCannotRead(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	tenant := c.tenant(c.tenantID())
	invited := c.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", invitee()).json(t)
	var email []byte
	row(t, tenant, `UPDATE admins SET password_hash = 'hash' WHERE id = $1 RETURNING encrypted_email`, []any{invited["adminId"]}, &email)
	setEmail := func(email []byte) {
		t.Helper()
		if _, err := tenant.Exec(t.Context(), `UPDATE admins SET encrypted_email = $2 WHERE id = $1`, invited["adminId"], email); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.registry.Exec(t.Context(), `UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	router := tenantdb.NewRouter(c.openRegistry(), c.keys, 5, c.logger())
	defer router.Close()
	setEmail([]byte("damaged"))
	if err := router.RemoveExpired(t.Context()); err == nil {
		t.Error("an admin who can't be read isn't reported")
	}
	setEmail(email)
	if err := router.RemoveExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	var hash string
	row(t, c.registry, `SELECT password_hash FROM admins WHERE id = $1`, []any{invited["adminId"]}, &hash)
	if hash != "hash" || len(c.admins()) != 2 {
		t.Errorf("the admin's hash is %q, and there are %d admins; want hash and 2", hash, len(c.admins()))
	}
}

// TestCleanupReachesEveryChurch has more expired invitations than one page holds in churches that can't be cleaned up:
// one is suspended, in another the admins can't be read, in a third they are locked.
func TestCleanupReachesEveryChurch(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	suspended, unreadable, locked, sound := s.church(), s.church(), s.church(), s.church()
	for _, c := range []church{suspended, unreadable, locked} {
		_, err := s.registry.Exec(t.Context(), `
			WITH invited AS (
				INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id)
				SELECT $1 || n, $1, '', $1 || n, '', '', '', 'CO_ADMIN', '' FROM generate_series(1, 101) n RETURNING id)
			INSERT INTO invitations (id, tenant_id, admin_id, expires_at) SELECT id::bytea, $1, id, now() - interval '1 day' FROM invited`, c.tenantID())
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.registry.Exec(t.Context(), `UPDATE tenants SET status = 'suspended' WHERE id = $1`, suspended.tenantID()); err != nil {
		t.Fatal(err)
	}
	_, err := s.tenant(unreadable.tenantID()).Exec(t.Context(), `
		INSERT INTO admins (id, email, encrypted_email, email_hash, password_hash, first_name, last_name, role)
		SELECT $1 || n, '', 'damaged', n, '', '', '', 'CO_ADMIN' FROM generate_series(1, 101) n`, unreadable.tenantID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.tenant(locked.tenantID()).Exec(t.Context(), `BEGIN; LOCK TABLE admins`); err != nil {
		t.Fatal(err)
	}
	person := invitee()
	sound.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
	if _, err := s.registry.Exec(t.Context(), `UPDATE invitations SET expires_at = now() - interval '1 hour' WHERE tenant_id = $1`, sound.tenantID()); err != nil {
		t.Fatal(err)
	}
	router := tenantdb.NewRouter(s.openRegistry(), s.keys, 5, s.logger())
	defer router.Close()
	if err := router.RemoveExpired(t.Context()); err == nil || !strings.Contains(err.Error(), "102 failed") {
		t.Errorf("the cleanup says %v, want 101 failures of the church that can't be read, and one of the locked", err)
	}
	sound.want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
}

// TestARemovedFounderMaySignUpAgain removes whoever signed a church up: their email is free for another church, and
// the first one keeps its contact address.
func TestARemovedFounderMaySignUpAgain(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	founder := applicant()
	first := church{s, s.register(founder)["accessToken"].(string)}
	id := first.admins()[0]
	other, _ := first.join("PRIMARY")
	other.want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+id, nil)
	login := map[string]any{"email": founder["email"], "password": founder["password"]}
	wantProblem(t, s.post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	second := s.register(founder)
	if s.logIn(founder)["tenantId"] != second["tenantId"] || second["tenantId"] == other.tenantID() {
		t.Error("the founder's login doesn't lead to the church that they signed up last")
	}
	if kept, err := s.openRegistry().Tenant(t.Context(), other.tenantID()); err != nil || kept.Email != founder["email"] {
		t.Errorf("the first church's email is %v (%v), want %v", kept.Email, err, founder["email"])
	}
	wantProblem(t, s.post("/api/auth/register", founder), http.StatusConflict, "email-taken")
}
