package httpapi_test

import (
	"fmt"
	"math"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
)

func TestTwoCopiesOfASessionEndIt(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	first := s.Register(teststack.Applicant())["refreshToken"]
	own, copied := s.WantRefresh(first)["refreshToken"], s.WantRefresh(first)["refreshToken"]
	own = s.WantRefresh(own)["refreshToken"]
	s.WantEnded(copied)
	s.WantEnded(own) // somebody has a copy, so the session ends for both

	second := s.Register(teststack.Applicant())["refreshToken"]
	next := s.WantRefresh(s.WantRefresh(second)["refreshToken"])["refreshToken"]
	s.WantEnded(second) // within 10 seconds, but the answer was not lost
	s.WantEnded(next)
}

func TestReuseIsDetectedWhileSuspended(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	first := s.Register(teststack.Applicant())["refreshToken"]
	next := s.WantRefresh(first)["refreshToken"]
	age(s)
	for _, status := range []string{"suspended", "active"} {
		if _, err := s.Registry.Exec(t.Context(), `UPDATE tenants SET status = $1`, status); err != nil {
			t.Fatal(err)
		}
		s.WantEnded(first)
	}
	s.WantEnded(next)
}

// age makes all uses of refresh tokens a minute older.
func age(s *teststack.Stack) {
	s.T.Helper()
	if _, err := s.Registry.Exec(s.T.Context(), `UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'`); err != nil {
		s.T.Fatal(err)
	}
}

func TestRefreshTokenIsGoodForOneExchange(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	first := s.Register(teststack.Applicant())
	second := s.WantRefresh(first["refreshToken"])
	if second["refreshToken"] == first["refreshToken"] {
		t.Error("the refresh token was not rotated")
	}
	who, err := s.Tokens.Verify(second["accessToken"].(string))
	if err != nil || who.TenantID != first["tenantId"] || who.AdminID != first["adminId"] || who.Role != "PRIMARY" {
		t.Errorf("the new access token is for %+v (%v), want the same admin", who, err)
	}
	third := s.WantRefresh(first["refreshToken"]) // again at once, because the answer may have been lost
	age(s)
	s.WantEnded(first["refreshToken"])
	for name, token := range map[string]any{"second": second["refreshToken"], "third": third["refreshToken"]} {
		if got := s.Refresh(token); got.Status != http.StatusUnauthorized {
			t.Errorf("the %s token after the first was used again: status %d, want 401", name, got.Status)
		}
	}
	var reuses int
	const countReuses = `SELECT count(*) FROM audit_log WHERE event = 'token_reused' AND admin_id = $1`
	teststack.Row(t, s.Registry, countReuses, []any{first["adminId"]}, &reuses)
	if reuses != 1 {
		t.Errorf("the audit log has %d reuses, want 1", reuses)
	}
}

func TestRefreshTokensExpireAndAreStoredHashed(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	session := s.Register(teststack.Applicant())
	token := session["refreshToken"].(string)
	var rows string
	teststack.Row(t, s.Registry, `SELECT string_agg(t::text || encode(t.id, 'escape'), ' ') FROM refresh_tokens t`, nil, &rows)
	testenv.WantNothingOf(t, "the registry's refresh tokens", rows, token)
	var days float64
	teststack.Row(t, s.Registry, `SELECT extract(epoch FROM expires_at - created_at) / 86400 FROM refresh_tokens`, nil, &days)
	if math.Round(days*1e6)/1e6 != 30 || len(token) != 43 {
		t.Errorf("a token of %d characters, good for %v days; want 43 (256 bits), 30", len(token), days)
	}
	if _, err := s.Registry.Exec(t.Context(), `UPDATE refresh_tokens SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	s.WantEnded(token)
}

func TestMalformedRefreshTokens(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for _, token := range []any{"x", "eyJhbGciOiJub25lIn0.e30.", "' OR 1=1"} {
		s.WantEnded(token)
	}
	for _, token := range []any{"", nil, "a\x00b"} {
		teststack.WantProblem(t, s.Refresh(token), http.StatusUnprocessableEntity, "invalid-fields")
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	session, other := s.Register(body), s.LogIn(body)
	next := s.WantRefresh(session["refreshToken"])
	for range 2 { // it is idempotent
		got := s.Post("/api/auth/logout", map[string]any{"refreshToken": next["refreshToken"]})
		if got.Status != http.StatusNoContent || len(got.Body) > 0 {
			t.Fatalf("logout: status %d, want 204 and no body\n%s", got.Status, got.Body)
		}
	}
	s.WantEnded(next["refreshToken"])
	s.WantEnded(session["refreshToken"]) // of the same session, in its grace
	other = s.WantRefresh(other["refreshToken"])

	if got := s.PostAs(other["accessToken"].(string), "/api/auth/logout-all", nil); got.Status != http.StatusNoContent {
		t.Fatalf("logout-all: status %d, want 204\n%s", got.Status, got.Body)
	}
	s.WantEnded(other["refreshToken"])
	teststack.WantProblem(t, s.Post("/api/auth/logout-all", nil), http.StatusUnauthorized, "invalid-token")
	s.LogIn(body)
}

func TestPublishedKeysVerifyTokens(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	session := s.Register(teststack.Applicant())
	got := s.Get("/.well-known/jwks.json", "")
	keys := got.JSON(t)["keys"].([]any)
	if len(keys) != 1 {
		t.Fatalf("%d keys are published, want 1\n%s", len(keys), got.Body)
	}
	key := keys[0].(map[string]any)
	parsed, _, err := jwt.NewParser().ParseUnverified(session["accessToken"].(string), jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	published := fmt.Sprint(key["kid"], key["kty"], key["crv"], key["alg"], key["d"])
	if want := fmt.Sprint(parsed.Header["kid"], "OKP", "Ed25519", "EdDSA", nil); published != want || parsed.Header["typ"] != "at+jwt" {
		t.Errorf("published key %v for a token with header %v", key, parsed.Header)
	}
	issued, _ := parsed.Claims.GetIssuedAt()
	expires, _ := parsed.Claims.GetExpirationTime()
	if issued == nil || expires == nil || expires.Sub(issued.Time).Minutes() != 15 {
		t.Errorf("the access token lasts from %v to %v, want 15 minutes", issued, expires)
	}
}
