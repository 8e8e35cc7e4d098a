package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/config"
	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.MainOfPrograms(m) }

// narthex runs the program to its end and returns its exit status and what it printed.
func narthex(t *testing.T, environment []string, arguments ...string) (status int, output string) {
	t.Helper()
	r := testenv.Start(t, environment, "narthex", arguments...)
	return r.Exit(), r.Output()
}

// wantRefusal expects narthex to print one sentence, nothing else, and to exit with 1.
func wantRefusal(t *testing.T, want string, environment []string, arguments ...string) {
	t.Helper()
	wantRefused(t, 1, want, environment, arguments...)
}

// wantMisused expects the same with the status for wrong usage.
func wantMisused(t *testing.T, want string, environment []string, arguments ...string) {
	t.Helper()
	wantRefused(t, 2, want, environment, arguments...)
}

func wantRefused(t *testing.T, wantStatus int, want string, environment []string, arguments ...string) {
	t.Helper()
	status, output := narthex(t, environment, arguments...)
	if status != wantStatus || strings.Count(output, "\n") != 1 || !strings.HasPrefix(output, "narthex: ") || !strings.Contains(output, want) {
		t.Errorf("narthex %v: status %d, it prints\n  %s\nwant status %d and one line with\n  %s", arguments, status, output, wantStatus, want)
	}
	if strings.Contains(output, "5ecret") {
		t.Errorf("a secret is in the output: %s", output)
	}
}

// environment configures narthex for the test's own registry and the given Temporal.
func environment(t *testing.T, temporal string) []string {
	t.Helper()
	keys, err := config.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	variables := []string{
		"REGISTRY_URL=" + testenv.NewDatabase(t), "TENANT_SERVER_URL=" + testenv.PostgresURL(t),
		"TEMPORAL_ADDRESS=" + temporal, "TASK_QUEUE=signups-" + strings.ToLower(rand.Text()), "HTTP_ADDRESS=127.0.0.1:0",
		"DATABASE_POOL_SIZE=0", // it would only burden the tests' server
	}
	for name, value := range keys {
		variables = append(variables, name+"="+value)
	}
	return variables
}

// ready waits until an API is ready and returns its URL.
func ready(r *testenv.Run) string {
	r.WaitFor(`"msg":"ready"`)
	return "http://" + regexp.MustCompile(`"http":"([^"]*)"`).FindStringSubmatch(r.Output())[1]
}

