package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"narthex/internal/dev/teststack"
)

// awaitStatus waits until each process knows of a change and answers a church's request with this status: within a second,
// unless the machine is busy. On a cluster, a stack has two API processes, which answer in turn.
func awaitStatus(t *testing.T, status int, token string, processes ...*teststack.Stack) {
	t.Helper()
	for _, process := range processes {
		teststack.Eventually(t, fmt.Sprint("two answers with status ", status), func() bool {
			first, second := process.Get("/api/auth/me", token), process.Get("/api/auth/me", token)
			return first.Status == status && second.Status == status
		})
	}
}

// If a newer release has migrated a church to a schema that this one can't work with, requests are answered with 503. So
// are logins: nobody is told that the password was wrong.
func TestANewerSchemaIsAnsweredWith503(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	token := s.Register(body)["accessToken"].(string)
	const migrate = `UPDATE tenants SET schema_version = schema_version + 1, schema_serves = schema_version + 1`
	if _, err := s.Registry.Exec(t.Context(), migrate); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, http.StatusServiceUnavailable, token, s)
	for _, got := range []teststack.Answer{
		s.Get("/api/auth/me", token),
		s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}),
	} {
		teststack.WantProblem(t, got, http.StatusServiceUnavailable, "schema-ahead")
		if got.Header.Get("Retry-After") == "" {
			t.Error("the answer has no Retry-After")
		}
	}
}

// TestSuspensionReachesEveryProcess suspends a tenant that two API processes have just served.
func TestSuspensionReachesEveryProcess(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	session := s.Register(body)
	processes := []*teststack.Stack{s, s.Another()}
	token := session["accessToken"].(string)
	for _, process := range processes {
		if got := process.Get("/api/auth/me", token); got.Status != http.StatusOK {
			t.Fatalf("me: status %d, want 200\n%s", got.Status, got.Body)
		}
	}
	if _, err := s.Registry.Exec(t.Context(), `UPDATE tenants SET status = 'suspended'`); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, http.StatusForbidden, token, processes...)
	for _, process := range processes {
		teststack.WantProblem(t, process.Get("/api/auth/me", token), http.StatusForbidden, "tenant-inactive")
		process.WantEnded(session["refreshToken"])
		teststack.WantProblem(t, process.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}),
			http.StatusUnauthorized, "invalid-credentials")
	}
	var detail string
	const selectChange = `SELECT detail FROM audit_log WHERE event = 'tenant_status_changed' AND tenant_id = $1`
	teststack.Row(t, s.Registry, selectChange, []any{session["tenantId"]}, &detail)
	if detail != "active to suspended" {
		t.Errorf("the audit log says %q, want \"active to suspended\"", detail)
	}
}
