package systemtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/teststack"
	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/registry"
)

// sweep runs a sweep, and returns what it did with each of the ids that it found.
func sweep(s *teststack.Stack, dry bool) map[string]orphan.Action {
	s.T.Helper()
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{TaskQueue: s.Queue},
		orphan.Workflow, orphan.Sweep{DryRun: dry})
	if err != nil {
		s.T.Fatal(err)
	}
	var result orphan.Result
	if err := run.Get(s.T.Context(), &result); err != nil {
		s.T.Fatalf("sweep: %v", err)
	}
	summaries(s, run.GetID(), run.GetRunID()) // each activity and timer has one
	actions := map[string]orphan.Action{}
	for _, f := range result.Found {
		actions[string(f.Kind)+" "+f.ID] = f.Action
	}
	return actions
}

// countOrphans counts the orphans that sweeps of the stack have seen, as a worker does, until the test ends.
func countOrphans(s *teststack.Stack) {
	go s.Watch.CountOrphans(s.T.Context(), s.OpenRegistry(), 100*time.Millisecond, s.Logger())
	teststack.Eventually(s.T, "orphans are counted", func() bool { return strings.Contains(scrape(s), "\norphans_seen{") })
}

func wantSweep(s *teststack.Stack, when string, dry bool, want map[string]orphan.Action) {
	s.T.Helper()
	got := sweep(s, dry)
	for id, action := range want {
		if got[id] != action {
			s.T.Errorf("%s: the sweep's action for %s is %q, want %q", when, id, got[id], action)
		}
	}
	for id, action := range got {
		if _, ok := want[id]; !ok {
			s.T.Errorf("%s: the sweep found %s (%s), want it left out", when, id, action)
		}
	}
}

// databases returns a tenant's databases and roles, under any name.
func databases(s *teststack.Stack, tenantID string) (names []string) {
	s.T.Helper()
	teststack.Row(s.T, s.Server, `
		SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM (
			SELECT datname::text AS name FROM pg_database WHERE datname LIKE '%' || $1 UNION ALL
			SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE '%' || $1) n`, []any{tenantID}, &names)
	return names
}

func wantDatabases(s *teststack.Stack, tenantID string, want ...string) {
	s.T.Helper()
	if got := databases(s, tenantID); !slices.Equal(got, want) {
		s.T.Errorf("tenant %s has %v, want %v", tenantID, got, want)
	}
}

// forget removes a church from the registry, and leaves its database.
func forget(s *teststack.Stack, tenantID string) {
	s.T.Helper()
	for _, statement := range []string{
		`DELETE FROM admin_email_index WHERE tenant_id = $1`, `DELETE FROM admins WHERE tenant_id = $1`,
		`DELETE FROM tenants WHERE id = $1`, `DELETE FROM churches WHERE id = $1`,
	} {
		if _, err := s.Registry.Exec(s.T.Context(), statement, tenantID); err != nil {
			s.T.Fatal(err)
		}
	}
}

// planted are orphans of each kind, by the ids of their tenants.
type planted struct{ database, role, half, kept, gone, entry, terminated, unmarked string }

