package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
	"narthex/internal/invitation"
)

func TestInvitation(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	person := teststack.Invitee()
	invited := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).JSON(t)
	token := invited["invitationToken"]
	login := map[string]any{"email": person["email"], "password": "a password of mine"}
	teststack.WantProblem(t, c.Post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	for _, password := range []string{"", "!"} {
		if got := c.Post("/api/auth/login", map[string]any{"email": person["email"], "password": password}); got.Status == http.StatusOK {
			t.Errorf("an invited admin could log in with the password %q", password)
		}
	}
	taken := c.Call(http.MethodPost, "/api/admins/invitations", person)
	teststack.WantProblem(t, taken, http.StatusConflict, "email-taken")
	if got, want := taken.JSON(t)["detail"], "Invite them with another email."; got != want { // the inviting admin reads it
		t.Errorf("an invitation of a taken email is answered with the detail %q, want %q", got, want)
	}
	teststack.WantProblem(t, c.Accept("guess"), http.StatusNotFound, "invitation-not-found")
	accepted := c.Accept(token)
	if accepted.Status != http.StatusOK {
		t.Fatalf("accept: status %d, want 200\n%s", accepted.Status, accepted.Body)
	}
	session := accepted.JSON(t)
	role, name := teststack.Field(session, "admin", "role"), teststack.Field(session, "admin", "firstName")
	if session["adminId"] != invited["adminId"] || role != "CO_ADMIN" || name != "Kim" {
		t.Errorf("accepted: %s", accepted.Body)
	}
	c.LogIn(login)
	co := c
	co.Token = session["accessToken"].(string)
	teststack.WantProblem(t, co.Call(http.MethodPost, "/api/admins/invitations", teststack.Invitee()), http.StatusForbidden, "forbidden")
	teststack.WantProblem(t, co.Call(http.MethodDelete, "/api/admins/"+session["adminId"].(string), nil), http.StatusForbidden, "forbidden")
	if n := len(c.Admins()); n != 2 {
		t.Errorf("%d admins, want 2", n)
	}
	c.Want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+session["adminId"].(string), nil)
	teststack.WantProblem(t, c.Post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	c.WantEnded(session["refreshToken"])
	teststack.WantProblem(t, co.Call(http.MethodGet, "/api/auth/me", nil), http.StatusUnauthorized, "invalid-token")
	c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person) // the email is free again
}

func TestTheLastPrimaryStays(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	first := c.Admins()[0]
	teststack.WantProblem(t, c.Call(http.MethodDelete, "/api/admins/"+first, nil), http.StatusConflict, "last-primary")
	c.Join("CO_ADMIN")
	unaccepted := teststack.Invitee()
	unaccepted["role"] = "PRIMARY"
	c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", unaccepted)
	teststack.WantProblem(t, c.Call(http.MethodDelete, "/api/admins/"+first, nil), http.StatusConflict, "last-primary")
	other, second := c.Join("PRIMARY")
	statuses := teststack.AtOnce(2, func(i int) teststack.Answer { // each removes the other
		if i == 0 {
			return c.Call(http.MethodDelete, "/api/admins/"+second, nil)
		}
		return other.Call(http.MethodDelete, "/api/admins/"+first, nil)
	})
	if statuses[http.StatusNoContent] != 1 {
		t.Errorf("two PRIMARYs removed each other: statuses %v, want one 204", statuses)
	}
	var primaries int
	teststack.Row(t, c.Registry, `SELECT count(*) FROM admins WHERE role = 'PRIMARY' AND password_hash <> ''`, nil, &primaries)
	if primaries != 1 {
		t.Errorf("%d PRIMARYs are left, want 1", primaries)
	}
}

// TestARemovedFounderMaySignUpAgain removes the admin who signed a church up. Their email is free for another church, and
// the first church keeps its contact address.
func TestARemovedFounderMaySignUpAgain(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	founder := teststack.Applicant()
	first := teststack.Church{Stack: s, Token: s.Register(founder)["accessToken"].(string)}
	id := first.Admins()[0]
	other, _ := first.Join("PRIMARY")
	other.Want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+id, nil)
	login := map[string]any{"email": founder["email"], "password": founder["password"]}
	teststack.WantProblem(t, s.Post("/api/auth/login", login), http.StatusUnauthorized, "invalid-credentials")
	second := s.Register(founder)
	if s.LogIn(founder)["tenantId"] != second["tenantId"] || second["tenantId"] == other.TenantID() {
		t.Error("the founder's login doesn't lead to the church that they signed up last")
	}
	if kept, err := s.OpenRegistry().Tenant(t.Context(), other.TenantID()); err != nil || kept.Email != founder["email"] {
		t.Errorf("the first church's email is %v (%v), want %v", kept.Email, err, founder["email"])
	}
	teststack.WantProblem(t, s.Post("/api/auth/register", founder), http.StatusConflict, "email-taken")
}

// A terminated invitation leaves what it has made, and its email stays taken. The answer must not say that it was undone.
func TestATerminatedInvitation(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	person := teststack.Invitee()
	hash, err := c.Keys.EmailIndex(person["email"].(string))
	if err != nil {
		t.Fatal(err)
	}
	c.Faults.Always("CreateInvitedTenantAdmin", func(func() error) error {
		ctx := context.WithoutCancel(t.Context())
		return errors.Join(teststack.ErrInjected, c.Temporal.TerminateWorkflow(ctx, invitation.WorkflowID(hash), "", "a test"))
	})
	terminated := c.Call(http.MethodPost, "/api/admins/invitations", person)
	teststack.WantProblem(t, terminated, http.StatusInternalServerError, "invitation-failed")
	teststack.WantProblem(t, c.Call(http.MethodPost, "/api/admins/invitations", person), http.StatusConflict, "email-taken")
}
