package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/devstack"
	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.MainOfPrograms(m) }

// dataFolder returns a folder for a stack's data.
func dataFolder(t *testing.T) string {
	t.Helper()
	return filepath.Join(testenv.Folder(t), ".narthex")
}

// freePorts lets the stack choose its ports.
var freePorts = []string{
	"--http", "127.0.0.1:0",
	"--temporal", "127.0.0.1:0",
	"--ui", "127.0.0.1:0",
	"--postgres", "127.0.0.1:0",
	"--codec", "127.0.0.1:0",
	"--operations", "127.0.0.1:0",
}

type runningStack struct {
	*testenv.Run
	devstack.Stack
	t   *testing.T
	dir string
}

func startStack(t *testing.T, dir string, environment ...string) *runningStack {
	t.Helper()
	return startStackWith(t, dir, environment)
}

func startStackWith(t *testing.T, dir string, environment []string, flags ...string) *runningStack {
	t.Helper()
	arguments := slices.Concat(freePorts, []string{"--data", dir}, flags)
	s := &runningStack{Run: testenv.Start(t, environment, "narthex-dev", arguments...), t: t, dir: dir}
	s.WaitFor("Ctrl-C stops everything.")
	content, err := os.ReadFile(filepath.Join(dir, "stack.json"))
	if err == nil {
		err = json.Unmarshal(content, &s.Stack)
	}
	if err != nil {
		t.Fatalf("read stack.json: %v", err)
	}
	return s
}

// post posts a body to the API, and expects a status.
func (s *runningStack) post(path string, body map[string]string, want int) {
	s.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.Post(s.HTTP+path, "application/json", bytes.NewReader(encoded))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != want {
		s.t.Fatalf("POST %s: %s, %v (%v); want status %d", path, response.Status, answer, err, want)
	}
}

func (s *runningStack) register(email string) {
	s.t.Helper()
	s.post("/api/auth/register", map[string]string{"churchName": "Grace Chapel", "email": email, "password": "correct horse",
		"firstName": "Pat", "lastName": "Muster"}, http.StatusCreated)
}

func (s *runningStack) login(email string) {
	s.t.Helper()
	s.post("/api/auth/login", map[string]string{"email": email, "password": "correct horse"}, http.StatusOK)
}

// interrupt stops the stack like Ctrl-C, and checks that it leaves nothing behind.
func (s *runningStack) interrupt() {
	s.t.Helper()
	family := descendants(s.t, s.ProcessID())
	s.Signal(os.Interrupt)
	if code := s.Exit(); code != 0 {
		s.t.Errorf("after Ctrl-C the exit status is %d, want 0", code)
	}
	wantNoneOf(s.t, family)
	if _, err := os.Stat(filepath.Join(s.dir, "stack.json")); !os.IsNotExist(err) {
		s.t.Errorf("stack.json still exists after the stop (%v)", err)
	}
}

func wantNoneOf(t *testing.T, processes []int) {
	t.Helper()
	for _, pid := range processes {
		for deadline := time.Now().Add(15 * time.Second); running(pid); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d was left behind", pid)
			}
		}
	}
}

// running reports whether a process runs. A zombie doesn't.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// descendants returns the processes below one. It finds them only on Linux.
func descendants(t *testing.T, pid int) (all []int) {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // its only error is a malformed pattern
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		_, rest, _ := strings.Cut(string(stat), ") ")
		if _, err := fmt.Sscanf(rest, "%1s %d", new(string), &parent); err != nil || parent != pid {
			continue
		}
		if _, err := fmt.Sscan(string(stat), &child); err != nil {
			t.Fatal(err)
		}
		all = append(append(all, child), descendants(t, child)...)
	}
	return all
}

func TestStack(t *testing.T) {
	t.Parallel()
	dir := dataFolder(t)
	s := startStack(t, dir)
	s.register("pat@example.org")
	checkStackFile(t, s)
	checkEnvironmentFile(t, s)
	checkPromptedCurl(t, s)
	checkUIReadsPayloads(t, s)

	second := testenv.Start(t, nil, "narthex-dev", append(freePorts, "--data", dir)...)
	code, want := second.Exit(), fmt.Sprintf("another narthex-dev (process %d) uses the data folder %s", s.ProcessID(), dir)
	if code != 1 || !strings.Contains(second.Output(), want) {
		t.Errorf("a second instance ends with status %d and says %q, want 1 and %q", code, second.Output(), want)
	}
	s.login("pat@example.org")
	s.interrupt()

	s = startStack(t, dir) // on other ports
	s.login("pat@example.org")
	checkReadyDatabases(t, s)
	s.register("sam@example.org")
	if runtime.GOOS != "linux" {
		return // only on Linux do children learn that their parent was killed
	}
	family := descendants(t, s.ProcessID())
	if len(family) == 0 {
		t.Error("the stack has no child process, want PostgreSQL's")
	}
	s.Signal(syscall.SIGKILL)
	s.Exit()
	wantNoneOf(s.t, family)

	s = startStack(t, dir)
	s.login("sam@example.org")
	checkReadyDatabases(t, s)
	s.interrupt()
}

