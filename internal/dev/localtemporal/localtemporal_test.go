//go:build !race

package localtemporal_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/dev/localtemporal"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/saga"
)

const queue = "test"

func options(dir string) localtemporal.Options {
	return localtemporal.Options{Dir: dir, FrontendAddress: "127.0.0.1:0", UIAddress: "127.0.0.1:0", Namespace: client.DefaultNamespace}
}

// start starts a server that stops when the test ends or stop is called.
func start(t *testing.T, dir string) (server *localtemporal.Server, c client.Client, stop func()) {
	t.Helper()
	server, err := localtemporal.Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			server.Stop()
		}
	}
	t.Cleanup(stop)
	c, err = client.Dial(client.Options{HostPort: server.FrontendAddress})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return server, c, stop
}

func greet(_ workflow.Context, name string) (string, error) { return "Welcome, " + name, nil }

func TestWorkflowOutlivesRestart(t *testing.T) {
	dir := t.TempDir()
	_, c, stop := start(t, dir)
	for range 2 { // the second time, they exist
		if err := searchattributes.Ensure(t.Context(), c, client.DefaultNamespace); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "greet", TaskQueue: queue, TypedSearchAttributes: sdktemporal.NewSearchAttributes(saga.TenantID.ValueSet("Grace Chapel")),
	}, greet, "Pat")
	if err != nil {
		t.Fatalf("start with a search attribute that was registered just now: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "temporal.db-wal")); err != nil {
		t.Errorf("the file is not in WAL mode: %v", err)
	}
	stop()

	_, c, _ = start(t, dir) // other ports
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(greet)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var greeting string
	if err := c.GetWorkflow(t.Context(), "greet", "").Get(t.Context(), &greeting); err != nil || greeting != "Welcome, Pat" {
		t.Fatalf("the workflow returns %q, %v", greeting, err)
	}
	namespace, err := c.WorkflowService().DescribeNamespace(
		t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: client.DefaultNamespace},
	)
	if err != nil {
		t.Fatal(err)
	}
	if kept := namespace.Config.WorkflowExecutionRetentionTtl.AsDuration(); kept != 30*24*time.Hour {
		t.Errorf("closed workflows are kept for %s: want 30 days", kept)
	}
}

func TestUI(t *testing.T) {
	server, _, _ := start(t, t.TempDir())
	page, err := http.Get("http://" + server.UIAddress + "/")
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if page.StatusCode != http.StatusOK {
		t.Errorf("the UI answers %s", page.Status)
	}
	response, err := http.Get("http://" + server.UIAddress + "/api/v1/settings")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var settings struct{ WorkflowTerminateDisabled, BatchActionsDisabled, WorkflowCancelDisabled, DisableNewsFetch bool }
	if err := json.NewDecoder(response.Body).Decode(&settings); err != nil {
		t.Fatal(err)
	}
	if !settings.WorkflowTerminateDisabled || !settings.BatchActionsDisabled || settings.WorkflowCancelDisabled || !settings.DisableNewsFetch {
		t.Errorf("the UI's settings are %+v", settings)
	}
}

func TestTakenAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	for name, change := range map[string]func(*localtemporal.Options){
		"Temporal's address ": func(o *localtemporal.Options) { o.FrontendAddress = taken },
		"the UI's address ":   func(o *localtemporal.Options) { o.UIAddress = taken },
	} {
		o := options(t.TempDir())
		change(&o)
		_, err := localtemporal.Start(t.Context(), o)
		if want := name + taken + " is taken"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the error is %v: want %q", err, want)
		}
	}
}

// An interrupted first start leaves a half-made file next to the database.
func TestInterruptedSchema(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "temporal.db.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}
