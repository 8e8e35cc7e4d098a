package httpapi_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"

	"narthex/httpapi"
	"narthex/internal/dev/teststack"
)

func withProxies(networks ...string) teststack.Option {
	return func(o *httpapi.Options) {
		for _, network := range networks {
			o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(network))
		}
	}
}

func wantTooMany(t *testing.T, got teststack.Answer, most int) {
	t.Helper()
	teststack.WantProblem(t, got, http.StatusTooManyRequests, "too-many-requests")
	if seconds, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > most {
		t.Errorf("Retry-After %q, want 1 to %d seconds", got.Header.Get("Retry-After"), most)
	}
}

func TestLoginIsThrottledByAccount(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithThrottle)
	processes := []*teststack.Stack{s, s.Another(teststack.WithThrottle)} // these count together
	for _, email := range []string{s.Register(teststack.Applicant())["admin"].(map[string]any)["email"].(string), "nobody@example.org"} {
		attempt := map[string]any{"email": email, "password": "a guess of mine"}
		got := teststack.AtOnce(12, func(i int) teststack.Answer { return processes[i%2].Post("/api/auth/login", attempt) })
		if got[http.StatusUnauthorized] < 10 || got[http.StatusTooManyRequests] == 0 { // on a slow machine, one more is allowed
			t.Errorf("12 guesses: statuses %v, want 10 × 401, then 429", got)
		}
		wantTooMany(t, s.Post("/api/auth/login", attempt), 30)
	}
}

// TestThrottleByAddress refreshes, because that costs no password hash.
func TestThrottleByAddress(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithThrottle)
	proxied := s.Another(teststack.WithThrottle, withProxies("127.0.0.0/8"))
	guess := func(at *teststack.Stack, i int, from string) teststack.Answer {
		body := teststack.JSONBody(t, map[string]any{"refreshToken": fmt.Sprintf("guess %d", i)})
		request := at.Request(http.MethodPost, "/api/auth/refresh", "", body)
		request.Header.Set("X-Forwarded-For", from)
		return at.Do(request)
	}
	wantThrottled := func(who string, got map[int]int) {
		t.Helper()
		refused, throttled := got[http.StatusUnauthorized], got[http.StatusTooManyRequests]
		if refused < 60 || throttled == 0 || refused+throttled != 200 {
			t.Errorf("200 guesses from %s: statuses %v, want at least 60 × 401, then 429", who, got)
		}
	}
	// A client that makes up an address is counted under its real one.
	wantThrottled("one address", teststack.AtOnce(200, func(i int) teststack.Answer { return guess(s, i, fmt.Sprintf("192.0.2.%d", i)) }))
	// A trusted proxy is believed. A network of IPv6 addresses belongs to one client.
	wantThrottled("one IPv6 network", teststack.AtOnce(200, func(i int) teststack.Answer {
		return guess(proxied, i, fmt.Sprintf("2001:db8::%d", i))
	}))
	if got := guess(proxied, 0, "192.0.2.7"); got.Status != http.StatusUnauthorized {
		t.Errorf("a guess of another client: status %d, want 401\n%s", got.Status, got.Body)
	}
}

func TestRegisterAndRefreshAreThrottled(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithThrottle)
	body := teststack.Applicant()
	session := s.Register(body)
	got := teststack.AtOnce(6, func(int) teststack.Answer { return s.Post("/api/auth/register", body) })
	if got[http.StatusConflict] < 4 || got[http.StatusTooManyRequests] == 0 { // on a slow machine, one more is allowed
		t.Errorf("6 more signups with one email: statuses %v, want 4 × 409, then 429", got)
	}
	got = teststack.AtOnce(7, func(int) teststack.Answer { return s.Post("/api/auth/register", teststack.Applicant()) })
	if got[http.StatusCreated] < 3 || got[http.StatusTooManyRequests] == 0 {
		t.Errorf("7 more signups from one address: statuses %v, want 201, then 429", got)
	}
	wantTooMany(t, s.Post("/api/auth/register", teststack.Applicant()), 60)

	got = teststack.AtOnce(35, func(int) teststack.Answer { return s.Refresh(session["refreshToken"]) })
	if got[http.StatusOK] < 30 || got[http.StatusTooManyRequests] == 0 {
		t.Errorf("35 refreshes of one admin: statuses %v, want 30 × 200, and 429", got)
	}
}
