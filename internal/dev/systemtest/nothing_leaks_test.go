package systemtest

import (
	"net/http"
	"strings"
	"testing"

	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
)

// TestNothingSecretIsKeptInClear dumps what Temporal and the registry store about a failed, a refused and a completed
// signup, and everything that was logged.
func TestNothingSecretIsKeptInClear(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	email := body["email"].(string)
	s.Faults.Always("CreateTenantAdmin", teststack.FailsAfter)
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	temporal := dump(s, email)
	s.Faults.Reset()
	session := s.Register(body)
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusConflict, "email-taken")
	mistyped := map[string]any{"email": email, "password": "a mistyped one"}
	teststack.WantProblem(t, s.Post("/api/auth/login", mistyped), http.StatusUnauthorized, "invalid-credentials")
	next := s.WantRefresh(session["refreshToken"])
	temporal += dump(s, email)
	kept := teststack.TablesOf(t, s.Registry)

	var hash string
	teststack.Row(t, s.Registry, `SELECT password_hash FROM admins`, nil, &hash)
	databasePassword := s.Tenant(session["tenantId"].(string)).Config().Password
	for where, dump := range map[string]string{
		"Temporal's history and visibility": temporal, "the log": s.Log.String(), "the registry": kept,
	} {
		testenv.WantNothingOf(t, where, dump,
			email, "example.org", body["password"].(string), "a mistyped one", databasePassword, "postgres://",
			session["accessToken"].(string), session["refreshToken"].(string), next["refreshToken"].(string))
		if where == "the registry" {
			continue // it holds the church's and the admin's name, and the password's hash
		}
		testenv.WantNothingOf(t, where, dump, "Grace Chapel", `"Pat"`, "Muster", hash)
	}
	testenv.WantNothingOf(t, "Temporal's history and visibility", temporal, teststack.ErrInjected.Error())
	for where, proof := range map[string][2]string{
		"Temporal's history": {temporal, "CreateTenantAdmin"},
		"the log":            {s.Log.String(), "/api/auth/register"},
		"the registry":       {kept, "Grace Chapel"},
	} {
		if !strings.Contains(proof[0], proof[1]) {
			t.Errorf("%q is not in the dump of %s, so that dump proves nothing", proof[1], where)
		}
	}
}
