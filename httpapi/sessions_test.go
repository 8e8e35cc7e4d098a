package httpapi_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func (s *stack) logIn(body map[string]any) map[string]any {
	s.t.Helper()
	got := s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	if got.status != http.StatusOK {
		s.t.Fatalf("login: status %d, want 200\n%s", got.status, got.body)
	}
	return got.json(s.t)
}

func (s *stack) refresh(token any) answer {
	s.t.Helper()
	return s.post("/api/auth/refresh", map[string]any{"refreshToken": token})
}

// wantRefresh exchanges a refresh token and expects it to work.
func (s *stack) wantRefresh(token any) map[string]any {
	s.t.Helper()
	got := s.refresh(token)
	if got.status != http.StatusOK {
		s.t.Fatalf("refresh: status %d, want 200\n%s", got.status, got.body)
	}
	return got.json(s.t)
}

func (s *stack) wantEnded(token any) {
	s.t.Helper()
	wantProblem(s.t, s.refresh(token), http.StatusUnauthorized, "session-ended")
}

// age makes what was done to refresh tokens a minute older.
func (s *stack) age() {
	s.t.Helper()
	if _, err := s.registry.Exec(s.t.Context(), `UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'`); err != nil {
		s.t.Fatal(err)
	}
}

func TestRefreshTokenIsGoodForOneExchange(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	first := s.register(applicant())
	second := s.wantRefresh(first["refreshToken"])
	if second["refreshToken"] == first["refreshToken"] {
		t.Error("the refresh token was not rotated")
	}
	who, err := s.tokens.Verify(second["accessToken"].(string))
	if err != nil || who.TenantID != first["tenantId"] || who.AdminID != first["adminId"] || who.Role != "PRIMARY" {
		t.Errorf("the new access token is for %+v (%v), want the same admin", who, err)
	}
	third := s.wantRefresh(first["refreshToken"]) // at once: the answer may have been lost
	s.age()
	s.wantEnded(first["refreshToken"])
	for name, token := range map[string]any{"second": second["refreshToken"], "third": third["refreshToken"]} {
		if got := s.refresh(token); got.status != http.StatusUnauthorized {
			t.Errorf("the %s token after the first was used again: status %d, want 401", name, got.status)
		}
	}
	var reuses int
	row(t, s.registry, `SELECT count(*) FROM audit_log WHERE event = 'token_reused' AND admin_id = $1`, []any{first["adminId"]}, &reuses)
	if reuses != 1 {
		t.Errorf("the audit log tells of %d reuses, want 1", reuses)
	}
}

