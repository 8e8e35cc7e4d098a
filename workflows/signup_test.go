package workflows

import (
	"context"
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

	"narthex/internal/invitation"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// play runs a saga's workflow in Temporal's test environment, whose clock skips waiting, with scripted activities. It
// records which activities worked, in order, and the values of the search attributes.
type play struct {
	steps    []saga.Step
	question string // and the answer to it:
	isDone   bool

	failures map[string]error // the error of an activity's attempts; it isn't retried
	stalls   map[string]int   // how often an activity fails before it works
	cancelAt string           // the activity during which the workflow is cancelled

	mu       sync.Mutex
	env      *testsuite.TestWorkflowEnvironment
	inputs   []map[string]any // of all attempts
	attempts map[string]int
	worked   []string
	outcomes []string
	failed   string
}

func (p *play) run(t *testing.T, workflow, input any) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	p.env, p.attempts = suite.NewTestWorkflowEnvironment(), map[string]int{}
	p.env.SetTestTimeout(30 * time.Second)
	if err := p.env.SetTypedSearchAttributesOnStart(saga.StartAttributes(p.steps, "t1")); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, step := range p.steps {
		names = append(names, step.Do)
		if step.Undo != "" {
			names = append(names, step.Undo)
		}
	}
	for _, name := range names {
		act := func(_ context.Context, in map[string]any) error { return p.act(name, in) }
		p.env.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: name})
	}
	p.env.RegisterActivityWithOptions(func(_ context.Context, in map[string]any) (bool, error) {
		return p.isDone, p.act(p.question, in)
	}, activity.RegisterOptions{Name: p.question})
	p.env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(arguments mock.Arguments) {
		changed := arguments.Get(0).(temporal.SearchAttributes)
		if outcome, ok := changed.GetKeyword(saga.Outcome); ok {
			p.outcomes = append(p.outcomes, outcome)
		}
		if step, ok := changed.GetKeyword(saga.FailedStep); ok {
			p.failed = step
		}
	})
	p.env.ExecuteWorkflow(workflow, input)
	if !p.env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return p.env.GetWorkflowError()
}

func (p *play) act(name string, in map[string]any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inputs = append(p.inputs, in)
	p.attempts[name]++
	if name == p.cancelAt && p.attempts[name] == 1 {
		p.env.CancelWorkflow()
	}
	if err := p.failures[name]; err != nil {
		return err
	}
	if p.attempts[name] <= p.stalls[name] {
		return errors.New(name + " failed")
	}
	if name != p.question { // always asked here, because the environment treats each run as a reset
		p.worked = append(p.worked, name)
	}
	return nil
}

// kinds are the sagas, each with its steps.
func kinds() map[string]func(t *testing.T, p *play) error {
	return map[string]func(t *testing.T, p *play) error{
		signup.Workflow: func(t *testing.T, p *play) error {
			p.steps, p.question = signup.Steps, signup.IsTenantOpen
			return p.run(t, new(Workflows).Signup, signup.Input{TenantID: "t1", AdminID: "a1"})
		},
		invitation.Workflow: func(t *testing.T, p *play) error {
			p.steps, p.question = invitation.Steps, invitation.IsOffered
			return p.run(t, new(Workflows).Invitation, invitation.Input{TenantID: "t1", AdminID: "a1"})
		},
	}
}

func eachKind(t *testing.T, test func(t *testing.T, run func(t *testing.T, p *play) error)) {
	t.Helper()
	for name, run := range kinds() {
		t.Run(name, func(t *testing.T) { test(t, run) })
	}
}

func (p *play) want(t *testing.T, outcomes []string, worked ...string) {
	t.Helper()
	if !slices.Equal(p.worked, worked) {
		t.Errorf("what worked:\n  %v, want\n  %v", p.worked, worked)
	}
	if !slices.Equal(p.outcomes, outcomes) {
		t.Errorf("the recorded outcomes are %v, want %v", p.outcomes, outcomes)
	}
}

func done(steps []saga.Step) (names []string) {
	for _, step := range steps {
		names = append(names, step.Do)
	}
	return names
}

func undone(steps []saga.Step) (names []string) {
	for _, step := range slices.Backward(steps) {
		if step.Undo != "" {
			names = append(names, step.Undo)
		}
	}
	return names
}

func TestASagaDoesItsSteps(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		p := &play{}
		if err := run(t, p); err != nil {
			t.Errorf("it ends with %v", err)
		}
		p.want(t, []string{saga.OutcomeCompleted}, done(p.steps)...)
	})
}

