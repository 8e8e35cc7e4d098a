package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/release"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/internal/signup"
)

// ownTemporal is a Temporal server that a test stops and starts again, at the same address with the same data.
type ownTemporal struct {
	t       *testing.T
	folder  string
	address string
	run     *testenv.Run
}

func newTemporal(t *testing.T) *ownTemporal {
	t.Helper()
	o := newUnpreparedTemporal(t)
	prepareTemporal(t, o.address)
	return o
}

// newUnpreparedTemporal returns one whose namespace lacks search attributes.
func newUnpreparedTemporal(t *testing.T) *ownTemporal {
	t.Helper()
	o := &ownTemporal{t: t, folder: filepath.Join(t.TempDir(), "temporal"), address: "127.0.0.1:0"}
	o.start()
	return o
}

func (o *ownTemporal) start() {
	o.t.Helper()
	o.run = testenv.Start(o.t, nil, "narthex-dev", "temporal", "--data", o.folder, "--temporal", o.address, "--ui", "")
	o.run.WaitFor("}\n")
	var where struct{ Temporal string }
	if err := json.NewDecoder(strings.NewReader(o.run.Output())).Decode(&where); err != nil {
		o.t.Fatalf("Temporal says %s: %v", o.run.Output(), err)
	}
	o.address = where.Temporal
}

func (o *ownTemporal) stop() {
	o.t.Helper()
	o.run.Signal(syscall.SIGTERM)
	o.run.Exit()
}

// prepareTemporal makes the search attributes that a signup needs.
func prepareTemporal(t *testing.T, address string) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := searchattributes.Ensure(t.Context(), c, client.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
}

// serving waits until an API serves, even without Temporal, and returns its URL.
func serving(r *testenv.Run) string {
	r.WaitFor(`"msg":"serving"`)
	return "http://" + regexp.MustCompile(`"http":"([^"]*)"`).FindStringSubmatch(r.Output())[1]
}

// API and worker are one process. Without Temporal, it serves everything that doesn't need it. When Temporal is back, it
// signs churches up again, without a restart.
func TestServeOutlivesTemporal(t *testing.T) {
	t.Parallel()
	temporal := newTemporal(t)
	variables := append(environment(t, temporal.address), "SIGNUP_WAIT=2m")
	wantPrinted(t, variables, "migrate")
	person, signupID := applicant(), publicID(t, variables)
	first := testenv.Start(t, variables, "narthex", "serve")
	wantSignup(t, ready(first), person)
	first.Signal(syscall.SIGTERM)
	first.Exit()

	temporal.stop()
	serve, began := testenv.Start(t, variables, "narthex", "serve"), time.Now()
	url := serving(serve)
	refused := applicant()
	wantServedWithoutTemporal(t, url, signupID, person, refused)

	temporal.start()
	serve.WaitFor(`"msg":"ready"`)
	const warning = "Temporal is not reachable yet; trying again"
	if lines, most := strings.Count(serve.Output(), warning), 2+int(time.Since(began).Minutes()); lines < 1 || lines > most {
		t.Errorf("%q is logged %d times, want 1 to %d: about once a minute", warning, lines, most)
	}
	wantReadiness(t, url, "ready")
	wantSignup(t, url, refused) // nothing was started

	temporal.stop()
	refused = applicant()
	wantServedWithoutTemporal(t, url, signupID, person, refused)
	temporal.start()
	wantSignup(t, url, refused)

	temporal.stop()
	serve.Signal(syscall.SIGTERM)
	if status := serve.Exit(); status != 0 {
		t.Errorf("after SIGTERM without Temporal the exit status is %d, want 0", status)
	}
	wantOnlyActiveTenants(t, variables)
}

// wantSignup signs a church up. The client needs a moment to reconnect to a Temporal that was down.
func wantSignup(t *testing.T, url string, person map[string]string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		status, answer := post(t, url+"/api/auth/register", person)
		if status == http.StatusCreated {
			return
		}
		if status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			t.Fatalf("register: %d, %v; want 201", status, answer)
		}
	}
}

// wantServedWithoutTemporal logs a person in and reads from their church's database. What needs Temporal, like another
// signup, is refused.
func wantServedWithoutTemporal(t *testing.T, url, signupID string, person, other map[string]string) {
	t.Helper()
	session := wantOK(t, url+"/api/auth/login", map[string]string{"email": person["email"], "password": person["password"]})
	token, _ := session["accessToken"].(string)
	for _, path := range []string{"/healthz", "/api/auth/me", "/api/branches"} {
		if status, answer := get(t, url+path, token); status != http.StatusOK {
			t.Errorf("GET %s without Temporal: %d, %s; want 200", path, status, answer)
		}
	}
	wantReadiness(t, url, "unreachable")
	wantUnavailable(t, http.MethodPost, url+"/api/auth/register", "", other)
	invitee := map[string]string{"email": "kim." + other["email"], "firstName": "Kim", "lastName": "Other"}
	wantUnavailable(t, http.MethodPost, url+"/api/admins/invitations", token, invitee)
	wantUnavailable(t, http.MethodGet, url+"/api/signups/"+signupID, "", nil)
}

// wantUnavailable expects the answer 503, with a problem document, and when to try again.
func wantUnavailable(t *testing.T, method, url, token string, body map[string]string) {
	t.Helper()
	response, answer := ask(t, method, url, token, body)
	wait, media := response.Header.Get("Retry-After"), response.Header.Get("Content-Type")
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, `"/problems/unavailable"`) || wait != "5" ||
		media != "application/problem+json" {
		t.Errorf("%s %s without Temporal: %s, %s, Retry-After %q, Content-Type %q; want 503, /problems/unavailable, 5 and a problem document",
			method, url, response.Status, answer, wait, media)
	}
}

