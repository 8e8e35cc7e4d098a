package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/registry"
)

// clock is the worker's: a test moves it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

// sweep runs a sweep, and returns what it did with each of the ids that it found.
func (s *stack) sweep(dry bool) map[string]orphan.Action {
	s.t.Helper()
	run, err := s.temporal.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{TaskQueue: s.queue},
		orphan.Workflow, orphan.Sweep{DryRun: dry})
	if err != nil {
		s.t.Fatal(err)
	}
	var result orphan.Result
	if err := run.Get(s.t.Context(), &result); err != nil {
		s.t.Fatalf("sweep: %v", err)
	}
	actions := map[string]orphan.Action{}
	for _, f := range result.Found {
		actions[string(f.Kind)+" "+f.ID] = f.Action
	}
	return actions
}

// countOrphans counts the orphans that sweeps of the stack have seen, as a worker does, until the test ends.
func (s *stack) countOrphans() {
	go s.watch.CountOrphans(s.t.Context(), s.openRegistry(), 100*time.Millisecond, s.logger())
	eventually(s.t, "orphans are counted", func() bool { return strings.Contains(s.scrape(), "\norphans_seen{") })
}

func (s *stack) wantSweep(when string, dry bool, want map[string]orphan.Action) {
	s.t.Helper()
	got := s.sweep(dry)
	for id, action := range want {
		if got[id] != action {
			s.t.Errorf("%s: the sweep does with %s: %q, want %q", when, id, got[id], action)
		}
	}
	for id, action := range got {
		if _, ok := want[id]; !ok {
			s.t.Errorf("%s: the sweep found %s (%s), want it left out", when, id, action)
		}
	}
}

// databases returns which databases and roles of a tenant there are, under whatever name.
func (s *stack) databases(tenantID string) (names []string) {
	s.t.Helper()
	row(s.t, s.server, `
		SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM (
			SELECT datname::text AS name FROM pg_database WHERE datname LIKE '%' || $1 UNION ALL
			SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE '%' || $1) n`, []any{tenantID}, &names)
	return names
}

func (s *stack) wantDatabases(tenantID string, want ...string) {
	s.t.Helper()
	if got := s.databases(tenantID); !slices.Equal(got, want) {
		s.t.Errorf("tenant %s has %v, want %v", tenantID, got, want)
	}
}

// forget removes a church from the registry, and leaves its database.
func (s *stack) forget(tenantID string) {
	s.t.Helper()
	for _, statement := range []string{
		`DELETE FROM admin_email_index WHERE tenant_id = $1`, `DELETE FROM admins WHERE tenant_id = $1`,
		`DELETE FROM tenants WHERE id = $1`, `DELETE FROM churches WHERE id = $1`,
	} {
		if _, err := s.registry.Exec(s.t.Context(), statement, tenantID); err != nil {
			s.t.Fatal(err)
		}
	}
}

// planted are orphans of each kind, by the ids of their tenants.
type planted struct{ database, role, half, kept, gone, entry, terminated, unmarked string }

