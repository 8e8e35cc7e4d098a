package saga

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// script runs a saga of the steps a, b, c (undone by undoA, undoB, undoC) in Temporal's test environment, whose clock skips
// waiting. It records the activities that succeed or fail, in order.
type script struct {
	quick    bool
	failures map[string]int // how often an activity fails before it works; -1 means always
	during   map[string]func(*testsuite.TestWorkflowEnvironment)

	log slog.Handler // nil discards

	mu       sync.Mutex
	calls    []string
	outcomes []string // as the search attribute shows them
	shown    []string // steps, as the search attribute shows them
}

var abc = []Step{{Do: "a", Undo: "undoA"}, {Do: "b", Undo: "undoB"}, {Do: "c", Undo: "undoC"}}

func (s *script) run(t *testing.T) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	if s.log == nil {
		s.log = slog.DiscardHandler
	}
	suite.SetLogger(log.NewStructuredLogger(slog.New(s.log)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	attempts := map[string]int{}
	for _, name := range []string{"a", "b", "c", "undoA", "undoB", "undoC"} {
		env.RegisterActivityWithOptions(func(context.Context, string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			attempts[name]++
			if hook := s.during[name]; hook != nil && attempts[name] == 1 {
				hook(env)
			}
			if n := s.failures[name]; n < 0 || attempts[name] <= n {
				s.calls = append(s.calls, name+"!")
				return errors.New(name + " failed")
			}
			s.calls = append(s.calls, name)
			return nil
		}, activity.RegisterOptions{Name: name})
	}
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(arguments mock.Arguments) {
		changed := arguments.Get(0).(temporal.SearchAttributes)
		if outcome, ok := changed.GetKeyword(Outcome); ok {
			s.outcomes = append(s.outcomes, outcome)
		}
		if undo, ok := changed.GetKeyword(CurrentStep); ok {
			s.shown = append(s.shown, undo)
		}
	})
	env.ExecuteWorkflow(s.workflow)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return env.GetWorkflowError()
}

func (s *script) workflow(ctx workflow.Context) error {
	saga := New(abc, "input", Options{TenantID: "the tenant"})
	saga.forward = workflow.ActivityOptions{
		StartToCloseTimeout: time.Second, WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2},
	}
	if s.quick {
		saga.RunQuickly()
	}
	for _, step := range abc {
		if err := saga.Do(ctx, step); err != nil {
			return saga.RollBack(ctx, step, err)
		}
	}
	saga.Complete(ctx)
	return nil
}

func (s *script) want(t *testing.T, calls ...string) {
	t.Helper()
	if !slices.Equal(s.calls, calls) {
		t.Errorf("activities ran as\n  %v, want\n  %v", s.calls, calls)
	}
}

func TestSagaRunsForwardAndUndoesNothing(t *testing.T) {
	s := &script{}
	if err := s.run(t); err != nil {
		t.Fatal(err)
	}
	s.want(t, "a", "b", "c")
}

func TestSagaUndoesInReverseStartingWithTheFailedStep(t *testing.T) {
	s := &script{failures: map[string]int{"b": -1}}
	err := s.run(t)
	var failure *temporal.ApplicationError
	if !errors.As(err, &failure) || failure.Message() != "b failed" {
		t.Errorf("the saga returned %v, want the first cause, \"b failed\"", err)
	}
	s.want(t, "a", "b!", "b!", "undoB", "undoA")
}

func TestSagaRunsQuickSteps(t *testing.T) {
	s := &script{quick: true}
	if err := s.run(t); err != nil {
		t.Fatal(err)
	}
	s.want(t, "a", "b", "c")
}

func TestSagaRetriesAQuickStepAsAnActivity(t *testing.T) {
	s := &script{quick: true, failures: map[string]int{"b": 2}}
	if err := s.run(t); err != nil {
		t.Fatal(err)
	}
	s.want(t, "a", "b!", "b!", "b", "c")
}