func plant(s *teststack.Stack) (p planted) {
	s.T.Helper()
	church := func() string { return s.Register(teststack.Applicant())["tenantId"].(string) }
	for _, id := range []*string{&p.database, &p.role, &p.half, &p.kept} {
		*id = church()
		forget(s, *id)
	}
	s.Exec(`DROP DATABASE tenant_` + p.role)
	s.Exec(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tenant_` + p.half + `'`)
	p.gone = church()
	s.Exec(`DROP DATABASE tenant_` + p.gone + ` WITH (FORCE)`)
	p.entry = church()
	if _, err := s.Registry.Exec(s.T.Context(), `DELETE FROM admins WHERE tenant_id = $1`, p.entry); err != nil {
		s.T.Fatal(err)
	}
	p.unmarked = ids.New()
	s.Exec(`CREATE DATABASE tenant_` + p.unmarked)
	s.T.Cleanup(func() {
		_, _ = s.Server.Exec(context.Background(), `DROP DATABASE tenant_`+p.unmarked)
	})
	_, p.terminated = terminated(s)
	return p
}

// terminated signs up, and terminates the signup before the church is opened.
func terminated(s *teststack.Stack) (email, tenantID string) {
	s.T.Helper()
	body := teststack.Applicant()
	s.Faults.AsActivity("ActivateTenant", func(func() error) error {
		workflowID, _ := newest(s, body["email"])
		if err := s.Temporal.TerminateWorkflow(s.T.Context(), workflowID, "", "a test"); err != nil {
			s.T.Error(err)
		}
		return teststack.ErrInjected
	})
	teststack.WantProblem(s.T, s.Post("/api/auth/register", body), http.StatusInternalServerError, "signup-failed")
	s.Faults.Always("ActivateTenant", nil)
	email = body["email"].(string)
	return email, inputOf(s, email).TenantID
}

// stuckSignup starts a signup that fails, and that can't drop its database until it is released.
func stuckSignup(s *teststack.Stack) (tenantID string, letGo func()) {
	s.T.Helper()
	body := teststack.Applicant()
	for _, undo := range []string{"RevertDatabase", "DropDatabase"} {
		s.Faults.Always(undo, teststack.FailsRetryably)
	}
	s.Faults.Always("CreateChurch", teststack.FailsBefore)
	quick := s.Another(teststack.WithWait(10 * time.Millisecond))
	if got := quick.Post("/api/auth/register", body); got.Status != http.StatusAccepted {
		s.T.Fatalf("register: status %d, want 202\n%s", got.Status, got.Body)
	}
	tenantID = inputOf(s, body["email"].(string)).TenantID
	teststack.Eventually(s.T, "the signup is rolling back", func() bool { return s.Faults.AttemptsOf("RevertDatabase") > 0 })
	teststack.Eventually(s.T, "the signup is listed", func() bool { return len(runsOf(s, body["email"].(string))) > 0 })
	s.Faults.Always("CreateChurch", nil)
	return tenantID, func() {
		for _, undo := range []string{"RevertDatabase", "DropDatabase"} {
			s.Faults.Always(undo, nil)
		}
	}
}

// actions are what a sweep does with the planted orphans.
type actions struct{ database, terminated, rest, entry, kept orphan.Action }

func (p planted) rows(s *teststack.Stack, do actions) map[string]orphan.Action {
	want := map[string]orphan.Action{
		"tenant " + p.gone: orphan.Report, "database " + p.database: do.database, "database " + p.kept: do.kept,
		"database " + p.terminated: do.terminated,
	}
	if do.rest != "" {
		want["database "+p.role], want["database "+p.half], want["rows "+p.terminated] = do.rest, do.rest, do.rest
	}
	if do.rest == orphan.Drop {
		want["rows "+p.terminated] = orphan.Delete
	}
	if do.entry != "" {
		var id string
		teststack.Row(s.T, s.Registry, `SELECT id FROM admin_email_index WHERE tenant_id = $1`, []any{p.entry}, &id)
		want["entry "+id] = do.entry
	}
	return want
}

// TestOrphansAreFoundAndRemovedAfterTheirGrace plants orphans of each kind next to what is in use, and moves
// the clock over the grace and the quarantine.
func TestOrphansAreFoundAndRemovedAfterTheirGrace(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	whole := s.Register(teststack.Applicant())
	stockUp(s)                            // plant takes databases from the stock
	stranger := teststack.New(t).Church() // on the same server, of another registry
	p := plant(s)
	stuck, letGo := stuckSignup(s)
	stockUp(s) // never an orphan, however old

	wait, keep := orphan.Wait, orphan.Keep
	wantSweep(s, "a dry run", true, p.rows(s, actions{wait, wait, wait, wait, wait}))
	wantRecorded(s, 0)
	wantSweep(s, "the first sweep", false, p.rows(s, actions{wait, wait, wait, wait, wait}))
	wantRecorded(s, 8)
	keepOrphan(s, p.kept)
	s.Clock.Move(orphan.Grace - time.Hour)
	wantSweep(s, "within the grace", false, p.rows(s, actions{wait, wait, wait, wait, keep}))
	wantDatabases(s, p.half, "role tenant_"+p.half, "tenant_"+p.half)

	s.Clock.Move(2 * time.Hour)
	wantSweep(s, "a dry run after the grace", true, p.rows(s, actions{orphan.Rename, orphan.Rename, orphan.Drop, orphan.Delete, keep}))
	wantSweep(s, "after the grace", false, p.rows(s, actions{orphan.Rename, orphan.Rename, orphan.Drop, orphan.Delete, keep}))
	wantDatabases(s, p.database, "orphan_"+p.database, "role tenant_"+p.database)
	wantDatabases(s, p.terminated, "orphan_"+p.terminated, "role tenant_"+p.terminated)
	wantDatabases(s, p.role)
	wantDatabases(s, p.half)

	s.Clock.Move(orphan.Quarantine - time.Hour)
	wantSweep(s, "within the quarantine", false, p.rows(s, actions{wait, wait, "", "", keep}))
	s.Clock.Move(2 * time.Hour)
	wantSweep(s, "after the quarantine", false, p.rows(s, actions{orphan.Drop, orphan.Drop, "", "", keep}))
	wantDatabases(s, p.database)
	wantDatabases(s, p.terminated)
	wantDatabases(s, p.kept, "role tenant_"+p.kept, "tenant_"+p.kept)
	wantDatabases(s, p.unmarked, "tenant_"+p.unmarked)
	wantDatabases(s, stuck, "role tenant_"+stuck, "tenant_"+stuck)
	wantSweep(s, "once more", false, map[string]orphan.Action{"tenant " + p.gone: orphan.Report, "database " + p.kept: keep})

	letGo()
	teststack.Eventually(t, "the stuck signup has dropped its database", func() bool { return len(databases(s, stuck)) == 0 })
	wantWhole(s, whole)
	wantStockConsistent(s)
	if got := inStock(s); got != teststack.ReadySize {
		t.Errorf("%d databases are ready after all sweeps, want %d", got, teststack.ReadySize)
	}
	stranger.Want(http.StatusOK, http.MethodGet, "/api/auth/me", nil)
}

func keepOrphan(s *teststack.Stack, id string) {
	s.T.Helper()
	if err := s.OpenRegistry().KeepOrphan(s.T.Context(), id, true); err != nil {
		s.T.Fatal(err)
	}
}

func wantRecorded(s *teststack.Stack, want int) {
	s.T.Helper()
	var recorded int
	if teststack.Row(s.T, s.Registry, `SELECT count(*) FROM orphans`, nil, &recorded); recorded != want {
		s.T.Errorf("%d orphans are recorded, want %d", recorded, want)
	}
}

// TestSweepsDoNotDisturbSignups runs sweeps that wait for no grace period while signups succeed, fail and are reset.
func TestSweepsDoNotDisturbSignups(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 6 {
			sweep(s, false)
			s.Clock.Move(orphan.Grace)
		}
	}()
	var bodies []map[string]any
	for range 6 {
		bodies = append(bodies, teststack.Applicant())
	}
	if got := storm(s, bodies); got[http.StatusCreated] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", got, len(bodies))
	}
	<-done
	for _, body := range bodies {
		login := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
		if login.Status != http.StatusOK {
			t.Fatalf("login: status %d, want 200\n%s", login.Status, login.Body)
		}
	}
}