func (s *stack) plant() (p planted) {
	s.t.Helper()
	church := func() string { return s.register(applicant())["tenantId"].(string) }
	for _, id := range []*string{&p.database, &p.role, &p.half, &p.kept} {
		*id = church()
		s.forget(*id)
	}
	s.exec(`DROP DATABASE tenant_` + p.role)
	s.exec(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tenant_` + p.half + `'`)
	p.gone = church()
	s.exec(`DROP DATABASE tenant_` + p.gone + ` WITH (FORCE)`)
	p.entry = church()
	if _, err := s.registry.Exec(s.t.Context(), `DELETE FROM admins WHERE tenant_id = $1`, p.entry); err != nil {
		s.t.Fatal(err)
	}
	p.unmarked = ids.New()
	s.exec(`CREATE DATABASE tenant_` + p.unmarked)
	s.t.Cleanup(func() {
		_, _ = s.server.Exec(context.Background(), `DROP DATABASE tenant_`+p.unmarked)
	})
	_, p.terminated = s.terminated()
	return p
}

// terminated signs up, and terminates the signup before the church is opened.
func (s *stack) terminated() (email, tenantID string) {
	s.t.Helper()
	body := applicant()
	s.faults.asActivity("ActivateTenant", func(func() error) error {
		workflowID, _ := s.newest(body["email"])
		if err := s.temporal.TerminateWorkflow(s.t.Context(), workflowID, "", "a test"); err != nil {
			s.t.Error(err)
		}
		return errInjected
	})
	wantProblem(s.t, s.post("/api/auth/register", body), http.StatusInternalServerError, "signup-failed")
	s.faults.always("ActivateTenant", nil)
	email = body["email"].(string)
	return email, s.inputOf(email).TenantID
}

// stuckSignup fails, and cannot take its database back until it is let go.
func (s *stack) stuckSignup() (tenantID string, letGo func()) {
	s.t.Helper()
	body := applicant()
	for _, undo := range []string{"RevertDatabase", "DropDatabase"} {
		s.faults.always(undo, failsRetryably)
	}
	s.faults.always("CreateChurch", failsBefore)
	quick := s.another(withWait(10 * time.Millisecond))
	if got := quick.post("/api/auth/register", body); got.status != http.StatusAccepted {
		s.t.Fatalf("register: status %d, want 202\n%s", got.status, got.body)
	}
	tenantID = s.inputOf(body["email"].(string)).TenantID
	eventually(s.t, "the signup is rolling back", func() bool { return s.faults.attemptsOf("RevertDatabase") > 0 })
	eventually(s.t, "the signup is in sight", func() bool { return len(s.runs(body["email"].(string))) > 0 })
	s.faults.always("CreateChurch", nil)
	return tenantID, func() {
		for _, undo := range []string{"RevertDatabase", "DropDatabase"} {
			s.faults.always(undo, nil)
		}
	}
}

// TestOrphansAreFoundAndRemovedAfterTheirGrace plants orphans of each kind beside what is in use, and moves
// the clock over the grace and the quarantine.
func TestOrphansAreFoundAndRemovedAfterTheirGrace(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	whole := s.register(applicant())
	s.stockUp()                      // what is planted comes out of it
	stranger := newStack(t).church() // on the same server, of another registry
	p := s.plant()
	stuck, letGo := s.stuckSignup()
	s.stockUp() // is nobody's orphan, however old

	rows := func(database, terminated, rest, entry, kept orphan.Action) map[string]orphan.Action {
		want := map[string]orphan.Action{"tenant " + p.gone: orphan.Report, "database " + p.database: database, "database " + p.kept: kept}
		if rest != "" {
			want["database "+p.role], want["database "+p.half], want["rows "+p.terminated] = rest, rest, rest
		}
		want["database "+p.terminated] = terminated
		if entry != "" {
			var id string
			row(t, s.registry, `SELECT id FROM admin_email_index WHERE tenant_id = $1`, []any{p.entry}, &id)
			want["entry "+id] = entry
		}
		if rest == orphan.Drop {
			want["rows "+p.terminated] = orphan.Delete
		}
		return want
	}
	wait, keep := orphan.Wait, orphan.Keep
	s.wantSweep("a dry run", true, rows(wait, wait, wait, wait, wait))
	s.wantRecorded(0)
	s.wantSweep("the first sweep", false, rows(wait, wait, wait, wait, wait))
	s.wantRecorded(8)
	s.keep(p.kept)
	s.clock.move(orphan.Grace - time.Hour)
	s.wantSweep("within the grace", false, rows(wait, wait, wait, wait, keep))
	s.wantDatabases(p.half, "role tenant_"+p.half, "tenant_"+p.half)

	s.clock.move(2 * time.Hour)
	s.wantSweep("a dry run after the grace", true, rows(orphan.Rename, orphan.Rename, orphan.Drop, orphan.Delete, keep))
	s.wantSweep("after the grace", false, rows(orphan.Rename, orphan.Rename, orphan.Drop, orphan.Delete, keep))
	s.wantDatabases(p.database, "orphan_"+p.database, "role tenant_"+p.database)
	s.wantDatabases(p.terminated, "orphan_"+p.terminated, "role tenant_"+p.terminated)
	s.wantDatabases(p.role)
	s.wantDatabases(p.half)

	s.clock.move(orphan.Quarantine - time.Hour)
	s.wantSweep("within the quarantine", false, rows(wait, wait, "", "", keep))
	s.clock.move(2 * time.Hour)
	s.wantSweep("after the quarantine", false, rows(orphan.Drop, orphan.Drop, "", "", keep))
	s.wantDatabases(p.database)
	s.wantDatabases(p.terminated)
	s.wantDatabases(p.kept, "role tenant_"+p.kept, "tenant_"+p.kept)
	s.wantDatabases(p.unmarked, "tenant_"+p.unmarked)
	s.wantDatabases(stuck, "role tenant_"+stuck, "tenant_"+stuck)
	s.wantSweep("once more", false, map[string]orphan.Action{"tenant " + p.gone: orphan.Report, "database " + p.kept: keep})

	letGo()
	eventually(t, "the stuck signup has taken its database back", func() bool { return len(s.databases(stuck)) == 0 })
	s.wantWhole(whole)
	s.wantStockWhole()
	if got := s.inStock(); got != readySize {
		t.Errorf("%d databases are ready after all sweeps, want %d", got, readySize)
	}
	stranger.want(http.StatusOK, http.MethodGet, "/api/auth/me", nil)
}

func (s *stack) keep(id string) {
	s.t.Helper()
	if err := s.openRegistry().KeepOrphan(s.t.Context(), id, true); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) wantRecorded(want int) {
	s.t.Helper()
	var recorded int
	if row(s.t, s.registry, `SELECT count(*) FROM orphans`, nil, &recorded); recorded != want {
		s.t.Errorf("%d orphans are recorded, want %d", recorded, want)
	}
}

// TestSweepsAndSignupsDoNotMeet runs sweeps, past all grace, while churches sign up, fail to and are reset.
func TestSweepsAndSignupsDoNotMeet(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 6 {
			s.sweep(false)
			s.clock.move(orphan.Grace)
		}
	}()
	var bodies []map[string]any
	for range 6 {
		bodies = append(bodies, applicant())
	}
	if got := s.storm(bodies); got[http.StatusCreated] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", got, len(bodies))
	}
	<-done
	for _, body := range bodies {
		login := s.post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
		if login.status != http.StatusOK {
			t.Fatalf("login: status %d, want 200\n%s", login.status, login.body)
		}
	}
}

