package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

// link is a church and an invitation to it.
type link struct {
	teststack.Church
	email, token, adminID any
}

func newLink(t *testing.T) link {
	t.Helper()
	l := link{Church: teststack.New(t).Church()}
	return l.another()
}

// another invites another admin to the same church.
func (l link) another() link {
	l.T.Helper()
	person := teststack.Invitee()
	invited := l.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).JSON(l.T)
	l.email, l.token, l.adminID = person["email"], invited["invitationToken"], invited["adminId"]
	return l
}

// wantAccepted expects that an answer logs the invitee in, and returns their session.
func (l link) wantAccepted(got teststack.Answer) map[string]any {
	l.T.Helper()
	if got.Status != http.StatusOK {
		l.T.Fatalf("accept: status %d, want 200\n%s", got.Status, got.Body)
	}
	session := got.JSON(l.T)
	if session["adminId"] != l.adminID || teststack.Field(session, "admin", "role") != "CO_ADMIN" {
		l.T.Errorf("accepted: %s, want CO_ADMIN %v", got.Body, l.adminID)
	}
	l.WantRefresh(session["refreshToken"])
	return session
}

func (l link) wantRefused(got teststack.Answer) {
	l.T.Helper()
	teststack.WantProblem(l.T, got, http.StatusNotFound, "invitation-not-found")
}

func (l link) update(sql string) {
	l.T.Helper()
	if _, err := l.Registry.Exec(l.T.Context(), sql); err != nil {
		l.T.Fatalf("%s: %v", sql, err)
	}
}

// TestAnAcceptanceCanBeRepeated accepts twice, like somebody who never got the first answer.
func TestAnAcceptanceCanBeRepeated(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	first := l.wantAccepted(l.Accept(l.token))
	again := l.wantAccepted(l.Accept(l.token))
	if first["refreshToken"] == again["refreshToken"] {
		t.Error("the second answer has the first one's refresh token")
	}
	l.wantRefused(l.AcceptWith(l.token, "another password"))
	var joined, loggedIn, refused int
	teststack.Row(t, l.Registry, `
		SELECT count(*) FILTER (WHERE event = 'admin_joined'), count(*) FILTER (WHERE event = 'logged_in'),
			count(*) FILTER (WHERE event = 'login_failed')
		FROM audit_log WHERE admin_id = $1`, []any{l.adminID}, &joined, &loggedIn, &refused)
	if joined != 1 || loggedIn != 1 || refused != 1 {
		t.Errorf("the audit log has %d joined, %d logged in, %d refused; want one of each", joined, loggedIn, refused)
	}
	if n := len(l.Admins()); n != 2 {
		t.Errorf("%d admins, want 2", n)
	}
}

// Only the link's own admin can repeat an acceptance, as long as they are an admin and the link is valid.
func TestAnAcceptanceIsRefusedLater(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(l link, session map[string]any){
		"removed": func(l link, _ map[string]any) {
			l.Want(http.StatusNoContent, http.MethodDelete, "/api/admins/"+l.adminID.(string), nil)
		},
		"password changed": func(l link, session map[string]any) {
			l.Token = session["accessToken"].(string)
			l.Want(http.StatusNoContent, http.MethodPost, "/api/auth/password",
				map[string]any{"currentPassword": "a password of mine", "newPassword": "another password"})
		},
		"expired": func(l link, _ map[string]any) {
			l.update(`UPDATE invitations SET expires_at = now() - interval '1 second'`)
		},
		"church suspended": func(l link, _ map[string]any) {
			open := l.another().token
			l.update(`UPDATE tenants SET status = 'suspended'`)
			teststack.Eventually(l.T, "the church is suspended", func() bool {
				return l.Get("/api/auth/me", l.Token).Status == http.StatusForbidden
			})
			teststack.WantProblem(l.T, l.Accept(open), http.StatusForbidden, "tenant-inactive") // the bearer already knows that the link is good
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink(t)
			session := l.wantAccepted(l.Accept(l.token))
			later(l, session)
			l.wantRefused(l.Accept(l.token))
			l.wantRefused(l.AcceptWith(l.token, "a guess of mine"))
		})
	}
}

