package main

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"narthex/internal/dev/testenv"
)

// with returns the environment plus the NAME='value' lines that a command has printed.
func with(environment []string, printed string) []string {
	environment = append([]string{}, environment...)
	for line := range strings.Lines(printed) {
		environment = append(environment, strings.ReplaceAll(strings.TrimSpace(line), "'", ""))
	}
	return environment
}

// wantPrinted runs narthex and expects it to succeed.
func wantPrinted(t *testing.T, environment []string, arguments ...string) string {
	t.Helper()
	status, output := narthex(t, environment, arguments...)
	if status != 0 {
		t.Fatalf("narthex %v: status %d, want 0\n%s", arguments, status, output)
	}
	return output
}

func wantOK(t *testing.T, url string, body map[string]string) map[string]any {
	t.Helper()
	status, answer := post(t, url, body)
	if status/100 != 2 {
		t.Fatalf("POST %s: status %d, want 200 or 201: %v", url, status, answer)
	}
	return answer
}

// TestKeysAreReplacedWhileTheServiceRuns follows the help of `keys rotate`. At each stage, processes of this stage and of
// the previous one serve at the same time.
func TestKeysAreReplacedWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	variables := append(environment(t, sharedTemporal(t)), "SIGNUP_WAIT=1m")
	wantPrinted(t, variables, "migrate")
	before := testenv.Start(t, variables, "narthex", "serve")
	url := ready(before)
	people := clients{t: t}
	people.signUp(url)
	var resealed string
	for _, stage := range []string{"add", "promote", "retire"} {
		if stage == "retire" {
			resealed = wantPrinted(t, variables, "keys", "reseal")
		}
		variables = with(variables, wantPrinted(t, variables, "keys", "rotate", "--stage", stage))
		after := testenv.Start(t, variables, "narthex", "serve")
		urls := []string{ready(after), url}
		if stage == "retire" {
			urls = urls[:1]
		}
		people.useAll(stage, urls...)
		before.Signal(syscall.SIGTERM)
		if status := before.Exit(); status != 0 {
			t.Errorf("%s: the earlier process ends with status %d, want 0", stage, status)
		}
		before, url = after, urls[0]
	}
	for _, want := range []string{"registry, admins: 2 rows", "tenant 3 of 3", "Everything is encrypted with the primary keys."} {
		if !strings.Contains(resealed, want) {
			t.Errorf("reseal printed\n%swant %q in it", resealed, want)
		}
	}
	if again := wantPrinted(t, variables, "keys", "reseal"); strings.Contains(again, "registry, admins") {
		t.Errorf("a second reseal found something to do:\n%s", again)
	}
}

// clients are people who have signed up, and a session of the first.
type clients struct {
	t       *testing.T
	people  []map[string]string
	session map[string]any
}

// signUp signs one more person up.
func (c *clients) signUp(url string) {
	c.t.Helper()
	person := applicant()
	c.people = append(c.people, person)
	session := wantOK(c.t, url+"/api/auth/register", person)
	if c.session == nil {
		c.session = session
	}
}

// useAll signs one more person up at the first of the processes, and expects each of them to know everybody, and the
// session that the first of them refreshes.
func (c *clients) useAll(stage string, urls ...string) {
	c.t.Helper()
	c.signUp(urls[0])
	for _, url := range urls {
		for _, person := range c.people {
			wantOK(c.t, url+"/api/auth/login", map[string]string{"email": person["email"], "password": person["password"]})
		}
		if status, answer := post(c.t, url+"/api/auth/register", c.people[0]); status != http.StatusConflict {
			c.t.Errorf("%s: signing up again: status %d, want 409: %v", stage, status, answer)
		}
	}
	c.session = wantOK(c.t, urls[0]+"/api/auth/refresh", map[string]string{"refreshToken": c.session["refreshToken"].(string)})
	for _, url := range urls {
		if status := me(c.t, url, c.session["accessToken"].(string)); status != http.StatusOK {
			c.t.Errorf("%s: me: status %d, want 200", stage, status)
		}
	}
}

func me(t *testing.T, url, token string) (status int) {
	t.Helper()
	status, _ = get(t, url+"/api/auth/me", token)
	return status
}

func TestKeysRotateRefuses(t *testing.T) {
	t.Parallel()
	variables := environment(t, "127.0.0.1:1")
	wantRefusal(t, "no keys to rotate", nil, "keys", "rotate")
	wantMisused(t, `there is no variable of keys "REGISTRY_URL"`, variables, "keys", "rotate", "REGISTRY_URL")
	wantRefusal(t, "SEAL_KEYSET is not base64", append(variables, "SEAL_KEYSET=5ecret"), "keys", "rotate")
	wantMisused(t, `there is no stage "sideways"`, variables, "keys", "rotate", "--stage", "sideways")
	wantRefusal(t, "TOKEN_KEY has no key that was added and doesn't sign yet: add one first", variables,
		"keys", "rotate", "--stage", "promote", "TOKEN_KEY")
	if got := wantPrinted(t, variables, "keys", "rotate", "TOKEN_KEY"); strings.Count(got, "\n") != 1 || strings.Count(got, ",") != 1 {
		t.Errorf("rotate TOKEN_KEY printed\n%swant one line of two keys", got)
	}
	wantRefusal(t, "the registry's schema is not the newest", variables, "keys", "reseal")
	unreachable := slices.Concat(variables, []string{"REGISTRY_URL=postgres://5ecret:5ecret@127.0.0.1:1/none"})
	wantRefusal(t, "the registry cannot be resealed", unreachable, "keys", "reseal")
}
