package httpapi_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"narthex/httpapi"
)

func withThrottle(o *httpapi.Options) { o.SpareLoopback = false }

func withProxies(networks ...string) stackOption {
	return func(o *httpapi.Options) {
		for _, network := range networks {
			o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(network))
		}
	}
}

// count posts a body n times at once, in turn to the processes, and counts the statuses.
func count(n int, ask func(i int) answer) map[int]int {
	statuses := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			got := ask(i)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	wg.Wait()
	return statuses
}

func wantTooMany(t *testing.T, got answer, most int) {
	t.Helper()
	wantProblem(t, got, http.StatusTooManyRequests, "too-many-requests")
	if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > most {
		t.Errorf("Retry-After %q, want 1 to %d seconds", got.header.Get("Retry-After"), most)
	}
}

func TestLoginIsThrottledByAccount(t *testing.T) {
	t.Parallel()
	s := newStack(t, withThrottle)
	processes := []*stack{s, s.another(withThrottle)} // they count together
	for _, email := range []string{s.register(applicant())["admin"].(map[string]any)["email"].(string), "nobody@example.org"} {
		attempt := map[string]any{"email": email, "password": "a guess of mine"}
		got := count(12, func(i int) answer { return processes[i%2].post("/api/auth/login", attempt) })
		if got[http.StatusUnauthorized] < 10 || got[http.StatusTooManyRequests] == 0 { // on a slow machine one more fits
			t.Errorf("12 guesses: statuses %v, want 10 × 401, then 429", got)
		}
		wantTooMany(t, s.post("/api/auth/login", attempt), 30)
	}
}

// TestThrottleByAddress refreshes, because that costs no password hash.
func TestThrottleByAddress(t *testing.T) {
	t.Parallel()
	s := newStack(t, withThrottle)
	proxied := s.another(withThrottle, withProxies("127.0.0.0/8"))
	guess := func(at *stack, i int, from string) answer {
		request := at.request(http.MethodPost, "/api/auth/refresh", "", jsonBody(t, map[string]any{"refreshToken": fmt.Sprintf("guess %d", i)}))
		request.Header.Set("X-Forwarded-For", from)
		return at.do(request)
	}
	wantThrottled := func(who string, got map[int]int) {
		t.Helper()
		if got[http.StatusUnauthorized] < 60 || got[http.StatusTooManyRequests] == 0 || got[http.StatusUnauthorized]+got[http.StatusTooManyRequests] != 200 {
			t.Errorf("200 guesses from %s: statuses %v, want at least 60 × 401, then 429", who, got)
		}
	}
	// A client that makes its address up is counted by the one that it has.
	wantThrottled("one address", count(200, func(i int) answer { return guess(s, i, fmt.Sprintf("192.0.2.%d", i)) }))
	// A trusted proxy's word is taken; a network of IPv6 addresses is one client's.
	wantThrottled("one IPv6 network", count(200, func(i int) answer { return guess(proxied, i, fmt.Sprintf("2001:db8::%d", i)) }))
	if got := guess(proxied, 0, "192.0.2.7"); got.status != http.StatusUnauthorized {
		t.Errorf("a guess of another client: status %d, want 401\n%s", got.status, got.body)
	}
}

func TestRegisterAndRefreshAreThrottled(t *testing.T) {
	t.Parallel()
	s := newStack(t, withThrottle)
	body := applicant()
	session := s.register(body)
	got := count(6, func(int) answer { return s.post("/api/auth/register", body) })
	if got[http.StatusConflict] < 4 || got[http.StatusTooManyRequests] == 0 { // on a slow machine one more fits
		t.Errorf("6 more signups with one email: statuses %v, want 4 × 409, then 429", got)
	}
	got = count(7, func(int) answer { return s.post("/api/auth/register", applicant()) })
	if got[http.StatusCreated] < 3 || got[http.StatusTooManyRequests] == 0 {
		t.Errorf("7 more signups from one address: statuses %v, want 201, then 429", got)
	}
	wantTooMany(t, s.post("/api/auth/register", applicant()), 60)

	got = count(35, func(int) answer { return s.refresh(session["refreshToken"]) })
	if got[http.StatusOK] < 30 || got[http.StatusTooManyRequests] == 0 {
		t.Errorf("35 refreshes of one admin: statuses %v, want 30 × 200, and 429", got)
	}
}