func post(t *testing.T, url string, body map[string]string) (status int, answer map[string]any) {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(url, "application/json", bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func applicant() map[string]string {
	return map[string]string{"churchName": "Grace Chapel", "email": strings.ToLower(rand.Text()) + "@example.org",
		"password": "correct horse", "firstName": "Pat", "lastName": "Muster"}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	status, output := narthex(t, nil, "version")
	if status != 0 || !strings.HasPrefix(output, "narthex ") || !strings.Contains(output, "go1.") {
		t.Errorf("status %d, %s", status, output)
	}
}

func TestKeysNewFillsAnEnvironmentFile(t *testing.T) {
	t.Parallel()
	status, output := narthex(t, nil, "keys", "new")
	var names []string
	for line := range strings.Lines(output) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if names = append(names, name); len(value) < 20 {
			t.Errorf("%s=%s is not a key", name, value)
		}
	}
	if want := []string{"CODEC_TOKEN", "INDEX_KEYSET", "SEAL_KEYSET", "TOKEN_KEY"}; status != 0 || !slices.Equal(names, want) {
		t.Errorf("status %d, variables %v; want 0 and %v", status, names, want)
	}
	if _, again := narthex(t, nil, "keys", "new"); again == output {
		t.Error("the same keys were made twice")
	}
}

func TestMissingAndMalformedSettingsAreNamed(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "missing.env")
	wantRefusal(t, "REGISTRY_URL is not set", nil, "migrate")
	const missing = "REGISTRY_URL is not set; SEAL_KEYSET is not set; INDEX_KEYSET is not set; TOKEN_KEY is not set"
	wantRefusal(t, missing+"; TENANT_SERVER_URL is not set", nil, "serve")
	wantRefusal(t, missing, nil, "api")
	wantRefusal(t, "REGISTRY_URL is not set; SEAL_KEYSET is not set; INDEX_KEYSET is not set; TENANT_SERVER_URL is not set", nil, "worker")
	wantRefusal(t, "the environment file "+nowhere+" cannot be read", nil, "serve", "--env-file", nowhere)
	wantRefusal(t, "the registry postgres://n:xxxxx@127.0.0.1:1/r: ", []string{unreachableRegistry}, "migrate")
	wantMisused(t, `unknown command "launch"`, nil, "launch")

	complete := environment(t, "127.0.0.1:1")
	wantRefusal(t,
		`SEAL_KEYSET is not base64; HTTP_ADDRESS is not an address like 127.0.0.1:8080: "8080"; TOKEN_KEY is not base64 of 32 bytes`,
		append(complete, "SEAL_KEYSET=5ecret", "TOKEN_KEY=5ecret", "HTTP_ADDRESS=8080"), "serve")
	wantRefusal(t, "TEMPORAL_ADDRESS is not set", append(complete, "TEMPORAL_ADDRESS="), "worker")
	wantRefusal(t, "TEMPORAL_ADDRESS is not set", append(complete, "TEMPORAL_ADDRESS="), "signups", "list")
	wantRefusal(t, "Temporal at 127.0.0.1:1 does not answer", complete, "signups", "list")
	wantRefusal(t, "TEMPORAL_", append(complete, "TEMPORAL_TLS_CLIENT_CERT_PATH=/nowhere"), "worker")
}

func TestSchemaKeysAndAddressAreCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	variables := environment(t, "127.0.0.1:1")
	nowhere := strings.Replace(testenv.PostgresURL(t), "/postgres?", "/nx_registry?", 1)
	wantRefusal(t, "the database nx_registry does not exist", append(variables, "REGISTRY_URL="+nowhere), "migrate")
	wantRefusal(t, "the registry's schema is not the newest: run `narthex migrate`", variables, "api")
	if status, output := narthex(t, variables, "migrate"); status != 0 {
		t.Fatalf("migrate: status %d, %s", status, output)
	}
	wantRefusal(t, "the HTTP address "+taken+" is taken", append(variables, "HTTP_ADDRESS="+taken), "api")
	wantRefusal(t, "the operations address "+taken+" is taken", append(variables, "OPERATIONS_ADDRESS="+taken), "worker")
	wantRefusal(t, "the codec address "+taken+" is taken",
		append(variables, "HTTP_ADDRESS=127.0.0.1:0", "CODEC_ADDRESS="+taken, "CODEC_TOKEN="+strings.Repeat("t", 32)), "api")

	other := environment(t, "127.0.0.1:1") // with other keys
	for _, name := range []string{"SEAL_KEYSET", "INDEX_KEYSET"} {
		wantRefusal(t, name+" is not the keyset that the registry was written with", append(variables, variable(other, name)), "api")
	}
}

// variable returns the NAME=value of a name.
func variable(environment []string, name string) string {
	return environment[slices.IndexFunc(environment, func(v string) bool { return strings.HasPrefix(v, name+"=") })]
}

// unreachableRegistry is the variable of a registry that isn't there.
const unreachableRegistry = "REGISTRY_URL=postgres://n:5ecret@127.0.0.1:1/r"

// connectToRegistry connects to the registry in these variables.
func connectToRegistry(t *testing.T, variables []string) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, strings.TrimPrefix(variable(variables, "REGISTRY_URL"), "REGISTRY_URL="))
}

