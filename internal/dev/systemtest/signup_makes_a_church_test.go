package systemtest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/dev/teststack"
	"narthex/internal/ids"
)

var tenantTables = []string{
	"account_deletion_requests", "admin_mfa", "admins", "agent_audits", "analytics_events", "branches",
	"chat_conversations", "chat_messages", "consent_logs", "conversation_messages", "conversations",
	"data_exports", "dead_letters", "members", "message_queue", "message_recipients", "message_templates",
	"messages", "mfa_recovery_codes", "nps_surveys", "onboarding_progress", "planning_center_integrations",
	"recurring_messages", "subscriptions",
}

// The criteria by which a signup has succeeded, one function each.
var criteria = map[string]func(*teststack.Stack, *testing.T, map[string]any){
	"a church in the registry, in trial for 14 days":     hasChurch,
	"a database of its own with exactly the 24 tables":   hasDatabase,
	"a tenant record that points to the database":        hasTenantRecord,
	"an email index entry":                               hasEmailIndexEntry,
	"an admin in the registry":                           hasRegistryAdmin,
	"an admin with the same id in the tenant's database": hasTenantAdmin,
	"valid tokens": hasTokens,
	"login through email, index, tenant and database, with the same result": canLogIn,
}

// wantWhole checks that a signup is complete, starting from the body of register's or login's answer.
func wantWhole(s *teststack.Stack, session map[string]any) {
	s.T.Helper()
	for _, check := range criteria {
		check(s, s.T, session)
	}
}

// TestSignup checks the success criteria of a signup, one subtest each.
func TestSignup(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithRealPasswords)
	session := s.Register(teststack.Applicant())
	for name, check := range criteria {
		t.Run(name, func(t *testing.T) { check(s, t, session) })
	}
	t.Run("a password hashed at a cost of 10", func(t *testing.T) {
		var hash string
		teststack.Row(t, s.Registry, `SELECT password_hash FROM admins`, nil, &hash)
		if cost, err := bcrypt.Cost([]byte(hash)); cost != 10 {
			t.Errorf("bcrypt cost %d (%v), want 10", cost, err)
		}
	})
}

func hasChurch(s *teststack.Stack, t *testing.T, session map[string]any) {
	var name, status string
	var email []byte
	var trialEndsAt, createdAt time.Time
	teststack.Row(t, s.Registry, `SELECT name, subscription_status, email, trial_ends_at, created_at FROM churches WHERE id = $1`,
		[]any{session["tenantId"]}, &name, &status, &email, &trialEndsAt, &createdAt)
	if name != "Grace Chapel" || status != "trial" {
		t.Errorf("church %q in status %q, want \"Grace Chapel\" in trial", name, status)
	}
	if got := trialEndsAt.Sub(createdAt); got != 14*24*time.Hour {
		t.Errorf("the trial lasts %s, want 14 days", got)
	}
	answered, err := time.Parse(time.RFC3339Nano, teststack.Field(session, "church", "trialEndsAt"))
	if err != nil || !answered.Equal(trialEndsAt) {
		t.Errorf("the answer says that the trial ends at %s (%v), the registry %s", answered, err, trialEndsAt)
	}
	if bytes.Contains(email, []byte("example.org")) {
		t.Error("the church's email is not sealed")
	}
}

