package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

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
var criteria = map[string]func(*stack, *testing.T, map[string]any){
	"a church in the registry, in trial for 14 days":     hasChurch,
	"a database of its own with exactly the 24 tables":   hasDatabase,
	"a tenant record that points to the database":        hasTenantRecord,
	"an email index entry":                               hasEmailIndexEntry,
	"an admin in the registry":                           hasRegistryAdmin,
	"an admin with the same id in the tenant's database": hasTenantAdmin,
	"valid tokens": hasTokens,
	"login by email, index, tenant and database, to the same end": canLogIn,
}

// wantWhole checks that a signup is there whole, by the body that register or login answered with.
func (s *stack) wantWhole(session map[string]any) {
	s.t.Helper()
	for _, check := range criteria {
		check(s, s.t, session)
	}
}

// TestSignup holds the success criteria of a signup, one test each.
func TestSignup(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	session := s.register(applicant())
	for name, check := range criteria {
		t.Run(name, func(t *testing.T) { check(s, t, session) })
	}
}

func field(session map[string]any, object, name string) string {
	return session[object].(map[string]any)[name].(string)
}

func hasChurch(s *stack, t *testing.T, session map[string]any) {
	var name, status string
	var email []byte
	var trialEndsAt, createdAt time.Time
	row(t, s.registry, `SELECT name, subscription_status, email, trial_ends_at, created_at FROM churches WHERE id = $1`,
		[]any{session["tenantId"]}, &name, &status, &email, &trialEndsAt, &createdAt)
	if name != "Grace Chapel" || status != "trial" {
		t.Errorf("church %q in status %q, want \"Grace Chapel\" in trial", name, status)
	}
	if got := trialEndsAt.Sub(createdAt); got != 14*24*time.Hour {
		t.Errorf("the trial lasts %s, want 14 days", got)
	}
	if answered, err := time.Parse(time.RFC3339Nano, field(session, "church", "trialEndsAt")); err != nil || !answered.Equal(trialEndsAt) {
		t.Errorf("the answer says that the trial ends at %s, the registry %s", field(session, "church", "trialEndsAt"), trialEndsAt)
	}
	if bytes.Contains(email, []byte("example.org")) {
		t.Error("the church's email is not sealed")
	}
}