// Retries, replays and resets are the same function of the same input. (The run's id is empty in this environment, so it is
// tested on a real Temporal.)
func TestASagaGivesEachActivityItsInput(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		commitPoint := steps.steps[len(steps.steps)-1].Do
		p := &play{failures: map[string]error{commitPoint: temporal.NewNonRetryableApplicationError("no", saga.ErrorDatabase, nil)}}
		if run(t, p) == nil {
			t.Error("the workflow completes, want it rolled back")
		}
		if want := len(done(p.steps)) + len(undone(p.steps)) + 1; len(p.inputs) < want { // and the question whether it is open
			t.Errorf("%d attempts of activities, want at least %d", len(p.inputs), want)
		}
		for _, in := range p.inputs {
			if in["tenantId"] != "t1" || in["adminId"] != "a1" {
				t.Errorf("an activity gets %v, want the tenant t1 and the admin a1", in)
			}
		}
	})
}

func TestASagaRetriesAStep(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		p := &play{stalls: map[string]int{steps.steps[1].Do: 3}}
		if err := run(t, p); err != nil {
			t.Errorf("it ends with %v, want it completed: the step works on the fourth attempt", err)
		}
		p.want(t, []string{saga.OutcomeCompleted}, done(p.steps)...)
	})
}

// A failed step is undone too, because it may have worked and its answer may have been lost. A signup's quick steps may all
// have worked in a workflow task that was lost, so all are undone.
func TestASagaUndoesInReverseWhicheverStepFails(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		for i, step := range steps.steps {
			t.Run(step.Do, func(t *testing.T) {
				cause := temporal.NewNonRetryableApplicationError("no", saga.ErrorDatabase, nil)
				p := &play{failures: map[string]error{step.Do: cause}}
				err := run(t, p)
				if failure, ok := errors.AsType[*temporal.ApplicationError](err); !ok || failure.Type() != saga.ErrorDatabase {
					t.Errorf("it ends with %v, want the step's failure", err)
				}
				begun := p.steps
				if p.question == invitation.IsOffered {
					begun = p.steps[:i+1]
				}
				p.want(t, []string{saga.OutcomeRolledBack}, slices.Concat(done(p.steps[:i]), undone(begun))...)
				if p.failed != step.Do {
					t.Errorf("the recorded failed step is %q, want %q", p.failed, step.Do)
				}
			})
		}
	})
}

func TestATakenEmailIsRefused(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		taken := temporal.NewApplicationErrorWithOptions("taken", saga.ErrorEmailTaken, temporal.ApplicationErrorOptions{NonRetryable: true})
		steps := &play{}
		_ = run(t, steps)
		p := &play{failures: map[string]error{steps.steps[1].Do: taken}}
		if run(t, p) == nil {
			t.Error("the workflow completes, want it refused")
		}
		if want := []string{saga.OutcomeRefused}; !slices.Equal(p.outcomes, want) {
			t.Errorf("the recorded outcomes are %v, want %v", p.outcomes, want)
		}
	})
}

func TestACancelledSagaRollsBack(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		p := &play{cancelAt: steps.steps[1].Do}
		err := run(t, p)
		if _, ok := errors.AsType[*temporal.CanceledError](err); !ok {
			t.Errorf("it ends with %v, want a CanceledError", err)
		}
		worked := func(activity string) bool { return slices.Contains(p.worked, activity) }
		if !worked(p.steps[0].Undo) || !worked(p.steps[1].Undo) || worked(p.steps[2].Do) {
			t.Errorf("what worked: %v, want the first two steps undone, and nothing started after the cancel", p.worked)
		}
		if want := []string{saga.OutcomeRolledBack}; !slices.Equal(p.outcomes, want) {
			t.Errorf("the recorded outcomes are %v, want %v", p.outcomes, want)
		}
	})
}

const overAMinute = 9 // attempts: 0.2 s, 0.4 s, … and then 30 s apart

func TestAStuckCompensationIsReported(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		p := &play{
			failures: map[string]error{steps.steps[1].Do: temporal.NewNonRetryableApplicationError("no", saga.ErrorDatabase, nil)},
			stalls:   map[string]int{steps.steps[0].Undo: overAMinute},
		}
		if run(t, p) == nil {
			t.Error("the workflow completes, want the step's failure")
		}
		if want := []string{saga.OutcomeRollbackStuck, saga.OutcomeRolledBack}; !slices.Equal(p.outcomes, want) {
			t.Errorf("the recorded outcomes are %v, want %v", p.outcomes, want)
		}
	})
}

// The commit point's answer was lost, and for over a minute nobody can find out whether it worked.
func TestAStuckQuestionIsReported(t *testing.T) {
	eachKind(t, func(t *testing.T, run func(*testing.T, *play) error) {
		steps := &play{}
		_ = run(t, steps)
		commitPoint := steps.steps[len(steps.steps)-1].Do
		p := &play{
			isDone:   true,
			failures: map[string]error{commitPoint: temporal.NewNonRetryableApplicationError("no", saga.ErrorDatabase, nil)},
			stalls:   map[string]int{steps.question: overAMinute},
		}
		if err := run(t, p); err != nil {
			t.Errorf("it ends with %v, want it completed: it had committed", err)
		}
		p.want(t, []string{saga.OutcomeRollbackStuck, saga.OutcomeCompleted}, done(p.steps[:len(p.steps)-1])...)
	})
}
