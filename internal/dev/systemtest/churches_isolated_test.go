package systemtest

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"

	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/tokens"
)

// churchRoutes returns the routes that need a token. They come from gin, so new ones are included.
func churchRoutes(t *testing.T) (all []gin.RouteInfo) {
	t.Helper()
	handler, err := httpapi.New(httpapi.Options{Services: services.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]bool{"/api/auth/register": true, "/api/auth/login": true, "/api/auth/refresh": true, "/api/auth/logout": true,
		"/api/auth/invitations/accept": true, "/api/signups/:signupId": true}
	for _, route := range handler.(*gin.Engine).Routes() {
		if strings.HasPrefix(route.Path, "/api/") && !public[route.Path] {
			all = append(all, route)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d routes, want them all", len(all))
	}
	return all
}

// validBodies are bodies that the routes accept, so that only the id can be the reason for a refusal.
var validBodies = map[string]map[string]any{
	"PUT /api/branches/:id":        {"name": "Taken over"},
	"PUT /api/members/:id":         {"firstName": "Taken", "lastName": "Over", "phone": "+15550109999"},
	"PUT /api/onboarding/:task":    {"completed": true},
	"POST /api/auth/password":      {"currentPassword": "not the one", "newPassword": "another password"},
	"POST /api/members/import":     nil,
	"POST /api/auth/logout-all":    nil,
	"POST /api/members/lookup":     {"phone": "+15550100123"},
	"POST /api/consents":           {"type": "analytics", "status": "granted"},
	"POST /api/branches":           {"name": "Main"},
	"POST /api/members":            {"firstName": "Ada", "lastName": "Muster", "phone": "+15550100123"},
	"POST /api/admins/invitations": {"email": "x", "firstName": "Kim", "lastName": "Muster"},
}

// filled returns a church with a row of each kind, and the rows' ids.
func filled(s *teststack.Stack) (c teststack.Church, ids map[string]string) {
	s.T.Helper()
	session := s.Register(teststack.Applicant())
	c = teststack.Church{Stack: s, Token: session["accessToken"].(string)}
	made := func(path string, body map[string]any) string {
		return c.Want(http.StatusCreated, http.MethodPost, path, body).JSON(s.T)["id"].(string)
	}
	ids = map[string]string{"tenant": session["tenantId"].(string), "admin": session["adminId"].(string)}
	ids["branch"] = made("/api/branches", map[string]any{"name": "Main"})
	ids["member"] = made("/api/members", map[string]any{
		"firstName": "Ada", "lastName": "Muster", "phone": "+15550100123", "email": "ada@example.org",
	})
	ids["consent"] = made("/api/consents", map[string]any{"memberId": ids["member"], "type": "smsMarketing", "status": "granted"})
	ids["invited"] = c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", teststack.Invitee()).JSON(s.T)["adminId"].(string)
	return c, ids
}

// snapshot returns all rows of a church, in its own database and in the registry.
func snapshot(c teststack.Church, tenantID string) string {
	c.T.Helper()
	var rows, registered string
	db := testenv.OpenPool(c.T, c.Tenant(tenantID).Config().ConnString())
	rows = teststack.TablesOf(c.T, db)
	teststack.Row(c.T, c.Registry, `
		SELECT string_agg(r, ' ' ORDER BY r) FROM (
			SELECT t::text AS r FROM tenants t WHERE id = $1
			UNION ALL SELECT c::text FROM churches c WHERE id = $1
			UNION ALL SELECT a::text FROM admins a WHERE tenant_id = $1
			UNION ALL SELECT i::text FROM admin_email_index i WHERE tenant_id = $1
			UNION ALL SELECT i::text FROM invitations i WHERE tenant_id = $1
			UNION ALL SELECT s::text FROM sessions s WHERE tenant_id = $1) all_rows`,
		[]any{tenantID}, &registered)
	return rows + registered
}

// TestNoRouteReachesAnotherChurch signs up two churches that look the same, and asks every route for B's rows with A's
// token.
func TestNoRouteReachesAnotherChurch(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	a, own := filled(s)
	b, foreign := filled(s)
	before := snapshot(b, foreign["tenant"])
	asked := 0
	for _, route := range churchRoutes(t) {
		body, known := validBodies[route.Method+" "+route.Path]
		if !known && route.Method != http.MethodGet && route.Method != http.MethodDelete {
			t.Errorf("%s %s: add a valid body to validBodies", route.Method, route.Path)
			continue
		}
		if !strings.Contains(route.Path, ":id") {
			continue
		}
		if route.Method == http.MethodGet && !readsOne(a, route.Path, own) {
			t.Errorf("GET %s finds none of A's own rows: add a row of this kind to filled", route.Path)
		}
		for kind, id := range foreign {
			var content any
			if body != nil {
				content = body
			}
			asked++
			got := a.Call(route.Method, strings.Replace(route.Path, ":id", id, 1), content, "If-Match: *")
			if got.Status != http.StatusNotFound {
				t.Errorf("%s %s with B's %s: status %d, want 404\n%s", route.Method, route.Path, kind, got.Status, got.Body)
			}
		}
	}
	if asked < 7*len(foreign) {
		t.Errorf("%d requests, want at least %d", asked, 7*len(foreign))
	}
	wantNothingForeign(t, a, own, foreign)
	if snapshot(b, foreign["tenant"]) != before {
		t.Error("B's rows have changed")
	}
}

// readsOne says whether a route that takes an id finds one of these rows.
func readsOne(c teststack.Church, route string, ids map[string]string) bool {
	for _, id := range ids {
		if c.Call(http.MethodGet, strings.Replace(route, ":id", id, 1), nil).Status == http.StatusOK {
			return true
		}
	}
	return false
}

// wantNothingForeign tries ids outside of paths.
func wantNothingForeign(t *testing.T, a teststack.Church, own, foreign map[string]string) {
	t.Helper()
	consent := map[string]any{"type": "analytics", "status": "granted", "memberId": foreign["member"]}
	teststack.WantProblem(t, a.Call(http.MethodPost, "/api/consents", consent), http.StatusUnprocessableEntity, "invalid-fields")
	if all := a.Walk("/api/consents?memberId="+foreign["member"], func(int) {}); len(all) > 0 {
		t.Errorf("A lists B's consents %v", all)
	}
	beginning := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("0", 26)))
	for path, kind := range map[string]string{
		"/api/branches": "branch", "/api/members": "member", "/api/consents": "consent", "/api/admins": "admin",
	} {
		all := a.Walk(path+"?limit=1&cursor="+beginning, func(int) {})
		isForeign := func(id string) bool { return slices.Contains(slices.Collect(maps.Values(foreign)), id) }
		if !slices.Contains(all, own[kind]) || slices.ContainsFunc(all, isForeign) {
			t.Errorf("%s lists %v to A, want only its own", path, all)
		}
	}
	found := a.Want(http.StatusOK, http.MethodPost, "/api/members/lookup", map[string]any{"phone": "+15550100123"})
	if strings.Contains(string(found.Body), foreign["member"]) || !strings.Contains(string(found.Body), own["member"]) {
		t.Errorf("a lookup of the phone number that both have finds %s", found.Body)
	}
}