// TestATerminatedSignupThatWasSweptCanBeUndone resets a terminated signup whose database was renamed: it rolls
// back, and nothing is left.
func TestATerminatedSignupThatWasSweptCanBeUndone(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	email, tenantID := terminated(s)
	workflowID, runID := newest(s, email)
	sweep(s, false)
	s.Clock.Move(orphan.Grace)
	sweep(s, false)
	wantDatabases(s, tenantID, "orphan_"+tenantID, "role tenant_"+tenantID)
	if err := reset(s, workflowID, runID, resetPoints(s, workflowID, runID)[0]); err == nil {
		t.Error("the reset signup succeeded, want it rolled back")
	}
	wantNothingLeft(s)
	wantDatabases(s, tenantID)
}

// A sweep that can't reach a server keeps its records of what it has seen there.
func TestSweepKeepsRecordsOfUnreachableServers(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	reg := s.OpenRegistry()
	seen := orphan.Orphan{Kind: orphan.Database, Server: "away:5432", ID: ids.New(), TenantID: ids.New(), SignupID: "x"}
	for _, c := range []struct {
		searched []string
		keep     bool
		want     int
	}{{nil, false, 1}, {[]string{"away:5432"}, true, 1}, {[]string{"away:5432"}, false, 0}} {
		if err := reg.Sight(t.Context(), []orphan.Orphan{seen}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := reg.KeepOrphan(t.Context(), seen.ID, c.keep); err != nil {
			t.Fatal(err)
		}
		if err := reg.Sight(t.Context(), nil, c.searched, time.Now()); err != nil {
			t.Fatal(err)
		}
		if left, err := reg.Orphans(t.Context()); err != nil || len(left) != c.want {
			t.Errorf("searched %v, kept %t: %d orphans are recorded (%v), want %d", c.searched, c.keep, len(left), err, c.want)
		}
	}
	if err := reg.KeepOrphan(t.Context(), "nonsense", true); fmt.Sprint(err) != "orphan: "+registry.ErrNotFound.Error() {
		t.Errorf("keep nonsense: %v, want ErrNotFound", err)
	}
}

// A sweep that is cancelled during a removal finishes it, and reports what it did and what it left.
func TestACancelledSweepReportsWhatItDid(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for range 2 {
		forget(s, s.Register(teststack.Applicant())["tenantId"].(string))
	}
	sweep(s, false)
	s.Clock.Move(orphan.Grace)
	s.Faults.Always(orphan.Remove, func(run func() error) error {
		cancelSweep(s)
		return run()
	})
	result, err := orphan.Start(t.Context(), s.Temporal, s.Queue, orphan.Sweep{})
	if !errors.Is(err, orphan.ErrCancelled) {
		t.Fatalf("the sweep ends with %v, want ErrCancelled", err)
	}
	for i, want := range []orphan.Action{orphan.Rename, orphan.Wait} {
		f := result.Found[i]
		if f.Action != want {
			t.Errorf("the sweep reports %s for orphan %d, want %s", f.Action, i+1, want)
		}
		if renamed := slices.Contains(databases(s, f.ID), "orphan_"+f.ID); renamed != (want == orphan.Rename) {
			t.Errorf("orphan %d: the sweep reports %s; it is renamed: %t", i+1, f.Action, renamed)
		}
	}
}

// cancelSweep cancels the sweep that is running.
func cancelSweep(s *teststack.Stack) {
	query := fmt.Sprintf("WorkflowType = '%s' AND TaskQueue = '%s' AND ExecutionStatus = 'Running'", orphan.Workflow, s.Queue)
	teststack.Eventually(s.T, "the sweep is cancelled", func() bool {
		found, err := s.Temporal.ListWorkflow(s.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil || len(found.Executions) != 1 {
			return false
		}
		return s.Temporal.CancelWorkflow(s.T.Context(), found.Executions[0].Execution.WorkflowId, "") == nil
	})
}
