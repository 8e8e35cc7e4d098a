package systemtest

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

// waitsForTheDatabase are requests that change both a church's database and the registry.
var waitsForTheDatabase = []struct {
	name string
	ask  func(c teststack.Church, invited map[string]any) teststack.Answer
	want int // at least one answer's status, once the database answers again
}{
	{"change the password", func(c teststack.Church, _ map[string]any) teststack.Answer {
		return c.Call(http.MethodPost, "/api/auth/password",
			map[string]any{"currentPassword": teststack.Applicant()["password"], "newPassword": "another password"})
	}, http.StatusNoContent},
	{"accept an invitation", func(c teststack.Church, invited map[string]any) teststack.Answer {
		return c.Accept(invited["invitationToken"])
	}, http.StatusOK},
	{"remove an admin", func(c teststack.Church, invited map[string]any) teststack.Answer {
		return c.Call(http.MethodDelete, "/api/admins/"+invited["adminId"].(string), nil)
	}, http.StatusNoContent},
}

// TestAHungChurchDelaysNoOther makes more requests wait for one church's database than the registry has connections.
func TestAHungChurchDelaysNoOther(t *testing.T) {
	t.Parallel()
	shared := teststack.New(t)
	other := teststack.Applicant()
	shared.Register(other)
	for _, waiting := range waitsForTheDatabase {
		t.Run(waiting.name, func(t *testing.T) {
			s := *shared
			s.T = t
			hung := s.Church()
			invited := hung.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", teststack.Invitee()).JSON(t)
			locked := s.Tenant(hung.TenantID())
			if _, err := locked.Exec(t.Context(), `BEGIN; SELECT FROM admins FOR UPDATE`); err != nil {
				t.Fatal(err)
			}
			answered := make(chan map[int]int, 1)
			go func() {
				answered <- teststack.AtOnce(12, func(int) teststack.Answer { return waiting.ask(hung, invited) })
			}()
			defer func() {
				_, _ = locked.Exec(context.Background(), `ROLLBACK`)
				if statuses := <-answered; statuses[waiting.want] == 0 {
					t.Errorf("the requests that waited: statuses %v, want %d", statuses, waiting.want)
				}
			}()
			teststack.Eventually(t, "requests wait for locks", func() bool {
				var locks int
				teststack.Row(t, s.Registry, `
					SELECT count(*) FROM pg_stat_activity
					WHERE wait_event_type = 'Lock' AND datname IN (current_database(), $1)`, []any{locked.Config().Database}, &locks)
				return locks >= 4
			})
			for range 10 { // the other requests are hashing their passwords at the same time
				wantQuickLogin(&s, other)
			}
		})
	}
}

// wantQuickLogin expects a login to be answered 200 within 20 seconds: the machine may be busy.
func wantQuickLogin(s *teststack.Stack, body map[string]any) {
	s.T.Helper()
	login := teststack.JSONBody(s.T, map[string]any{"email": body["email"], "password": body["password"]})
	request := s.Request(http.MethodPost, "/api/auth/login", "", login)
	response, err := (&http.Client{Timeout: 20 * time.Second}).Do(request)
	if err != nil {
		s.T.Fatalf("a login to another church: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		content, _ := io.ReadAll(response.Body)
		s.T.Fatalf("a login to another church: status %d, want 200\n%s", response.StatusCode, content)
	}
}
