package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// wantNothingOf checks that a dump does not hold a secret, in any case of letters.
func wantNothingOf(t *testing.T, where, dump, secret string) {
	t.Helper()
	if secret == "" || strings.Contains(strings.ToLower(dump), strings.ToLower(secret)) {
		t.Errorf("%q can be read in %s", secret, where)
	}
}

// tablesOf returns all rows of all tables of a database.
func tablesOf(t *testing.T, db *pgxpool.Pool) string {
	t.Helper()
	var query, rows string
	row(t, db, `SELECT string_agg(format('SELECT t::text AS r FROM public.%I t', tablename), ' UNION ALL ') FROM pg_tables WHERE schemaname = 'public'`, nil, &query)
	row(t, db, `SELECT string_agg(r, ' ') FROM (`+query+`) all_rows`, nil, &rows)
	return rows
}

// TestNothingSecretIsKeptInClear dumps what Temporal and the registry keep of a failed, a refused and a
// completed signup, and everything that was logged.
func TestNothingSecretIsKeptInClear(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	email := body["email"].(string)
	s.faults.always("CreateTenantAdmin", failsAfter)
	wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	temporal := s.dump(email)
	s.faults.reset()
	session := s.register(body)
	wantProblem(t, s.post("/api/auth/register", body), http.StatusConflict, "email-taken")
	wantProblem(t, s.post("/api/auth/login", map[string]any{"email": email, "password": "a mistyped one"}), http.StatusUnauthorized, "invalid-credentials")
	next := s.wantRefresh(session["refreshToken"])
	temporal += s.dump(email)
	kept := tablesOf(t, s.registry)

	var hash string
	row(t, s.registry, `SELECT password_hash FROM admins`, nil, &hash)
	databasePassword := s.tenant(session["tenantId"].(string)).Config().Password
	for where, dump := range map[string]string{"Temporal's history and visibility": temporal, "the log": s.log.String(), "the registry": kept} {
		for _, secret := range []string{
			email, "example.org", body["password"].(string), "a mistyped one", databasePassword, "postgres://",
			session["accessToken"].(string), session["refreshToken"].(string), next["refreshToken"].(string),
		} {
			wantNothingOf(t, where, dump, secret)
		}
		if where == "the registry" {
			continue // it holds the church's and the admin's name, and the password's hash
		}
		for _, secret := range []string{"Grace Chapel", `"Pat"`, "Muster", hash} {
			wantNothingOf(t, where, dump, secret)
		}
	}
	wantNothingOf(t, "Temporal's history and visibility", temporal, errInjected.Error())
	for where, proof := range map[string][2]string{
		"Temporal's history": {temporal, "CreateTenantAdmin"}, "the log": {s.log.String(), "/api/auth/register"}, "the registry": {kept, "Grace Chapel"},
	} {
		if !strings.Contains(proof[0], proof[1]) {
			t.Errorf("%q is not in the dump of %s: it proves nothing", proof[1], where)
		}
	}
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	s.faults.always("CreateTenant", failsBefore)
	wantProblem(t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-rolled-back")
	s.faults.reset()
	session := s.register(body)
	wantProblem(t, s.post("/api/auth/login", map[string]any{"email": body["email"], "password": "a mistyped one"}), http.StatusUnauthorized, "invalid-credentials")
	s.logIn(body)
	hash, err := s.keys.EmailIndex(body["email"].(string))
	if err != nil {
		t.Fatal(err)
	}
	var events string
	row(t, s.registry, `SELECT string_agg(event, ' ' ORDER BY id) FROM audit_log`, nil, &events)
	if want := "signup_failed signed_up login_failed logged_in"; events != want {
		t.Errorf("the audit log tells %q, want %q", events, want)
	}
	var known, failed int
	row(t, s.registry, `SELECT count(*) FROM audit_log WHERE event IN ('signed_up', 'logged_in') AND tenant_id = $1 AND admin_id = $2`,
		[]any{session["tenantId"], session["adminId"]}, &known)
	row(t, s.registry, `SELECT count(*) FROM audit_log WHERE event = 'login_failed' AND email_hash = $1`, []any{hash}, &failed)
	if known != 2 || failed != 1 {
		t.Errorf("%d entries name the tenant and admin, %d the failed login's email by its index; want 2 and 1", known, failed)
	}
	for _, change := range []string{`DELETE FROM audit_log`, `UPDATE audit_log SET event = 'logged_in'`, `TRUNCATE audit_log`} {
		if _, err := s.registry.Exec(t.Context(), change); err == nil || !strings.Contains(fmt.Sprint(err), "append-only") {
			t.Errorf("%s: %v, want that the log is append-only", change, err)
		}
	}
}