func TestManyAcceptancesAtOnce(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	const requests = 6
	t.Run("same password", func(t *testing.T) {
		l := l.another()
		statuses := teststack.AtOnce(requests, func(int) teststack.Answer { return l.Accept(l.token) })
		if statuses[http.StatusOK] != requests {
			t.Errorf("statuses %v, want %d × 200", statuses, requests)
		}
	})
	t.Run("different passwords", func(t *testing.T) {
		l := l.another()
		accept := func(i int) teststack.Answer { return l.AcceptWith(l.token, fmt.Sprintf("password %d", i)) }
		for range 2 { // the second time, one password has been set
			statuses := teststack.AtOnce(requests, accept)
			if statuses[http.StatusOK] != 1 || statuses[http.StatusNotFound] != requests-1 {
				t.Errorf("statuses %v, want 1 × 200, %d × 404", statuses, requests-1)
			}
		}
	})
}

// TestARefusedAcceptanceRevealsNothing tries an accepted link and one that never existed, without the password.
func TestARefusedAcceptanceRevealsNothing(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.wantAccepted(l.Accept(l.token))
	var bodies [][]byte
	for _, token := range []any{l.token, "guess"} {
		began := time.Now()
		got := l.AcceptWith(token, "a guess of mine")
		if took := time.Since(began); took < 400*time.Millisecond {
			t.Errorf("refused after %s, want at least 400 ms", took)
		}
		l.wantRefused(got)
		bodies = append(bodies, got.Body)
	}
	if !bytes.Equal(bodies[0], bodies[1]) {
		t.Errorf("the answers differ:\n%s\n%s", bodies[0], bodies[1])
	}
	throttled := l.Another(teststack.WithThrottle)
	for _, token := range []any{l.token, "guess"} {
		statuses := teststack.AtOnce(12, func(int) teststack.Answer { return throttled.AcceptWith(token, "a guess of mine") })
		if statuses[http.StatusNotFound] < 10 || statuses[http.StatusTooManyRequests] == 0 { // on a slow machine, one more is allowed
			t.Errorf("12 guesses: statuses %v, want 10 × 404, then 429", statuses)
		}
		wantTooMany(t, throttled.AcceptWith(token, "a guess of mine"), 30)
	}
}

// TestAnAcceptanceThatTheRegistryMissed makes the registry fail when the church's database already has the password.
func TestAnAcceptanceThatTheRegistryMissed(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(l link) teststack.Answer{
		"accept again": func(l link) teststack.Answer { return l.Accept(l.token) },
		"log in": func(l link) teststack.Answer {
			return l.Post("/api/auth/login", map[string]any{"email": l.email, "password": "a password of mine"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink(t)
			l.update(`ALTER TABLE audit_log RENAME TO away`)
			teststack.WantProblem(t, l.Accept(l.token), http.StatusServiceUnavailable, "unavailable")
			l.update(`ALTER TABLE away RENAME TO audit_log`)
			l.wantRefused(l.AcceptWith(l.token, "another password"))
			l.wantAccepted(next(l))
			var joined int
			teststack.Row(t, l.Registry, `SELECT count(*) FROM audit_log WHERE event = 'admin_joined'`, nil, &joined)
			if joined != 1 {
				t.Errorf("the audit log has %d admins who joined, want 1", joined)
			}
		})
	}
}

// A token's role is the registry's, whatever the church's database says.
func TestAnAcceptanceGivesTheRegistrysRole(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	if _, err := l.Tenant(l.TenantID()).Exec(t.Context(), `UPDATE admins SET role = 'PRIMARY'`); err != nil {
		t.Fatal(err)
	}
	session := l.wantAccepted(l.Accept(l.token))
	if who, err := l.Tokens.Verify(session["accessToken"].(string)); err != nil || who.Role != "CO_ADMIN" {
		t.Errorf("the token says %+v (%v), want CO_ADMIN", who, err)
	}
}