func TestRefreshTokensExpireAndAreStoredHashed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	session := s.register(applicant())
	token := session["refreshToken"].(string)
	var rows string
	row(t, s.registry, `SELECT string_agg(t::text || encode(t.id, 'escape'), ' ') FROM refresh_tokens t`, nil, &rows)
	wantNothingOf(t, "the registry's refresh tokens", rows, token)
	var days float64
	row(t, s.registry, `SELECT extract(epoch FROM expires_at - created_at) / 86400 FROM refresh_tokens`, nil, &days)
	if math.Round(days*1e6)/1e6 != 30 || len(token) != 43 {
		t.Errorf("a token of %d characters, good for %v days; want 43 (256 bits), 30", len(token), days)
	}
	if _, err := s.registry.Exec(t.Context(), `UPDATE refresh_tokens SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	s.wantEnded(token)
}

func TestMalformedRefreshTokens(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, token := range []any{"x", "eyJhbGciOiJub25lIn0.e30.", "' OR 1=1"} {
		s.wantEnded(token)
	}
	for _, token := range []any{"", nil, "a\x00b"} {
		wantProblem(t, s.refresh(token), http.StatusUnprocessableEntity, "invalid-fields")
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	session, other := s.register(body), s.logIn(body)
	next := s.wantRefresh(session["refreshToken"])
	for range 2 { // it is idempotent
		if got := s.post("/api/auth/logout", map[string]any{"refreshToken": next["refreshToken"]}); got.status != http.StatusNoContent || len(got.body) > 0 {
			t.Fatalf("logout: status %d, want 204 and no body\n%s", got.status, got.body)
		}
	}
	s.wantEnded(next["refreshToken"])
	s.wantEnded(session["refreshToken"]) // of the same session, in its grace
	other = s.wantRefresh(other["refreshToken"])

	if got := s.postAs(other["accessToken"].(string), "/api/auth/logout-all", nil); got.status != http.StatusNoContent {
		t.Fatalf("logout-all: status %d, want 204\n%s", got.status, got.body)
	}
	s.wantEnded(other["refreshToken"])
	wantProblem(t, s.post("/api/auth/logout-all", nil), http.StatusUnauthorized, "invalid-token")
	s.logIn(body)
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	other, mine := s.register(body), s.logIn(body)
	change := func(current, next string) answer {
		return s.postAs(mine["accessToken"].(string), "/api/auth/password", map[string]any{"currentPassword": current, "newPassword": next})
	}
	wantProblem(t, change("wrong horse battery", "another password"), http.StatusForbidden, "wrong-password")
	wantProblem(t, change("correct horse battery", "short"), http.StatusUnprocessableEntity, "invalid-fields")
	s.logIn(body)
	if got := change("correct horse battery", "another password"); got.status != http.StatusNoContent {
		t.Fatalf("change: status %d, want 204\n%s", got.status, got.body)
	}
	s.wantEnded(other["refreshToken"])
	s.wantRefresh(mine["refreshToken"])
	wantProblem(t, s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}), http.StatusUnauthorized, "invalid-credentials")
	body["password"] = "another password"
	s.logIn(body)
}

func TestPublishedKeysVerifyTokens(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	session := s.register(applicant())
	got := s.get("/.well-known/jwks.json", "")
	keys := got.json(t)["keys"].([]any)
	if len(keys) != 1 {
		t.Fatalf("%d keys are published, want 1\n%s", len(keys), got.body)
	}
	key := keys[0].(map[string]any)
	parsed, _, err := jwt.NewParser().ParseUnverified(session["accessToken"].(string), jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	if key["kid"] != parsed.Header["kid"] || key["kty"] != "OKP" || key["crv"] != "Ed25519" || key["alg"] != "EdDSA" || key["d"] != nil || parsed.Header["typ"] != "at+jwt" {
		t.Errorf("published key %v for a token with header %v", key, parsed.Header)
	}
	issued, _ := parsed.Claims.GetIssuedAt()
	expires, _ := parsed.Claims.GetExpirationTime()
	if issued == nil || expires == nil || expires.Sub(issued.Time).Minutes() != 15 {
		t.Errorf("the access token lasts from %v to %v, want 15 minutes", issued, expires)
	}
}

// TestSuspensionReachesEveryProcess suspends a tenant that two API processes have just served.
func TestSuspensionReachesEveryProcess(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body := applicant()
	session := s.register(body)
	processes := []*stack{s, s.another()}
	token := session["accessToken"].(string)
	for _, process := range processes {
		if got := process.get("/api/auth/me", token); got.status != http.StatusOK {
			t.Fatalf("me: status %d, want 200\n%s", got.status, got.body)
		}
	}
	if _, err := s.registry.Exec(t.Context(), `UPDATE tenants SET status = 'suspended'`); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // as long as it may take
	for _, process := range processes {
		wantProblem(t, process.get("/api/auth/me", token), http.StatusForbidden, "tenant-inactive")
		process.wantEnded(session["refreshToken"])
		wantProblem(t, process.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}),
			http.StatusUnauthorized, "invalid-credentials")
	}
	var detail string
	row(t, s.registry, `SELECT detail FROM audit_log WHERE event = 'tenant_status_changed' AND tenant_id = $1`, []any{session["tenantId"]}, &detail)
	if detail != "active to suspended" {
		t.Errorf("the audit log says %q, want \"active to suspended\"", detail)
	}
}