// checkReadyDatabases waits until the stock is full, and all of it has the address at which PostgreSQL listens this time.
func checkReadyDatabases(t *testing.T, s *runningStack) {
	t.Helper()
	registry, err := pgx.Connect(t.Context(), s.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close(t.Context())
	here := fmt.Sprintf("%s:%d", registry.Config().Host, registry.Config().Port)
	var ready, elsewhere int
	for deadline := time.Now().Add(3 * time.Minute); ready < 8 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		const query = `SELECT count(*) FILTER (WHERE server = $1), count(*) FILTER (WHERE server <> $1) FROM database_pool`
		if err := registry.QueryRow(t.Context(), query, here).Scan(&ready, &elsewhere); err != nil {
			t.Fatal(err)
		}
	}
	if ready != 8 || elsewhere != 0 {
		t.Errorf("%d databases are ready at %s and %d elsewhere, want 8 and 0", ready, here, elsewhere)
	}
}

func checkStackFile(t *testing.T, s *runningStack) {
	t.Helper()
	if s.PID != s.ProcessID() || s.Namespace != "default" {
		t.Errorf("stack.json says pid %d and namespace %q, want %d and \"default\"", s.PID, s.Namespace, s.ProcessID())
	}
	for _, url := range []string{s.HTTP + "/readyz", s.Operations + "/metrics", s.UI} {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s, want 200", url, response.Status)
		}
	}
	for url, query := range map[string]string{
		s.Postgres: `SELECT count(*) FROM pg_database WHERE datname LIKE 'tenant\_%' AND NOT datistemplate`,
		s.Registry: `SELECT count(*) FROM tenants WHERE status = 'active'`,
	} {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var count int
		if err := conn.QueryRow(t.Context(), query).Scan(&count); err != nil || count != 1 {
			t.Errorf("%s: %d (%v), want 1", query, count, err)
		}
	}
}

// narthex reaches the stack with narthex.env: it migrates, and runs another API and worker.
func checkEnvironmentFile(t *testing.T, s *runningStack) {
	t.Helper()
	file := filepath.Join(s.dir, "narthex.env")
	for _, name := range []string{file, filepath.Join(s.dir, "keys.env"), filepath.Join(s.dir, "stack.json")} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v), want it readable only by its owner", name, info.Mode(), err)
		}
	}
	migrate := testenv.Start(t, nil, "narthex", "--env-file", file, "migrate")
	if code := migrate.Exit(); code != 0 {
		t.Errorf("narthex migrate: status %d, %s", code, migrate.Output())
	}
	serve := testenv.Start(t, nil, "narthex", "serve", "--env-file", file)
	serve.WaitFor(`"msg":"ready"`)
	serve.Signal(syscall.SIGTERM)
	if code := serve.Exit(); code != 0 {
		t.Errorf("narthex serve: status %d after SIGTERM, want 0", code)
	}
}

// checkPromptedCurl checks that the curl line of the ready block names the API.
func checkPromptedCurl(t *testing.T, s *runningStack) {
	t.Helper()
	if want := "curl -s " + s.HTTP + "/api/auth/register"; !strings.Contains(s.Output(), want) {
		t.Errorf("the ready block does not hold %q", want)
	}
}