func hasDatabase(s *stack, t *testing.T, session map[string]any) {
	tenantID := session["tenantId"].(string)
	if !ids.Valid(tenantID) {
		t.Errorf("tenant id %q is not a lower-case ULID", tenantID)
	}
	db := s.tenant(tenantID)
	var name, role, owner string
	row(t, db, `SELECT current_database(), session_user, pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()`, nil, &name, &role, &owner)
	if want := "tenant_" + tenantID; name != want || role != want || owner != want {
		t.Errorf("database %s of owner %s entered as %s, want %s for all", name, owner, role, want)
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

func hasTenantRecord(s *stack, t *testing.T, session map[string]any) {
	var churchID, database, host, status, subscription, plan string
	var port, version int
	var url []byte
	row(t, s.registry, `SELECT church_id, database_name, database_host, database_port, status, subscription_status,
		subscription_plan, schema_version, database_url FROM tenants WHERE id = $1`,
		[]any{session["tenantId"]}, &churchID, &database, &host, &port, &status, &subscription, &plan, &version, &url)
	if churchID != session["tenantId"] || database != "tenant_"+churchID || status != "active" || subscription != "trial" || plan != "starter" || version < 1 {
		t.Errorf("tenant record: church %s, database %s, status %s, subscription %s, plan %s, schema version %d", churchID, database, status, subscription, plan, version)
	}
	config := s.server.Config().ConnConfig
	if host != config.Host || port != int(config.Port) {
		t.Errorf("the database is recorded at %s:%d, want %s:%d", host, port, config.Host, config.Port)
	}
	if bytes.Contains(url, []byte("postgres")) {
		t.Error("the database URL is not sealed")
	}
}

func hasEmailIndexEntry(s *stack, t *testing.T, session map[string]any) {
	hash, err := s.keys.EmailIndex(field(session, "admin", "email"))
	if err != nil {
		t.Fatal(err)
	}
	var tenantID, adminID string
	row(t, s.registry, `SELECT tenant_id, admin_id FROM admin_email_index WHERE email_hash = $1`, []any{hash}, &tenantID, &adminID)
	if tenantID != session["tenantId"] || adminID != session["adminId"] {
		t.Errorf("the email leads to tenant %s and admin %s, want %s and %s", tenantID, adminID, session["tenantId"], session["adminId"])
	}
}

func hasRegistryAdmin(s *stack, t *testing.T, session map[string]any) {
	var tenantID, hash, role string
	row(t, s.registry, `SELECT tenant_id, password_hash, role FROM admins WHERE id = $1`, []any{session["adminId"]}, &tenantID, &hash, &role)
	if tenantID != session["tenantId"] || role != "PRIMARY" {
		t.Errorf("registry admin of tenant %s with role %s, want %s and PRIMARY", tenantID, role, session["tenantId"])
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte("correct horse battery")) != nil {
		t.Error("the registry admin's password hash is not of the password")
	}
	if cost, _ := bcrypt.Cost([]byte(hash)); cost != 10 {
		t.Errorf("bcrypt cost %d, want 10", cost)
	}
}

func hasTenantAdmin(s *stack, t *testing.T, session map[string]any) {
	var count int
	var id, first, last, role, hash string
	var welcome bool
	db := s.tenant(session["tenantId"].(string))
	row(t, db, `SELECT count(*) OVER (), id, first_name, last_name, role, email_hash, welcome_completed FROM admins`, nil,
		&count, &id, &first, &last, &role, &hash, &welcome)
	if count != 1 || id != session["adminId"] || first != "Pat" || last != "Muster" || role != "PRIMARY" || welcome {
		t.Errorf("%d tenant admins, the first %s %s %s %s, welcome completed: %t; want one, %s Pat Muster PRIMARY, false", count, id, first, last, role, welcome, session["adminId"])
	}
	if want, _ := s.keys.EmailIndex(field(session, "admin", "email")); hash != want {
		t.Errorf("the tenant admin's email hash is %s, want %s", hash, want)
	}
}

func hasTokens(s *stack, t *testing.T, session map[string]any) {
	who, err := s.tokens.Verify(session["accessToken"].(string))
	if err != nil || who.TenantID != session["tenantId"] || who.AdminID != session["adminId"] || who.Role != "PRIMARY" {
		t.Errorf("the access token is for %+v (%v), want tenant %s, admin %s, PRIMARY", who, err, session["tenantId"], session["adminId"])
	}
	if session["refreshToken"] == "" || session["refreshToken"] == session["accessToken"] {
		t.Error("there is no refresh token of its own")
	}
	me := s.get("/api/auth/me", session["accessToken"].(string))
	if me.status != http.StatusOK {
		t.Fatalf("me: status %d, want 200\n%s", me.status, me.body)
	}
	if got := me.json(t); got["tenantId"] != session["tenantId"] || field(got, "admin", "email") != field(session, "admin", "email") {
		t.Errorf("me answered %s", me.body)
	}
}

func canLogIn(s *stack, t *testing.T, session map[string]any) {
	body := map[string]any{"email": "  " + strings.ToUpper(field(session, "admin", "email")) + " ", "password": "correct horse battery"}
	got := s.post("/api/auth/login", body)
	if got.status != http.StatusOK {
		t.Fatalf("login: status %d, want 200\n%s", got.status, got.body)
	}
	again := got.json(t)
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
	row(t, s.tenant(session["tenantId"].(string)), `SELECT last_login_at FROM admins WHERE id = $1`, []any{session["adminId"]}, &lastLogin)
	if lastLogin == nil {
		t.Error("last_login_at is not set after a login")
	}
}

// TestDataOfOneChurchIsNowhereElse signs two churches up and looks for each one's data in every table
// of the other's database.
func TestDataOfOneChurchIsNowhereElse(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a, b := s.register(applicant()), s.register(applicant())
	rowsOf := func(session map[string]any) string {
		var all strings.Builder
		db := s.tenant(session["tenantId"].(string))
		for _, table := range tenantTables {
			var rows string
			row(t, db, `SELECT coalesce(string_agg(t::text, ' '), '') FROM `+table+` t`, nil, &rows)
			all.WriteString(rows)
		}
		return all.String()
	}
	for _, pair := range [][2]map[string]any{{a, b}, {b, a}} {
		own, other := rowsOf(pair[0]), rowsOf(pair[1])
		if id := pair[0]["adminId"].(string); !strings.Contains(own, id) || strings.Contains(other, id) {
			t.Errorf("admin %s: in its own church's database %t, in the other's %t; want true, false", id, strings.Contains(own, id), strings.Contains(other, id))
		}
	}
	// A's role cannot enter B's database.
	config, err := pgx.ParseConfig(s.tenant(a["tenantId"].(string)).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "tenant_" + b["tenantId"].(string)
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(context.Background())
		t.Error("church A's role has entered church B's database")
	}
}

// storm posts n register requests at once and counts the statuses of the answers.
func (s *stack) storm(bodies []map[string]any) map[int]int {
	statuses := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			got := s.post("/api/auth/register", body)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	wg.Wait()
	return statuses
}

func TestTwentySignupsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var bodies []map[string]any
	for range 20 {
		bodies = append(bodies, applicant())
	}
	if got := s.storm(bodies); got[http.StatusCreated] != 20 {
		t.Fatalf("statuses %v, want 20 × 201", got)
	}
	for _, body := range bodies {
		if got := s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}); got.status != http.StatusOK {
			t.Errorf("login as %s: status %d, want 200", body["email"], got.status)
		}
	}
}

