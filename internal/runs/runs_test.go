package runs_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/codec"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/runs"
	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// thing is the input of these tests' sagas.
type thing struct{ TenantID string }

var steps = []saga.Step{{Do: "make", Undo: "unmake", Doing: "make {database} on {server}"}, {Do: "open"}}

// things is an operator of the test's own kind of saga, and a worker whose first step can be scripted.
type things struct {
	*runs.Operator
	t *testing.T

	mu   sync.Mutex
	fate map[string]string // by tenant: "fail", "hang", "refuse", "stick" in the rollback, or "" to work
}

// dial connects to Temporal, whose payloads are sealed under keys and where sagas may have their attributes.
func dial(t testing.TB, keys *secrets.Keys) client.Client {
	t.Helper()
	options := client.Options{HostPort: testenv.TemporalAddress(t), Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))}
	codec.Seal(&options, keys)
	c, err := client.Dial(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := searchattributes.Ensure(t.Context(), c, client.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
	return c
}

func newThings(t *testing.T) *things {
	t.Helper()
	keys := testenv.Keys(t)
	temporalClient := dial(t, keys)
	s := &things{t: t, fate: map[string]string{}}
	s.Operator = &runs.Operator{
		Kind:     runs.Kind{Noun: "thing", Workflow: "Thing-" + ids.New(), Prefix: "thing-", Steps: steps, Again: s.again},
		Temporal: temporalClient, Keys: keys, Namespace: client.DefaultNamespace, TaskQueue: ids.New(),
	}
	w := worker.New(temporalClient, s.TaskQueue, worker.Options{})
	for _, name := range []string{s.Workflow, s.Workflow + "-other"} {
		w.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivityWithOptions(s.make, activity.RegisterOptions{Name: "make"})
	w.RegisterActivityWithOptions(s.unmake, activity.RegisterOptions{Name: "unmake"})
	w.RegisterActivityWithOptions(func(thing) error { return nil }, activity.RegisterOptions{Name: "open"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return s
}

func run(ctx workflow.Context, in thing) error {
	s := saga.New(steps, in, saga.Options{TenantID: in.TenantID, Server: "db:5432", Patience: 100 * time.Millisecond})
	for _, step := range steps {
		if err := s.Do(ctx, step); err != nil {
			return s.RollBack(ctx, step, err)
		}
	}
	s.Complete(ctx)
	return nil
}

func (s *things) make(ctx context.Context, in thing) error {
	for {
		s.mu.Lock()
		fate := s.fate[in.TenantID]
		s.mu.Unlock()
		switch fate {
		case "":
			return nil
		case "fail", "stick":
			return temporal.NewNonRetryableApplicationError("no", saga.ErrorDatabase, nil)
		case "refuse":
			return temporal.NewNonRetryableApplicationError("no", saga.ErrorEmailTaken, nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *things) unmake(in thing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fate[in.TenantID] == "stick" {
		return errors.New("not yet")
	}
	return nil
}

func (s *things) will(tenantID, fate string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fate[tenantID] = fate
}

func (s *things) again(taskQueue string, read func(any) error) (client.StartWorkflowOptions, any, error) {
	var in thing
	err := read(&in)
	return client.StartWorkflowOptions{TaskQueue: taskQueue, TypedSearchAttributes: saga.StartAttributes(steps, in.TenantID)}, in, err
}

// start starts a run of a workflow for a tenant. Unless the run is to hang, it waits for the end.
func (s *things) start(workflowID, tenantID, fate string) runs.Run {
	s.t.Helper()
	return s.startOf(s.Workflow, workflowID, tenantID, fate)
}

func (s *things) startOf(workflow, workflowID, tenantID, fate string) runs.Run {
	s.t.Helper()
	s.will(tenantID, fate)
	options := client.StartWorkflowOptions{
		ID: workflowID, TaskQueue: s.TaskQueue, TypedSearchAttributes: saga.StartAttributes(steps, tenantID),
	}
	started, err := s.Temporal.ExecuteWorkflow(s.t.Context(), options, workflow, thing{tenantID})
	if err != nil {
		s.t.Fatal(err)
	}
	if fate != "hang" && fate != "stick" {
		_ = started.Get(s.t.Context(), nil) // fails if it is to
	}
	return runs.Run{WorkflowID: started.GetID(), RunID: started.GetRunID()}
}

// terminate terminates a run once its first step is running.
func (s *things) terminate(run runs.Run) {
	s.t.Helper()
	s.eventually("the first step has begun", func() bool {
		status, err := s.Read(s.t.Context(), run)
		return err == nil && status.Steps[0].State == runs.Running
	})
	if err := s.Temporal.TerminateWorkflow(s.t.Context(), run.WorkflowID, run.RunID, "a test"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *things) eventually(what string, there func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// A run is the same in a list and by itself, whatever its outcome.
func TestOutcomesOfRuns(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	became := map[string]string{}
	for fate, outcome := range map[string]string{
		"": saga.OutcomeCompleted, "fail": saga.OutcomeRolledBack, "refuse": saga.OutcomeRefused, "stick": saga.OutcomeRollbackStuck,
		"hang": saga.OutcomeRunning,
	} {
		tenant := ids.New()
		became[tenant] = outcome
		run := s.start("thing-"+tenant, tenant, fate)
		if outcome == saga.OutcomeRollbackStuck {
			s.eventually("the rollback is stuck", func() bool {
				status, err := s.Read(t.Context(), run)
				return err == nil && status.Outcome == outcome
			})
		}
		status, err := s.Read(t.Context(), run)
		if err != nil || status.Outcome != outcome || status.TenantID != tenant {
			t.Errorf("%s: by itself, it is %s of the tenant %s (%v), want %s of %s", fate, status.Outcome, status.TenantID, err, outcome, tenant)
		}
		if status.Server != "db:5432" && fate != "hang" { // its first step may not have started yet
			t.Errorf("%s: the server is %q, want the one in the first step's summary", fate, status.Server)
		}
	}
	terminated := ids.New()
	became[terminated] = runs.OutcomeTerminated
	s.terminate(s.start("thing-"+terminated, terminated, "hang"))
	s.eventually("all are listed with their outcomes", func() bool {
		entries, _, err := s.List(t.Context(), runs.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		listed := map[string]string{}
		for _, e := range entries {
			listed[e.TenantID] = e.Outcome
		}
		return maps.Equal(listed, became)
	})
	for tenant := range became {
		s.will(tenant, "")
	}
}

// found finds a tenant's run, once Temporal lists it.
func (s *things) found(tenantID string) runs.Run {
	s.t.Helper()
	var run runs.Run
	s.eventually("the tenant's run is listed", func() (there bool) {
		var err error
		run, err = s.Find(s.t.Context(), tenantID)
		return err == nil
	})
	return run
}

func (s *things) replay(run runs.Run) (became runs.State) {
	s.t.Helper()
	again, err := s.Replay(s.t.Context(), run)
	if err != nil {
		s.t.Fatalf("replay: %v", err)
	}
	status, err := s.AwaitEnd(s.t.Context(), again)
	if err != nil {
		s.t.Fatal(err)
	}
	return status.State
}

func TestAnotherWorkflowsRunsAreNotFound(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	tenant, other := ids.New(), ids.New()
	own := s.start("thing-"+tenant, tenant, "")
	later := s.startOf(s.Workflow+"-other", "other-"+tenant, tenant, "hang")
	defer func() {
		_ = s.Temporal.TerminateWorkflow(context.WithoutCancel(t.Context()), later.WorkflowID, later.RunID, "a test")
	}()
	s.startOf(s.Workflow+"-other", "other-"+other, other, "")
	if got := s.found(tenant); got != own {
		t.Errorf("the tenant's run is %v, want %v and not the other workflow's", got, own)
	}
	for name, do := range map[string]func() error{
		"find by tenant":      func() error { _, err := s.Find(t.Context(), other); return err },
		"find by workflow id": func() error { _, err := s.Find(t.Context(), later.WorkflowID); return err },
		"read":                func() error { _, err := s.Read(t.Context(), later); return err },
		"watch":               func() error { return s.Watch(t.Context(), later, func(runs.Status) {}) },
		"replay":              func() error { _, err := s.Replay(t.Context(), later); return err },
		"cancel":              func() error { return s.Cancel(t.Context(), later) },
	} {
		if err := do(); !errors.Is(err, runs.ErrNotFound) {
			t.Errorf("%s of another workflow's run: %v, want ErrNotFound", name, err)
		}
	}
}

func TestATenantWithSeveralRunsIsAmbiguous(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	tenant := ids.New()
	s.start("thing-"+ids.New(), tenant, "")
	s.start("thing-"+ids.New(), tenant, "")
	s.eventually("both are listed", func() bool {
		_, err := s.Find(t.Context(), tenant)
		return errors.Is(err, runs.ErrSeveral)
	})
}

// A signup was terminated halfway, and the applicant tried again in vain. The first signup can still be replayed.
func TestReplayActsOnTheNamedSagaWhateverCameLater(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	workflowID, first, second := "thing-"+ids.New(), ids.New(), ids.New()
	stopped := s.start(workflowID, first, "hang")
	s.terminate(stopped)
	s.start(workflowID, second, "fail")
	s.will(first, "")
	if became := s.replay(s.found(first)); became != runs.Completed {
		t.Errorf("the first became %s, want completed", became)
	}
	if got := s.found(second); got.RunID == stopped.RunID {
		t.Errorf("the second's run is %v, want its own", got)
	}
	s.will(second, "")
	if became := s.replay(s.found(second)); became != runs.Completed {
		t.Errorf("the second became %s, want completed", became)
	}
	if _, err := s.Replay(t.Context(), stopped); !errors.Is(err, runs.ErrSucceeded) {
		t.Errorf("a replay of the first's oldest run: %v, want ErrSucceeded", err)
	}
}

// A replayed run stands for its saga, not for whatever ran last under its workflow id.
func TestReplayOfAnOldRunActsOnItsOwnSaga(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	workflowID, first, second := "thing-"+ids.New(), ids.New(), ids.New()
	old := s.start(workflowID, first, "fail")
	later := s.start(workflowID, second, "hang")
	if _, err := s.Replay(t.Context(), old); !errors.Is(err, runs.ErrOtherRunning) {
		t.Errorf("while another runs: %v, want ErrOtherRunning", err)
	}
	s.terminate(later)
	s.will(first, "")
	if became := s.replay(old); became != runs.Completed {
		t.Errorf("it became %s, want completed", became)
	}
	latest, err := s.Latest(t.Context(), old)
	if err != nil || latest.TenantID != first || latest.RunID == old.RunID {
		t.Errorf("the old run's saga is now at %v (%v), want a newer run of the tenant %s", latest, err, first)
	}
}

// closing makes a run end just before it is cancelled.
type closing struct {
	client.Client
	end func(workflowID, runID string)
}

func (c closing) CancelWorkflow(ctx context.Context, workflowID, runID string) error {
	c.end(workflowID, runID)
	return c.Client.CancelWorkflow(ctx, workflowID, runID)
}

func TestCancellingAnEndedRunSaysSo(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	if err := s.Cancel(t.Context(), s.start("thing-"+ids.New(), ids.New(), "")); !errors.Is(err, runs.ErrClosed) {
		t.Errorf("cancel of a completed run: %v, want ErrClosed", err)
	}
	tenant := ids.New()
	for name, end := range map[string]func(workflowID, runID string){
		"is terminated": func(workflowID, runID string) { s.terminate(runs.Run{WorkflowID: workflowID, RunID: runID}) },
		"completes": func(workflowID, runID string) {
			s.will(tenant, "")
			_ = s.Temporal.GetWorkflow(t.Context(), workflowID, runID).Get(t.Context(), nil)
		},
	} {
		racing := *s.Operator
		racing.Temporal = closing{s.Temporal, end}
		if err := racing.Cancel(t.Context(), s.start("thing-"+ids.New(), tenant, "hang")); !errors.Is(err, runs.ErrClosed) {
			t.Errorf("cancel of a run that %s just then: %v, want ErrClosed", name, err)
		}
	}
	running := s.start("thing-"+ids.New(), ids.New(), "hang")
	if err := s.Cancel(t.Context(), running); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if status, err := s.AwaitEnd(t.Context(), running); err != nil || status.State != runs.RolledBack {
		t.Errorf("a cancelled run became %+v (%v), want it rolled back", status, err)
	}
}

// tenants waits until the list has want runs, and returns their tenants.
func (s *things) tenants(filter runs.Filter, want int) (tenants []string, more bool) {
	s.t.Helper()
	s.eventually("all are listed", func() bool {
		var entries []runs.Entry
		var err error
		entries, more, err = s.List(s.t.Context(), filter)
		if err != nil {
			s.t.Fatal(err)
		}
		tenants = nil
		for _, e := range entries {
			tenants = append(tenants, e.TenantID)
		}
		return len(tenants) == want
	})
	return tenants, more
}

func TestListSortsByStart(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	a, b, c := ids.New(), ids.New(), ids.New()
	longest := s.start("thing-"+a, a, "hang")
	s.start("thing-"+b, b, "")
	status, err := s.Read(t.Context(), s.start("thing-"+c, c, ""))
	if err != nil {
		t.Fatal(err)
	}
	s.will(a, "")
	if _, err := s.AwaitEnd(t.Context(), longest); err != nil { // started first, ends last
		t.Fatal(err)
	}
	s.tenants(runs.Filter{Outcome: saga.OutcomeCompleted}, 3)
	for name, x := range map[string]struct {
		filter runs.Filter
		want   []string
		more   bool
	}{
		"all":             {runs.Filter{}, []string{c, b, a}, false},
		"a limit":         {runs.Filter{Limit: 2}, []string{c, b}, true},
		"a loose limit":   {runs.Filter{Limit: 3}, []string{c, b, a}, false},
		"until":           {runs.Filter{Until: status.StartedAt}, []string{b, a}, false},
		"until and limit": {runs.Filter{Until: status.StartedAt, Limit: 1}, []string{b}, true},
		"since":           {runs.Filter{Since: status.StartedAt, Limit: 9}, []string{c}, false},
	} {
		if got, more := s.tenants(x.filter, len(x.want)); !slices.Equal(got, x.want) || more != x.more {
			t.Errorf("%s: %v, more %t; want %v, more %t", name, got, more, x.want, x.more)
		}
	}
}

func TestListsAndReplaysWhatHasFailed(t *testing.T) {
	t.Parallel()
	s := newThings(t)
	rolledBack, replayed, terminated, tried, completed := ids.New(), ids.New(), ids.New(), ids.New(), ids.New()
	s.start("thing-1-"+rolledBack, rolledBack, "fail")
	old := s.start("thing-2-"+replayed, replayed, "fail")
	s.will(replayed, "")
	s.replay(old)
	s.terminate(s.start("thing-3-"+terminated, terminated, "hang"))
	s.start("thing-3-"+terminated, tried, "fail") // under the same workflow id
	s.start("thing-4-"+completed, completed, "")
	s.tenants(runs.Filter{Outcome: saga.OutcomeCompleted}, 2)
	s.tenants(runs.Filter{Outcome: runs.OutcomeTerminated}, 1)
	s.tenants(runs.Filter{Outcome: saga.OutcomeRolledBack}, 3)

	want := []string{tried, terminated, rolledBack}
	if got, _ := s.tenants(runs.Filter{Failed: true, Limit: 9}, 3); !slices.Equal(got, want) {
		t.Errorf("failed: %v, want %v", got, want)
	}
	if got, more := s.tenants(runs.Filter{Failed: true, Limit: 2}, 2); !slices.Equal(got, want[:2]) || !more {
		t.Errorf("the first two that failed: %v, more %t; want %v and more", got, more, want[:2])
	}
	entries, err := s.Replayable(t.Context(), time.Time{})
	var got []string
	for _, e := range entries {
		got = append(got, e.TenantID)
	}
	if want := []string{terminated, rolledBack}; err != nil || !slices.Equal(got, want) {
		t.Errorf("to be replayed: %v (%v), want %v: one of each workflow id, the terminated one first", got, err, want)
	}
}
