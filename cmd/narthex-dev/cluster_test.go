package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
)

// TestCluster kills an API and a worker, which others replace, and then a process that no other can replace.
func TestCluster(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lists a process's children")
	}
	dir := dataFolder(t)
	s := startStackWith(t, dir, nil, "--cluster")
	roles := s.roles()
	for role, want := range map[string]int{"frontend": 1, "history": 1, "matching": 1, "worker": 1, "narthex api": 2, "narthex worker": 2} {
		if len(roles[role]) != want {
			t.Errorf("there are %d processes for %s, want %d", len(roles[role]), role, want)
		}
	}
	if len(s.APIs) != 2 || s.APIs[0] != s.HTTP || !strings.Contains(s.Output(), strings.Join(s.APIs, ", ")) {
		t.Fatalf("stack.json says the APIs are %v and the first is %s; want two, in the ready block too", s.APIs, s.HTTP)
	}
	checkClosedToTenants(t, s)
	s.register("pat@example.org")
	s.through(s.APIs[1]).login("pat@example.org")
	checkUIReadsPayloads(t, s)

	for _, role := range []string{"api", "worker"} {
		s.kill(roles["narthex "+role][0], "Narthex's "+role)
	}
	other := s.through(s.livingAPI())
	other.register("sam@example.org")
	other.login("pat@example.org")
	s.interrupt()

	for role, name := range map[string]string{"history": "Temporal's history", "narthex api": "Narthex's api"} {
		s = startStackWith(t, dir, nil, "--cluster") // at once: the stack must not wait for processes of the previous run
		s.login("sam@example.org")
		family := descendants(t, s.ProcessID())
		for _, pid := range s.roles()[role] {
			s.kill(pid, name)
		}
		if code := s.Exit(); code != 1 {
			t.Errorf("without %s the exit status is %d, want 1", name, code)
		}
		wantNoneOf(t, family)
	}
}

// roles returns the ids of the cluster's processes by role.
func (s *runningStack) roles() map[string][]int {
	s.t.Helper()
	roles := map[string][]int{}
	for _, pid := range descendants(s.t, s.ProcessID()) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		switch words := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"); {
		case len(words) == 3 && words[1] == "temporal-service":
			roles[words[2]] = append(roles[words[2]], pid)
		case len(words) == 3 && words[1] == "narthex-process":
			roles["narthex "+words[2]] = append(roles["narthex "+words[2]], pid)
		}
	}
	return roles
}

// through returns the same stack, seen through another of its APIs.
func (s *runningStack) through(api string) *runningStack {
	other := *s
	other.HTTP = api
	return &other
}

// kill kills one of the stack's processes, and waits until the stack says so.
func (s *runningStack) kill(pid int, name string) {
	s.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatalf("kill %s, process %d: %v", name, pid, err)
	}
	s.WaitFor(fmt.Sprintf("%s (process %d) has stopped unexpectedly", name, pid))
}

// livingAPI returns the URL of the only API that answers.
func (s *runningStack) livingAPI() string {
	s.t.Helper()
	var living []string
	for _, api := range s.APIs {
		if response, err := http.Get(api + "/healthz"); err == nil {
			response.Body.Close()
			living = append(living, api)
		}
	}
	if len(living) != 1 {
		s.t.Fatalf("the APIs that answer are %v, want one", living)
	}
	return living[0]
}

// checkClosedToTenants checks that a tenant's role can't connect to Temporal's databases, which are on the tenants' server
// here.
func checkClosedToTenants(t *testing.T, s *runningStack) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var databases, open int
	const selectOpen = `
		SELECT count(*), count(*) FILTER (WHERE has_database_privilege('public', oid, 'CONNECT'))
		FROM pg_database WHERE datname IN ('temporal', 'temporal_visibility')`
	err = conn.QueryRow(t.Context(), selectOpen).Scan(&databases, &open)
	if err != nil || databases != 2 || open != 0 {
		t.Errorf("Temporal has %d databases, and everybody may connect to %d (%v); want 2 and none", databases, open, err)
	}
}

// The commands of a cluster's processes are not for people, and a cluster of Temporal alone needs a PostgreSQL server.
func TestClusterRefusals(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"temporal-service history": "narthex-dev: this command is internal: only narthex-dev runs it\n",
		"narthex-process api":      "narthex-dev: this command is internal: only narthex-dev runs it\n",
		"temporal --cluster":       "narthex-dev: --cluster needs a PostgreSQL server: name it in DATABASE_URL\n",
	} {
		r := testenv.Start(t, nil, "narthex-dev", strings.Fields(arguments)...)
		if code := r.Exit(); code != 1 || r.Output() != want {
			t.Errorf("narthex-dev %s: status %d, it prints %q; want 1 and %q", arguments, code, r.Output(), want)
		}
	}
}