func hasDatabase(s *teststack.Stack, t *testing.T, session map[string]any) {
	tenantID := session["tenantId"].(string)
	if !ids.Valid(tenantID) {
		t.Errorf("tenant id %q is not a lower-case ULID", tenantID)
	}
	db := s.Tenant(tenantID)
	var name, role, owner string
	teststack.Row(t, db, `
		SELECT current_database(), session_user, pg_get_userbyid(datdba)
		FROM pg_database WHERE datname = current_database()`, nil, &name, &role, &owner)
	if want := "tenant_" + tenantID; name != want || role != want || owner != want {
		t.Errorf("database %s of owner %s, connected as %s, want %s for all", name, owner, role, want)
	}
	rows, _ := db.Query(t.Context(), `SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tables, tenantTables) {
		t.Errorf("tables\n  %v, want\n  %v", tables, tenantTables)
	}
}

func hasTenantRecord(s *teststack.Stack, t *testing.T, session map[string]any) {
	var churchID, database, host, status, subscription, plan string
	var port, version int
	var url []byte
	teststack.Row(t, s.Registry, `SELECT church_id, database_name, database_host, database_port, status, subscription_status,
		subscription_plan, schema_version, database_url FROM tenants WHERE id = $1`,
		[]any{session["tenantId"]}, &churchID, &database, &host, &port, &status, &subscription, &plan, &version, &url)
	if churchID != session["tenantId"] || database != "tenant_"+churchID {
		t.Errorf("tenant record: church %s, database %s, want those of %s", churchID, database, session["tenantId"])
	}
	if status != "active" || subscription != "trial" || plan != "starter" || version < 1 {
		t.Errorf("tenant record: status %s, subscription %s, plan %s, schema version %d", status, subscription, plan, version)
	}
	config := s.Server.Config().ConnConfig
	if host != config.Host || port != int(config.Port) {
		t.Errorf("the database is recorded at %s:%d, want %s:%d", host, port, config.Host, config.Port)
	}
	if bytes.Contains(url, []byte("postgres")) {
		t.Error("the database URL is not sealed")
	}
}

func hasEmailIndexEntry(s *teststack.Stack, t *testing.T, session map[string]any) {
	hash, err := s.Keys.EmailIndex(teststack.Field(session, "admin", "email"))
	if err != nil {
		t.Fatal(err)
	}
	var tenantID, adminID string
	teststack.Row(t, s.Registry, `SELECT tenant_id, admin_id FROM admin_email_index WHERE email_hash = $1`, []any{hash}, &tenantID, &adminID)
	if tenantID != session["tenantId"] || adminID != session["adminId"] {
		t.Errorf("the email leads to tenant %s and admin %s, want %s and %s", tenantID, adminID, session["tenantId"], session["adminId"])
	}
}

func hasRegistryAdmin(s *teststack.Stack, t *testing.T, session map[string]any) {
	var tenantID, hash, role string
	const selectAdmin = `SELECT tenant_id, password_hash, role FROM admins WHERE id = $1`
	teststack.Row(t, s.Registry, selectAdmin, []any{session["adminId"]}, &tenantID, &hash, &role)
	if tenantID != session["tenantId"] || role != "PRIMARY" {
		t.Errorf("registry admin of tenant %s with role %s, want %s and PRIMARY", tenantID, role, session["tenantId"])
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte("correct horse battery")) != nil {
		t.Error("the registry admin's password hash doesn't match the password")
	}
}

func hasTenantAdmin(s *teststack.Stack, t *testing.T, session map[string]any) {
	var count int
	var id, first, last, role, hash string
	var welcome bool
	db := s.Tenant(session["tenantId"].(string))
	teststack.Row(t, db, `SELECT count(*) OVER (), id, first_name, last_name, role, email_hash, welcome_completed FROM admins`, nil,
		&count, &id, &first, &last, &role, &hash, &welcome)
	if count != 1 || id != session["adminId"] || first != "Pat" || last != "Muster" || role != "PRIMARY" || welcome {
		t.Errorf("%d tenant admins, the first %s %s %s %s, welcome completed: %t; want one, %s Pat Muster PRIMARY, false",
			count, id, first, last, role, welcome, session["adminId"])
	}
	if want, _ := s.Keys.EmailIndex(teststack.Field(session, "admin", "email")); hash != want {
		t.Errorf("the tenant admin's email hash is %s, want %s", hash, want)
	}
}

func hasTokens(s *teststack.Stack, t *testing.T, session map[string]any) {
	who, err := s.Tokens.Verify(session["accessToken"].(string))
	if err != nil || who.TenantID != session["tenantId"] || who.AdminID != session["adminId"] || who.Role != "PRIMARY" {
		t.Errorf("the access token is for %+v (%v), want tenant %s, admin %s, PRIMARY", who, err, session["tenantId"], session["adminId"])
	}
	if session["refreshToken"] == "" || session["refreshToken"] == session["accessToken"] {
		t.Error("there is no refresh token of its own")
	}
	me := s.Get("/api/auth/me", session["accessToken"].(string))
	if me.Status != http.StatusOK {
		t.Fatalf("me: status %d, want 200\n%s", me.Status, me.Body)
	}
	email := teststack.Field(session, "admin", "email")
	if got := me.JSON(t); got["tenantId"] != session["tenantId"] || teststack.Field(got, "admin", "email") != email {
		t.Errorf("me answered %s", me.Body)
	}
}

func canLogIn(s *teststack.Stack, t *testing.T, session map[string]any) {
	email := "  " + strings.ToUpper(teststack.Field(session, "admin", "email")) + " "
	body := map[string]any{"email": email, "password": "correct horse battery"}
	got := s.Post("/api/auth/login", body)
	if got.Status != http.StatusOK {
		t.Fatalf("login: status %d, want 200\n%s", got.Status, got.Body)
	}
	again := got.JSON(t)
	for _, name := range []string{"tenantId", "adminId"} {
		if again[name] != session[name] {
			t.Errorf("login answered %s %v, want %v", name, again[name], session[name])
		}
	}
	for _, object := range []string{"admin", "church"} {
		got, _ := json.Marshal(again[object])
		want, _ := json.Marshal(session[object])
		if !bytes.Equal(got, want) {
			t.Errorf("login answered %s %s, want %s", object, got, want)
		}
	}
	var lastLogin *time.Time
	db := s.Tenant(session["tenantId"].(string))
	teststack.Row(t, db, `SELECT last_login_at FROM admins WHERE id = $1`, []any{session["adminId"]}, &lastLogin)
	if lastLogin == nil {
		t.Error("last_login_at is not set after a login")
	}
}