// Steps after the failed one may have worked in a workflow task that was lost.
func TestSagaOfQuickStepsUndoesAll(t *testing.T) {
	s := &script{quick: true, failures: map[string]int{"b": -1}}
	if s.run(t) == nil {
		t.Error("the saga succeeded, want the step's error")
	}
	s.want(t, "a", "b!", "b!", "b!", "undoC", "undoB", "undoA")
}

func TestSagaRetriesACompensationUntilItWorks(t *testing.T) {
	s := &script{failures: map[string]int{"b": -1, "undoB": 3}}
	if s.run(t) == nil {
		t.Error("the saga succeeded, want the step's error")
	}
	s.want(t, "a", "b!", "b!", "undoB!", "undoB!", "undoB!", "undoB", "undoA")
	if want := []string{OutcomeRolledBack}; !slices.Equal(s.outcomes, want) {
		t.Errorf("outcomes %v, want %v", s.outcomes, want)
	}
}

// A compensation that exceeds the saga's patience is reported once and doesn't delay the others. The saga waits for it.
func TestSagaContinuesPastAStuckCompensation(t *testing.T) {
	const overAMinute = 9 // attempts: 0.2 s, 0.4 s, … and then 30 s apart
	s := &script{failures: map[string]int{"c": -1, "undoB": overAMinute}}
	if s.run(t) == nil {
		t.Error("the saga succeeded, want the step's error")
	}
	if want := []string{OutcomeRollbackStuck, OutcomeRolledBack}; !slices.Equal(s.outcomes, want) {
		t.Errorf("outcomes %v, want %v", s.outcomes, want)
	}
	if want := []string{"c", "undoB"}; !slices.Equal(s.shown, want) {
		t.Errorf("steps shown %v, want %v", s.shown, want)
	}
	undoA, undoB := slices.Index(s.calls, "undoA"), slices.Index(s.calls, "undoB")
	if undoA < 0 || undoB != len(s.calls)-1 {
		t.Errorf("undoA worked as call %d and undoB as call %d of %d; want undoA before undoB, and undoB last", undoA, undoB, len(s.calls))
	}
}

func TestSagaUndoesAfterACancel(t *testing.T) {
	s := &script{during: map[string]func(*testsuite.TestWorkflowEnvironment){
		"b": func(env *testsuite.TestWorkflowEnvironment) { env.CancelWorkflow() },
	}}
	err := s.run(t)
	if _, ok := errors.AsType[*temporal.CanceledError](err); !ok {
		t.Errorf("the saga returned %v, want a CanceledError", err)
	}
	if len(s.calls) < 3 || s.calls[len(s.calls)-1] != "undoA" || !slices.Contains(s.calls, "undoB") {
		t.Errorf("activities ran as %v, want undoB and then undoA at the end", s.calls)
	}
}

// "Saga ended" names the tenant, and is a WARN if the saga rolled back.
func TestTheEndOfASagaIsLogged(t *testing.T) {
	for failing, want := range map[string]map[string]any{
		"":  {"level": "INFO", "tenantId": "the tenant", "outcome": OutcomeCompleted, "failedStep": ""},
		"b": {"level": "WARN", "tenantId": "the tenant", "outcome": OutcomeRolledBack, "failedStep": "b"},
	} {
		var lines bytes.Buffer
		s := &script{failures: map[string]int{failing: -1}, log: slog.NewJSONHandler(&lines, nil)}
		if err := s.run(t); (err != nil) != (failing != "") {
			t.Errorf("with the failing step %q, the saga returned %v", failing, err)
		}
		ends := 0
		for decoder := json.NewDecoder(&lines); decoder.More(); {
			var line map[string]any
			if err := decoder.Decode(&line); err != nil {
				t.Fatal(err)
			}
			if line["msg"] != "Saga ended" {
				continue
			}
			ends++
			for key, value := range want {
				if line[key] != value {
					t.Errorf("with the failing step %q, the log says %s %v, want %v", failing, key, line[key], value)
				}
			}
		}
		if ends != 1 {
			t.Errorf("with the failing step %q, the end is logged %d times, want once", failing, ends)
		}
	}
}
