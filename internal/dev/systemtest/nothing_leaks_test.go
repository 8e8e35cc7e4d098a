package systemtest

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

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

// TestNothingOfAChurchLeaksFromTheFleet lets a church fail because of a row, on a copy and in a run. PostgreSQL's message quotes
// the row.
func TestNothingOfAChurchLeaksFromTheFleet(t *testing.T) {
	t.Parallel()
	f := teststack.NewFleet(t, 2)
	f.Work()
	const email = "pat@example.org" // the migration inserts it too, and then makes a unique index
	church := f.Tenant(f.Churches[0])
	for _, other := range f.Churches {
		if _, err := f.Tenant(other).Exec(t.Context(), `INSERT INTO members VALUES ($1)`, email); err != nil {
			t.Fatal(err)
		}
	}
	in := fleetInput(f)
	in.Rehearse = true
	rehearsal := startRun(f, in)
	if err := rehearsal.Get(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "23505 on members_email_key") {
		t.Errorf("the rehearsal ends with %v, want it to fail at the index", err)
	}
	in = fleetInput(f)
	run := startRun(f, in)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	temporal := ""
	for _, workflowID := range []string{rehearsal.GetID(), run.GetID()} {
		plain, err := proto.Marshal(opened(f.Stack, history(f.Stack, workflowID, "")))
		if err != nil {
			t.Fatal(err)
		}
		temporal += dumpOf(f.Stack, workflowID) + string(plain)
	}
	kept := teststack.TablesOf(t, f.Registry)
	secrets := []string{email, "example.org", "postgres://", church.Config().Password}
	testenv.WantNothingOf(t, "the registry", kept, secrets...)
	secrets = append(secrets, "Grace Chapel") // the registry holds it
	testenv.WantNothingOf(t, "Temporal's history and visibility", temporal, secrets...)
	testenv.WantNothingOf(t, "the log", f.Log.String(), secrets...)
	var failed string
	teststack.Row(t, f.Registry, `SELECT error FROM fleet_changes WHERE run_id = $1 AND sqlstate = '23505' LIMIT 1`, []any{in.RunID}, &failed)
	if failed != "000003_email.up.sql: PostgreSQL refused: the value is already taken (23505 on members_email_key)" {
		t.Errorf("the ledger says %q, want it to say why without the row", failed)
	}
	for where, proof := range map[string][2]string{
		"Temporal's history": {temporal, "23505 on members_email_key"},
		"the log":            {f.Log.String(), "ChangeChurches"},
		"the registry":       {kept, "Grace Chapel"},
	} {
		if !strings.Contains(proof[0], proof[1]) {
			t.Errorf("%q is not in the dump of %s, so that dump proves nothing", proof[1], where)
		}
	}
}