// checkUIReadsPayloads does what the UI's pages do: it asks where payloads are opened, and has one opened.
func checkUIReadsPayloads(t *testing.T, s *runningStack) {
	t.Helper()
	var settings struct{ Codec struct{ Endpoint string } }
	getJSON(t, s.UI+"/api/v1/settings", &settings)
	var list struct {
		Executions []struct {
			Execution struct{ WorkflowID, RunID string }
		}
	}
	for deadline := time.Now().Add(3 * time.Minute); len(list.Executions) == 0 && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
		getJSON(t, s.UI+"/api/v1/namespaces/default/workflows?query="+url.QueryEscape(`WorkflowType = "Signup"`), &list)
	}
	if len(list.Executions) == 0 {
		t.Fatal("the UI lists no workflow three minutes after a signup")
	}
	var history struct {
		History struct {
			Events []struct {
				WorkflowExecutionStartedEventAttributes struct{ Input json.RawMessage }
			}
		}
	}
	workflow := list.Executions[0].Execution
	getJSON(t, s.UI+"/api/v1/namespaces/default/workflows/"+workflow.WorkflowID+"/history?execution.runId="+workflow.RunID, &history)
	input := history.History.Events[0].WorkflowExecutionStartedEventAttributes.Input
	request, err := http.NewRequest(http.MethodPost, settings.Codec.Endpoint+"/decode", bytes.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", s.UI)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var opened struct{ Payloads []struct{ Data []byte } }
	if err := json.NewDecoder(response.Body).Decode(&opened); err != nil || len(opened.Payloads) != 1 {
		t.Fatalf("%s/decode: %s, %v (%v); want one payload", settings.Codec.Endpoint, response.Status, opened, err)
	}
	if !bytes.Contains(opened.Payloads[0].Data, []byte(`"tenantId"`)) || bytes.Contains(input, []byte("tenantId")) {
		t.Errorf("the signup's input is %s, opened %s; want it sealed, and with the tenantId when opened", input, opened.Payloads[0].Data)
	}
	if origin := response.Header.Get("Access-Control-Allow-Origin"); origin != s.UI {
		t.Errorf("pages of %q may read the answer, want the UI's, %s", origin, s.UI)
	}
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s (%v), want 200 and JSON", url, response.Status, err)
	}
}

// The stack uses servers that are already running, and leaves them running.
func TestGivenServers(t *testing.T) {
	t.Parallel()
	admin, temporal := testenv.PostgresURL(t), testenv.TemporalAddress(t)
	dir := dataFolder(t)
	s := startStack(t, dir, "DATABASE_URL="+admin, "TEMPORAL_ADDRESS="+temporal)
	if s.Temporal != temporal || s.Postgres != admin || s.UI != "" {
		t.Errorf("stack.json has Temporal %s, PostgreSQL %s and UI %q; want the given servers and no UI", s.Temporal, s.Postgres, s.UI)
	}
	if family := descendants(t, s.ProcessID()); len(family) != 0 {
		t.Errorf("the stack runs %d processes of its own, want none", len(family))
	}
	s.register("given@example.org")
	s.login("given@example.org")
	s.interrupt()
	conn, err := net.Dial("tcp", temporal)
	if err != nil {
		t.Fatalf("Temporal was stopped: %v", err)
	}
	conn.Close()
	if conn, err := pgx.Connect(t.Context(), admin); err != nil {
		t.Errorf("PostgreSQL was stopped: %v", err)
	} else {
		conn.Close(t.Context())
	}
	given := []string{"DATABASE_URL=" + admin, "TEMPORAL_ADDRESS=" + nobody}
	wantRefusal(t, given, []string{"--data", dir}, "no connection to Temporal at "+nobody+": start it, or unset TEMPORAL_ADDRESS")
	wantRefusal(t, given, []string{"--data", dataFolder(t)},
		"the registry on the PostgreSQL server belongs to another Narthex, or to another data folder (SEAL_KEYSET is not the keyset")
}

const nobody = "127.0.0.1:1" // nothing listens there

// A stack that cannot start says why in one sentence, exits with status 1, and leaves nothing running.
func TestRefusals(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) // runs after the parallel subtests
	taken := listener.Addr().String()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environment []string
		arguments   []string
		want        string
	}{
		"HTTP address taken": {nil, []string{"--http", taken},
			"--http " + taken + " is taken: stop what uses it, or choose another address"},
		"Temporal's address taken": {nil, []string{"--temporal", taken}, "--temporal " + taken + " is taken"},
		"UI's address taken":       {nil, []string{"--ui", taken}, "--ui " + taken + " is taken"},
		"PostgreSQL's taken":       {nil, []string{"--postgres", taken}, "--postgres " + taken + " is taken"},
		"malformed address":        {nil, []string{"--http", "8080"}, "--http 8080 is not an address like 127.0.0.1:8080"},
		"unusable folder": {nil, []string{"--data", file + "/data"},
			"the data folder " + file + "/data cannot be created: choose another with --data"},
		"a file for a folder":    {nil, []string{"--data", file}, "the data folder " + file + " cannot be"},
		"unknown flag":           {nil, []string{"--htpp", taken}, "unknown flag: --htpp"},
		"unknown command":        {nil, []string{"start"}, `unknown command "start"`},
		"malformed DATABASE_URL": {[]string{"DATABASE_URL=5ecret"}, nil, "DATABASE_URL is not a URL like postgres://"},
		"unreachable DATABASE_URL": {[]string{"DATABASE_URL=postgres://n:5ecret@" + nobody + "/postgres"}, nil,
			"no connection to the PostgreSQL server of DATABASE_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefusal(t, c.environment, append([]string{"--data", dataFolder(t)}, c.arguments...), c.want)
		})
	}
}