// TestATerminatedSignupThatWasSweptCanBeUndone resets a terminated signup whose database was renamed: it rolls
// back, and nothing is left.
func TestATerminatedSignupThatWasSweptCanBeUndone(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	email, tenantID := s.terminated()
	workflowID, runID := s.newest(email)
	s.sweep(false)
	s.clock.move(orphan.Grace)
	s.sweep(false)
	s.wantDatabases(tenantID, "orphan_"+tenantID, "role tenant_"+tenantID)
	if err := s.reset(workflowID, runID, s.resetPoints(workflowID, runID)[0]); err == nil {
		t.Error("the reset ends well, want it rolled back")
	}
	s.wantNothingLeft()
	s.wantDatabases(tenantID)
}

// A sweep that cannot reach a server forgets nothing of what it has seen there.
func TestSweepKeepsWhatItCannotSee(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	reg := s.openRegistry()
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

// A sweep that is cancelled in the middle of a removal finishes it, and says what it did and what it left.
func TestACancelledSweepReportsWhatItDid(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for range 2 {
		s.forget(s.register(applicant())["tenantId"].(string))
	}
	s.sweep(false)
	s.clock.move(orphan.Grace)
	s.faults.always(orphan.Remove, func(run func() error) error {
		s.cancelSweep()
		return run()
	})
	result, err := orphan.Start(t.Context(), s.temporal, s.queue, orphan.Sweep{})
	if !errors.Is(err, orphan.ErrCancelled) {
		t.Fatalf("the sweep ends with %v, want ErrCancelled", err)
	}
	for i, want := range []orphan.Action{orphan.Rename, orphan.Wait} {
		f := result.Found[i]
		if f.Action != want {
			t.Errorf("the sweep says %s of its orphan %d, want %s", f.Action, i+1, want)
		}
		if renamed := slices.Contains(s.databases(f.ID), "orphan_"+f.ID); renamed != (want == orphan.Rename) {
			t.Errorf("of the orphan %d the sweep says %s; it is renamed: %t", i+1, f.Action, renamed)
		}
	}
}

// cancelSweep cancels the sweep that is running.
func (s *stack) cancelSweep() {
	query := fmt.Sprintf("WorkflowType = '%s' AND TaskQueue = '%s' AND ExecutionStatus = 'Running'", orphan.Workflow, s.queue)
	eventually(s.t, "the sweep is cancelled", func() bool {
		found, err := s.temporal.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil || len(found.Executions) != 1 {
			return false
		}
		return s.temporal.CancelWorkflow(s.t.Context(), found.Executions[0].Execution.WorkflowId, "") == nil
	})
}
