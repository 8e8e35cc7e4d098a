package httpapi_test

import (
	"maps"
	"net/http"
	"sync"
	"testing"

	"narthex/httpapi"
	"narthex/internal/dev/teststack"
)

// Requests of a church that are answered with 5xx are counted for it, even those without a token, such as logins. Refused
// requests, and those of no church, aren't counted.
func TestFailedRequestsAreCountedByChurch(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	failed := map[string]int{}
	s := teststack.New(t, func(o *httpapi.Options) {
		o.Failed = func(tenantID string) {
			mu.Lock()
			defer mu.Unlock()
			failed[tenantID]++
		}
	})
	applicant := teststack.Applicant()
	session := s.Register(applicant)
	broken, whole := teststack.Church{Stack: s, Token: session["accessToken"].(string)}, s.Church()
	invited := broken.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", teststack.Invitee()).JSON(t)["invitationToken"]
	login := map[string]any{"email": applicant["email"], "password": applicant["password"]}
	id := broken.TenantID()
	ask := func(status int) {
		t.Helper()
		broken.Want(status, http.MethodGet, "/api/branches", nil)
		broken.Want(http.StatusNotFound, http.MethodGet, "/api/branches/none", nil)
		broken.Want(http.StatusBadRequest, http.MethodPost, "/api/members", "nothing")
		whole.Want(http.StatusOK, http.MethodGet, "/api/branches", nil)
		s.Get("/api/branches", "no token")
		if got := s.Post("/api/auth/login", login); got.Status != status {
			t.Errorf("a login is answered with %d, want %d", got.Status, status)
		}
	}
	want := func(when string, want map[string]int) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if !maps.Equal(failed, want) {
			t.Errorf("%s, the failed requests are %v, want %v", when, failed, want)
		}
	}
	ask(http.StatusOK)
	want("at first", map[string]int{})
	for _, statement := range []string{`ALTER TABLE branches RENAME TO wings`, `ALTER TABLE admins RENAME TO priests`} {
		if _, err := s.Tenant(id).Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	ask(http.StatusServiceUnavailable)
	if got := s.Accept(invited); got.Status != http.StatusServiceUnavailable {
		t.Errorf("an acceptance is answered with %d, want 503", got.Status)
	}
	want("when two tables are missing", map[string]int{id: 3})
}