// wantReadiness expects an API to be ready, and checks what it says about Temporal.
func wantReadiness(t *testing.T, url, temporal string) {
	t.Helper()
	want := `{"fleet":"current","status":"ready","temporal":"` + temporal + `"}`
	status, answer := get(t, url+"/readyz", "")
	for deadline := time.Now().Add(time.Minute); answer != want && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond) // on a slow machine, Temporal doesn't answer in time
		status, answer = get(t, url+"/readyz", "")
	}
	if status != http.StatusOK || answer != want {
		t.Errorf("GET /readyz: %d, %s; want 200, %s", status, answer, want)
	}
}

// ask sends a request, with a bearer token and a body if there are any, and returns the answer and its body.
func ask(t *testing.T, method, url, token string, body map[string]string) (*http.Response, string) {
	t.Helper()
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	request, err := http.NewRequest(method, url, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, strings.TrimSpace(string(answer))
}

func get(t *testing.T, url, token string) (status int, answer string) {
	t.Helper()
	response, answer := ask(t, http.MethodGet, url, token, nil)
	return response.StatusCode, answer
}

// publicID returns a public id as the API issues it.
func publicID(t *testing.T, variables []string) string {
	t.Helper()
	value := func(name string) string { return strings.TrimPrefix(variable(variables, name), name+"=") }
	keys, err := secrets.Parse(value("SEAL_KEYSET"), value("INDEX_KEYSET"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := signup.PublicID(keys, runs.Run{WorkflowID: "signup-1", RunID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A process that waits for Temporal says so in one line, and can be stopped.
func TestStopWhileTemporalIsAwaited(t *testing.T) {
	t.Parallel()
	variables := environment(t, "127.0.0.1:1")
	wantPrinted(t, variables, "migrate")
	for _, command := range []string{"serve", "worker"} {
		waiting := testenv.Start(t, variables, "narthex", command)
		waiting.WaitFor("Temporal is not reachable yet; trying again")
		told := time.Now()
		waiting.Signal(syscall.SIGTERM)
		status, took := waiting.Exit(), time.Since(told)
		if status != 0 || took > 10*time.Second {
			t.Errorf("narthex %s: after SIGTERM it ends after %s with status %d; want within 10s, with 0", command, took, status)
		}
		if strings.Contains(waiting.Output(), `"msg":"ready"`) {
			t.Errorf("narthex %s says that it is ready, without Temporal", command)
		}
	}
}

// An error that a retry can't fix ends the process, even one that serves requests.
func TestWorkerOfNoNamespaceEndsItsProcess(t *testing.T) {
	t.Parallel()
	variables := append(environment(t, sharedTemporal(t)), "TEMPORAL_NAMESPACE=nowhere")
	wantPrinted(t, variables, "migrate")
	for _, command := range []string{"serve", "worker"} {
		status, output := narthex(t, variables, command)
		const want = "narthex: the worker cannot start: Temporal has no such namespace: see TEMPORAL_NAMESPACE\n"
		if status != 1 || !strings.HasSuffix(output, want) {
			t.Errorf("narthex %s: status %d, it prints\n%swant status 1 and at the end\n%s", command, status, output, want)
		}
	}
}

// While search attributes are missing, nobody can sign up. The log and the commands that list runs say why.
func TestMissingSearchAttributesAreReported(t *testing.T) {
	t.Parallel()
	temporal := newUnpreparedTemporal(t)
	variables := environment(t, temporal.address)
	wantPrinted(t, variables, "migrate")
	const missing = "search attributes are missing: see TEMPORAL_NAMESPACE and docs/production.md, 2. Temporal"
	for _, group := range []string{"signups", "invitations"} {
		wantRefusal(t, missing, variables, group, "list")
		wantRefusal(t, missing, variables, group, "list", "--failed", "--json")
	}
	serve := testenv.Start(t, variables, "narthex", "serve")
	const warning = "Signups and invitations cannot start"
	serve.WaitFor(warning)
	wantUnavailable(t, http.MethodPost, serving(serve)+"/api/auth/register", "", applicant())
	prepareTemporal(t, temporal.address)
	serve.WaitFor("Signups and invitations can start")
	if output := serve.Output(); strings.Count(output, warning) != 1 || !strings.Contains(output, missing) {
		t.Errorf("serve logs\n%s\nwant one line with %q and %q", output, warning, missing)
	}
	wantIn(t, wantPrinted(t, variables, "signups", "list"), "STARTED TENANT")
}

// A newer release that can't serve must not get the work.
func TestAReleaseThatCannotServeTakesNothingOver(t *testing.T) {
	t.Parallel()
	o := newReleases(t)
	older := o.worker("1", isCurrent)
	taken := strings.TrimPrefix(o.url, "http://")
	wantRefusal(t, "the HTTP address "+taken+" is taken", append(o.of("2"), "HTTP_ADDRESS="+taken), "serve")
	temporal := dialShared(t)
	queue := strings.TrimPrefix(variable(o.variables, "TASK_QUEUE"), "TASK_QUEUE=")
	if current, err := release.NewDeployment(temporal, queue, "1").IsCurrent(t.Context()); err != nil || !current {
		t.Errorf("release 1 is current: %t (%v), want true", current, err)
	}
	o.wantSignupBy(older)
}