func TestTwentySignupsAtOnceWithOneEmail(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	bodies := slices.Repeat([]map[string]any{body}, 20)
	if got := s.storm(bodies); got[http.StatusCreated] != 1 || got[http.StatusConflict] != 19 {
		t.Errorf("statuses %v, want 1 × 201 and 19 × 409", got)
	}
	databases := 0
	for _, tenantID := range s.faults.tenantIDs() {
		var n int
		row(t, s.server, `SELECT count(*) FROM pg_database WHERE datname = $1`, []any{"tenant_" + tenantID}, &n)
		databases += n
	}
	if databases != 1 {
		t.Errorf("%d databases, want 1", databases)
	}
	wantProblem(t, s.post("/api/auth/register", body), http.StatusConflict, "email-taken")
}

func TestClientThatHangsUpLeavesASignupThatCompletes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	started, release := make(chan struct{}, 1), make(chan struct{})
	s.faults.first(1, "CreateDatabase", func(run func() error) error { started <- struct{}{}; <-release; return run() })
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/auth/register", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	go func() { <-started; hangUp(); close(release) }()
	if _, err := http.DefaultClient.Do(request); err == nil {
		t.Fatal("the request was answered before it was hung up")
	}
	eventually(t, "login after a hung-up signup", func() bool {
		return s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}).status == http.StatusOK
	})
}

func TestWaitThatRunsOutLeavesASignupThatCompletes(t *testing.T) {
	t.Parallel()
	s := newStack(t, withWait(50*time.Millisecond))
	body := applicant()
	begun, release := make(chan struct{}), make(chan struct{})
	s.faults.asActivity("MigrateDatabase", func(run func() error) error { close(begun); <-release; return run() })
	got := s.post("/api/auth/register", body)
	if got.status != http.StatusAccepted {
		t.Fatalf("status %d, want 202\n%s", got.status, got.body)
	}
	location := got.header.Get("Location")
	if id := got.json(t)["signupId"]; location != "/api/signups/"+id.(string) || got.header.Get("Retry-After") == "" {
		t.Errorf("Location %q and Retry-After %q, want /api/signups/%s and some seconds", location, got.header.Get("Retry-After"), id)
	}
	<-begun
	status := s.wantStatus(strings.TrimPrefix(location, "/api/signups/"), "running", "")
	if first := status["steps"].([]any)[0].(map[string]any); first["name"] != "CreateDatabase" || first["state"] != "completed" {
		t.Errorf("the first step is %v, want CreateDatabase completed", first)
	}
	close(release) // soon: the step may take 8.5 seconds
	eventually(t, "completed signup", func() bool { return s.get(location, "").json(t)["state"] == "completed" })
	for _, step := range s.get(location, "").json(t)["steps"].([]any) {
		if step.(map[string]any)["state"] != "completed" {
			t.Errorf("step %v of a completed signup, want completed", step)
		}
	}
	if strings.Contains(location, body["email"].(string)) {
		t.Error("the signup's id holds the email")
	}
	login := s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	s.wantWhole(login.json(t))
}

func TestSecondSignupWhileOneRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t, withWait(50*time.Millisecond))
	body := applicant()
	release := make(chan struct{})
	defer close(release)
	s.faults.always("MigrateDatabase", func(func() error) error { <-release; return errInjected })
	if got := s.post("/api/auth/register", body); got.status != http.StatusAccepted {
		t.Fatalf("status %d, want 202\n%s", got.status, got.body)
	}
	wantProblem(t, s.post("/api/auth/register", body), http.StatusConflict, "signup-in-progress")
}