// TestSameIdsStayApart gives A's rows the ids of B's rows. Each church sees and changes only its own.
func TestSameIdsStayApart(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	a, own := filled(s)
	b, foreign := filled(s)
	for table, kind := range map[string]string{"branches": "branch", "members": "member"} {
		_, err := s.Tenant(own["tenant"]).Exec(t.Context(), `UPDATE `+table+` SET id = $2 WHERE id = $1`, own[kind], foreign[kind])
		if err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(b, foreign["tenant"])
	for _, path := range []string{"/api/branches/" + foreign["branch"], "/api/members/" + foreign["member"]} {
		read := a.Want(http.StatusOK, http.MethodGet, path, nil)
		method := "PUT " + strings.Join(strings.Split(path, "/")[:3], "/") + "/:id"
		a.Want(http.StatusOK, http.MethodPut, path, validBodies[method], "If-Match: "+read.Header.Get("ETag"))
		a.Want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match: *")
		b.Want(http.StatusOK, http.MethodGet, path, nil)
	}
	if snapshot(b, foreign["tenant"]) != before {
		t.Error("B's rows have changed")
	}
}

// TestForgedTokens sends every route tokens for B that Narthex has not issued.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	a, _ := filled(s)
	b, foreign := filled(s)
	subject := tokens.Subject{TenantID: foreign["tenant"], AdminID: foreign["admin"], SessionID: foreign["admin"], Role: "PRIMARY"}
	mint := func(keys tokens.Keys, issuer, audience string, now time.Time) string {
		token, err := tokens.New(keys, issuer, audience, func() time.Time { return now }).Mint(subject)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := time.Now()
	good := strings.Split(mint(s.Signer, "narthex", "narthex-api", now), ".")
	mine := strings.Split(a.Token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	forged := map[string]string{
		"signed with another key": mint(testenv.TokenKeys(t), "narthex", "narthex-api", now),
		"expired":                 mint(s.Signer, "narthex", "narthex-api", now.Add(-time.Hour)),
		"not valid yet":           mint(s.Signer, "narthex", "narthex-api", now.Add(time.Hour)),
		"for another audience":    mint(s.Signer, "narthex", "another-api", now),
		"from another issuer":     mint(s.Signer, "another", "narthex-api", now),
		"with alg none":           none + "." + good[1] + ".",
		"without a signature":     good[0] + "." + good[1] + ".",
		"with swapped claims":     mine[0] + "." + good[1] + "." + mine[2],
		"missing":                 "",
	}
	before := snapshot(b, foreign["tenant"])
	for _, route := range churchRoutes(t) {
		path := strings.NewReplacer(":id", foreign["branch"], ":task", "add_members").Replace(route.Path)
		for name, token := range forged {
			var content any
			if body := validBodies[route.Method+" "+route.Path]; body != nil {
				content = body
			}
			got := teststack.Church{Stack: s, Token: token}.Call(route.Method, path, content, "If-Match: *")
			if got.Status != http.StatusUnauthorized {
				t.Errorf("%s %s with a token (%s): status %d, want 401\n%s", route.Method, route.Path, name, got.Status, got.Body)
			}
		}
	}
	if snapshot(b, foreign["tenant"]) != before {
		t.Error("B's rows have changed")
	}
}

// TestDataOfOneChurchIsNowhereElse signs up two churches, and looks for each one's data in every table of the other's
// database.
func TestDataOfOneChurchIsNowhereElse(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	a, b := s.Register(teststack.Applicant()), s.Register(teststack.Applicant())
	rowsOf := func(session map[string]any) string {
		var all strings.Builder
		db := s.Tenant(session["tenantId"].(string))
		for _, table := range tenantTables {
			var rows string
			teststack.Row(t, db, `SELECT coalesce(string_agg(t::text, ' '), '') FROM `+table+` t`, nil, &rows)
			all.WriteString(rows)
		}
		return all.String()
	}
	for _, pair := range [][2]map[string]any{{a, b}, {b, a}} {
		own, other := rowsOf(pair[0]), rowsOf(pair[1])
		id := pair[0]["adminId"].(string)
		inOwn, inOther := strings.Contains(own, id), strings.Contains(other, id)
		if !inOwn || inOther {
			t.Errorf("admin %s: in its own church's database %t, in the other's %t; want true, false", id, inOwn, inOther)
		}
	}
	// A's role cannot connect to B's database.
	config, err := pgx.ParseConfig(s.Tenant(a["tenantId"].(string)).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "tenant_" + b["tenantId"].(string)
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(context.Background())
		t.Error("church A's role can connect to church B's database")
	}
}
