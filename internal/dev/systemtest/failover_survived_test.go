package systemtest

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"narthex/internal/dev/teststack"
)

// databasesOf returns the names of the databases that a church's requests use: the registry's and its own.
func databasesOf(c teststack.Church) []string {
	c.T.Helper()
	u, err := url.Parse(c.RegistryURL)
	if err != nil {
		c.T.Fatal(err)
	}
	return []string{u.Path[1:], "tenant_" + c.TenantID()}
}

// endSessions ends all sessions in a church's databases, and returns how many there were.
func endSessions(c teststack.Church) (ended int) {
	c.T.Helper()
	const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = ANY($1) AND pid <> pg_backend_pid()`
	teststack.Row(c.T, c.Server, end, []any{databasesOf(c)}, &ended)
	return ended
}

func member(n int) map[string]any {
	return map[string]any{"firstName": "Kim", "lastName": fmt.Sprint("Muster ", n), "phone": fmt.Sprintf("+1202555%04d", n)}
}

// knock sends requests of each kind at the same time, and returns those that were answered with a 5xx.
func knock(c teststack.Church, body map[string]any, tokens []any) (failed []string) {
	var mu sync.Mutex
	var group sync.WaitGroup
	add := func(what string, got teststack.Answer) {
		mu.Lock()
		defer mu.Unlock()
		if got.Status >= http.StatusInternalServerError {
			failed = append(failed, fmt.Sprintf("%s: %d", what, got.Status))
		}
	}
	for i, token := range tokens {
		group.Go(func() { add("me", c.Call(http.MethodGet, "/api/auth/me", nil)) })
		group.Go(func() { add("refresh", c.Refresh(token)) })
		group.Go(func() { add("insert", c.Call(http.MethodPost, "/api/members", member(i))) })
		group.Go(func() { add("list", c.Call(http.MethodGet, "/api/members", nil)) })
		group.Go(func() {
			add("login", c.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}))
		})
	}
	group.Wait()
	return failed
}

// signedUp returns a church and refresh tokens of some sessions.
func signedUp(s *teststack.Stack) (c teststack.Church, body map[string]any, tokens []any) {
	body = teststack.Applicant()
	c = teststack.Church{Stack: s, Token: s.Register(body)["accessToken"].(string)}
	for range 3 {
		tokens = append(tokens, s.LogIn(body)["refreshToken"])
	}
	return c, body, tokens
}

// A session that was opened while its server was read-only stays read-only for as long as it lives.
func TestSessionsOpenedWhileReadOnlyAreReplaced(t *testing.T) {
	t.Parallel()
	c, body, tokens := signedUp(teststack.New(t))
	for _, database := range databasesOf(c) {
		c.Exec("ALTER DATABASE " + database + " SET default_transaction_read_only = on")
	}
	endSessions(c)
	failed := knock(c, body, tokens)
	if len(failed) == 0 {
		t.Fatal("nothing failed while the servers were read-only")
	}
	// A refused write closes sessions; reads open them again.
	for _, database := range databasesOf(c) {
		teststack.Eventually(t, "a session to "+database+" is open while it is read-only", func() bool {
			c.Get("/readyz", "")
			c.Call(http.MethodGet, "/api/members", nil)
			var open int
			teststack.Row(t, c.Server, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, []any{database}, &open)
			return open > 0
		})
	}
	for _, database := range databasesOf(c) {
		c.Exec("ALTER DATABASE " + database + " RESET default_transaction_read_only")
	}
	if failed := knock(c, body, tokens); len(failed) > 0 {
		t.Errorf("after the servers accept writes again, these fail: %q", failed)
	}
}

func TestEndedSessionsAreReplaced(t *testing.T) {
	t.Parallel()
	c, body, tokens := signedUp(teststack.New(t))
	for range 3 {
		if failed := knock(c, body, tokens); len(failed) > 0 {
			t.Fatalf("before the sessions are ended, these fail: %q", failed)
		}
		if ended := endSessions(c); ended < 2 {
			t.Fatalf("%d sessions were ended, want some in each database", ended)
		}
		if failed := knock(c, body, tokens); len(failed) > 0 {
			t.Errorf("after all sessions were ended, these fail: %q", failed)
		}
		tokens = []any{c.LogIn(body)["refreshToken"]}
	}
}

// A statement that a connection prepared before a column's type changes fails once.
func TestChangedColumnsFailNoRequest(t *testing.T) {
	t.Parallel()
	c, body, tokens := signedUp(teststack.New(t))
	for _, kind := range []string{"varchar(100)", "text"} {
		if failed := knock(c, body, tokens); len(failed) > 0 {
			t.Fatalf("before the columns change, these fail: %q", failed)
		}
		for _, column := range []struct{ table, name string }{{"sessions", "role"}, {"admins", "role"}} {
			if _, err := c.Registry.Exec(t.Context(), fmt.Sprintf("ALTER TABLE %s ALTER %s TYPE %s", column.table, column.name, kind)); err != nil {
				t.Fatal(err)
			}
		}
		tenant := c.Tenant(c.TenantID())
		for _, table := range []string{"admins", "members"} {
			if _, err := tenant.Exec(t.Context(), fmt.Sprintf("ALTER TABLE %s ALTER first_name TYPE %s", table, kind)); err != nil {
				t.Fatal(err)
			}
		}
		if failed := knock(c, body, tokens); len(failed) > 0 {
			t.Errorf("after columns became %s, these fail: %q", kind, failed)
		}
	}
}