// The test's server has PostgreSQL's defaults, and Narthex is its superuser. Migrate points out both.
func TestMigrateSaysWhatASuperuserMustStillDo(t *testing.T) {
	t.Parallel()
	status, output := narthex(t, environment(t, "127.0.0.1:1"), "migrate")
	for _, want := range []string{
		"a superuser still has to run:", "CREATE ROLE narthex LOGIN CREATEDB CREATEROLE PASSWORD",
		"REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;", "GRANT CONNECT ON DATABASE postgres TO narthex;",
	} {
		if status != 0 || !strings.Contains(output, want) {
			t.Errorf("status %d, it prints\n%swant status 0 and %q in it", status, output, want)
		}
	}
}

func TestMigrateCanBeRunAgain(t *testing.T) {
	t.Parallel()
	variables := environment(t, "127.0.0.1:1")
	for range 2 {
		status, output := narthex(t, variables, "migrate")
		if status != 0 || !strings.HasPrefix(output, "The registry has the newest schema.\n") {
			t.Errorf("status %d, %s", status, output)
		}
	}
}

// API and worker are two processes here, as in production. The worker is stopped while signups are running, and one of a
// newer release takes over. Every signup completes.
func TestWorkersCanBeReplaced(t *testing.T) {
	t.Parallel()
	variables := environment(t, sharedTemporal(t))
	if status, output := narthex(t, variables, "migrate"); status != 0 {
		t.Fatal(output)
	}
	api := testenv.Start(t, append(variables, "SIGNUP_WAIT=1m"), "narthex", "api") // this doesn't test the speed
	url := ready(api)
	worker := testenv.Start(t, append(variables, "BUILD_ID=1"), "narthex", "worker")
	worker.WaitFor(`"msg":"ready"`)

	const signups = 6
	answers := make(chan string, signups)
	for range signups {
		go func() {
			status, answer := post(t, url+"/api/auth/register", applicant())
			answers <- fmt.Sprint(status, " ", answer["type"])
		}()
	}
	time.Sleep(200 * time.Millisecond) // in the middle of them
	worker.Signal(syscall.SIGTERM)
	successor := testenv.Start(t, append(variables, "BUILD_ID=2"), "narthex", "worker")
	if status := worker.Exit(); status != 0 {
		t.Errorf("after SIGTERM the worker's exit status is %d, want 0", status)
	}
	for range signups {
		if answer := <-answers; answer != "201 <nil>" {
			t.Errorf("a signup was answered with %s, want 201", answer)
		}
	}
	for _, r := range []*testenv.Run{api, successor} {
		r.Signal(syscall.SIGTERM)
		if status := r.Exit(); status != 0 {
			t.Errorf("after SIGTERM the exit status is %d, want 0", status)
		}
	}
	wantOnlyActiveTenants(t, variables)
}

// A process that is stopped still answers the current request.
func TestStopWaitsForRequests(t *testing.T) {
	t.Parallel()
	variables := environment(t, sharedTemporal(t))
	if status, output := narthex(t, variables, "migrate"); status != 0 {
		t.Fatal(output)
	}
	serve := testenv.Start(t, variables, "narthex", "serve")
	url := ready(serve)
	answer := make(chan int, 1)
	go func() {
		status, _ := post(t, url+"/api/auth/register", applicant())
		answer <- status
	}()
	time.Sleep(150 * time.Millisecond) // it is being worked on
	serve.Signal(syscall.SIGTERM)
	if status := <-answer; status != http.StatusCreated {
		t.Errorf("the current request was answered with %d, want 201", status)
	}
	if status := serve.Exit(); status != 0 {
		t.Errorf("after SIGTERM the exit status is %d, want 0", status)
	}
	wantOnlyActiveTenants(t, variables)
}

func sharedTemporal(t *testing.T) string {
	t.Helper()
	address := testenv.TemporalAddress(t)
	prepareTemporal(t, address)
	return address
}

// wantOnlyActiveTenants checks that every tenant in the registry is open for requests.
func wantOnlyActiveTenants(t *testing.T, variables []string) {
	t.Helper()
	conn := connectToRegistry(t, variables)
	var halves int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM tenants WHERE status <> 'active'`).Scan(&halves); err != nil || halves != 0 {
		t.Errorf("%d tenants are not active (%v), want 0", halves, err)
	}
}