func wantRefusal(t *testing.T, environment, arguments []string, want string) {
	t.Helper()
	r := testenv.Start(t, environment, "narthex-dev", slices.Concat(freePorts, arguments)...)
	code := r.Exit()
	lines := strings.Split(strings.TrimSpace(r.Output()), "\n")
	if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, "narthex-dev: "+want) {
		t.Errorf("exit status %d, and it says\n  %s, want status 1 and\n  narthex-dev: %s", code, last, want)
	}
	if strings.Contains(r.Output(), "5ecret") {
		t.Errorf("a secret is in the output: %s", r.Output())
	}
}

// beginning receives the stack's output. At the first line, it records which servers have been started, and stops the stack.
type beginning struct {
	dir  string
	stop context.CancelFunc

	line    string
	started []string // in the data folder
}

func (b *beginning) Write(p []byte) (int, error) {
	if b.line == "" {
		b.line = string(p)
		for _, server := range []string{"postgres", "temporal"} {
			if _, err := os.Stat(filepath.Join(b.dir, server)); err == nil {
				b.started = append(b.started, server)
			}
		}
		b.stop()
	}
	return len(p), nil
}

// The stack prints its first line before it starts a server, and before it waits for one.
func TestTheFirstLineComesBeforeAnyServer(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	b := &beginning{dir: dataFolder(t), stop: stop}
	cmd := newCommand()
	cmd.SetOut(b)
	cmd.SetArgs(append([]string{"--data", b.dir}, freePorts...))
	if err := cmd.ExecuteContext(ctx); err == nil || err.Error() != "stopped before it was ready" {
		t.Errorf("the stack ends with %v, want it stopped before it was ready", err)
	}
	if b.line != "PostgreSQL: starting\n" || len(b.started) > 0 {
		t.Errorf("at the first line, %q, these have been started: %v; want none", b.line, b.started)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	server := "DATABASE_URL=postgres://narthex@" + silent.Addr().String() + "/postgres?sslmode=disable"
	r := testenv.Start(t, []string{server}, "narthex-dev", append(freePorts, "--data", dataFolder(t))...)
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.WaitFor("PostgreSQL: the server of DATABASE_URL\n")
	for err == nil { // the stack has introduced itself, and waits
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1000))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the first line, the stack no longer waits for the server (%v)", err)
	}
}

// Ctrl-C while the stack starts stops what has been started.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	for moment, flag := range map[string]string{
		"PostgreSQL: starting": "--cluster=false",
		"Temporal: starting":   "--cluster=false",
		"Temporal: four":       "--cluster",
	} {
		r := testenv.Start(t, nil, "narthex-dev", append(freePorts, "--data", dataFolder(t), flag)...)
		r.WaitFor(moment)
		family := descendants(t, r.ProcessID())
		r.Signal(os.Interrupt)
		if code := r.Exit(); code != 1 || !strings.HasSuffix(r.Output(), "\nnarthex-dev: stopped before it was ready\n") {
			t.Errorf("interrupted at %q: status %d, it prints\n%s\nwant status 1 and a line that says that it was stopped", moment, code, r.Output())
		}
		wantNoneOf(t, family)
	}
}

// TestTemporalAlone runs `narthex-dev temporal`, which says where it listens.
func TestTemporalAlone(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "temporal")
	r := testenv.Start(t, nil, "narthex-dev", "temporal", "--data", data, "--temporal", "127.0.0.1:0", "--ui", "127.0.0.1:0")
	r.WaitFor("}\n")
	var where struct{ Temporal, Namespace, UI string }
	if err := json.NewDecoder(strings.NewReader(r.Output())).Decode(&where); err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(where.UI + "/api/v1/namespaces/" + where.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the UI answers %s, %s (%v), want its namespace", response.Status, body, err)
	}
	r.Signal(syscall.SIGTERM)
	if code := r.Exit(); code != 0 {
		t.Errorf("after SIGTERM the exit status is %d, want 0", code)
	}
}
