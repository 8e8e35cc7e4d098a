package workflows

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"narthex/internal/orphan"
)

// sweeper runs SweepOrphans over given orphans, on a clock that skips waiting.
type sweeper struct {
	t      *testing.T
	env    *testsuite.TestWorkflowEnvironment
	found  []orphan.Found
	look   func() error
	remove func(orphan.Orphan) (orphan.Action, error)

	asked   orphan.Sweep
	removed []string
}

func newSweeper(t *testing.T, found ...orphan.Orphan) *sweeper {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s := &sweeper{t: t, env: suite.NewTestWorkflowEnvironment()}
	s.env.SetTestTimeout(30 * time.Second)
	for _, o := range found {
		s.found = append(s.found, orphan.Judge(o, s.env.Now()))
	}
	s.look = func() error { return nil }
	s.remove = func(o orphan.Orphan) (orphan.Action, error) { return o.Due(s.env.Now()), nil }
	s.env.RegisterActivityWithOptions(func(_ context.Context, in orphan.Sweep) (orphan.Result, error) {
		s.asked = in
		return orphan.Result{Found: s.found}.Cut(), s.look()
	}, activity.RegisterOptions{Name: orphan.Find})
	s.env.RegisterActivityWithOptions(func(_ context.Context, o orphan.Orphan) (orphan.Action, error) {
		action, err := s.remove(o)
		if err == nil {
			s.removed = append(s.removed, o.ID)
		}
		return action, err
	}, activity.RegisterOptions{Name: orphan.Remove})
	return s
}

// run returns the sweep's result, even if it was cancelled.
func (s *sweeper) run(in orphan.Sweep) (result orphan.Result, cancelled bool) {
	s.t.Helper()
	s.env.ExecuteWorkflow(new(Workflows).SweepOrphans, in)
	if !s.env.IsWorkflowCompleted() {
		s.t.Fatal("the workflow did not end")
	}
	err := s.env.GetWorkflowError()
	var cancel *temporal.CanceledError
	if cancelled = errors.As(err, &cancel); cancelled {
		err = cancel.Details(&result)
	} else if err == nil {
		err = s.env.GetWorkflowResult(&result)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return result, cancelled
}

func (s *sweeper) want(result orphan.Result, removed []string, actions ...orphan.Action) {
	s.t.Helper()
	if !slices.Equal(s.removed, removed) {
		s.t.Errorf("removed %v, want %v", s.removed, removed)
	}
	var got []orphan.Action
	for _, f := range result.Found {
		got = append(got, f.Action)
	}
	if !slices.Equal(got, actions) {
		s.t.Errorf("the sweep reports %v, want %v", got, actions)
	}
}

// long is a time so long ago that an orphan first seen then is due.
var long = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func rows(id string, firstSeen time.Time) orphan.Orphan {
	return orphan.Orphan{Kind: orphan.Rows, ID: id, TenantID: id, FirstSeenAt: firstSeen}
}

func database(id string) orphan.Orphan {
	return orphan.Orphan{Kind: orphan.Database, ID: id, TenantID: id, Server: "db:5432", FirstSeenAt: long}
}

func TestASweepRemovesWhatIsDue(t *testing.T) {
	half, gone := database("half"), rows("gone", long)
	half.HalfDropped, gone.Kind = true, orphan.Tenant
	s := newSweeper(t, database("whole"), half, rows("rows", long), gone, rows("new", time.Now()))
	result, _ := s.run(orphan.Sweep{})
	s.want(result, []string{"whole", "half", "rows"}, orphan.Rename, orphan.Drop, orphan.Delete, orphan.Report, orphan.Wait)
	f := result.Found[0]
	if f.RenamedAt == nil || f.DueAt == nil || f.Next != orphan.Drop || f.DueAt.Sub(*f.RenamedAt) != orphan.Quarantine {
		t.Errorf("the orphan renamed at %v has the next action %s at %v, want a drop a day later", f.RenamedAt, f.Next, f.DueAt)
	}
	if f := result.Found[1]; f.Next != "" || f.DueAt != nil {
		t.Errorf("the dropped orphan has the next action %s at %v, want none", f.Next, f.DueAt)
	}
}

func TestADryRunRemovesNothing(t *testing.T) {
	s := newSweeper(t, rows("rows", long))
	result, _ := s.run(orphan.Sweep{DryRun: true})
	s.want(result, nil, orphan.Delete)
}

// Nothing is removed without a new search: what was seen yesterday may be a church today.
func TestASweepThatCannotSearchRemovesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		removed  []string
	}{
		"at first": {4, []string{"rows"}},
		"at all":   {5, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSweeper(t, rows("rows", long))
			looks := 0
			s.look = func() error {
				if looks++; looks <= c.failures {
					return errors.New("a server is down")
				}
				return nil
			}
			s.env.ExecuteWorkflow(new(Workflows).SweepOrphans, orphan.Sweep{})
			err := s.env.GetWorkflowError()
			if (err == nil) != (c.removed != nil) || !slices.Equal(s.removed, c.removed) {
				t.Errorf("it ends with %v and has removed %v, want %v", err, s.removed, c.removed)
			}
		})
	}
}

// A cancel between two removals leaves the rest, and the result says so.
func TestACancelledSweepReportsWhatItDid(t *testing.T) {
	s := newSweeper(t, rows("a", long), rows("b", long), rows("c", long))
	s.env.RegisterDelayedCallback(s.env.CancelWorkflow, 5*time.Second)
	result, cancelled := s.run(orphan.Sweep{})
	s.want(result, []string{"a"}, orphan.Delete, orphan.Wait, orphan.Wait)
	if !cancelled {
		t.Error("the sweep completed, want it cancelled")
	}
}

// A removal during which the sweep is cancelled is finished and reported.
func TestACancelledSweepFinishesARemoval(t *testing.T) {
	s := newSweeper(t, rows("a", long), rows("b", long))
	s.remove = func(orphan.Orphan) (orphan.Action, error) {
		s.env.CancelWorkflow()
		time.Sleep(50 * time.Millisecond)
		return orphan.Delete, nil
	}
	result, cancelled := s.run(orphan.Sweep{})
	s.want(result, []string{"a"}, orphan.Delete, orphan.Wait)
	if !cancelled {
		t.Error("the sweep completed, want it cancelled")
	}
}

func TestACancelAfterTheLastRemovalChangesNothing(t *testing.T) {
	s := newSweeper(t, rows("a", long))
	s.remove = func(orphan.Orphan) (orphan.Action, error) {
		s.env.CancelWorkflow()
		time.Sleep(50 * time.Millisecond)
		return orphan.Delete, nil
	}
	result, cancelled := s.run(orphan.Sweep{})
	s.want(result, []string{"a"}, orphan.Delete)
	if cancelled {
		t.Error("the sweep is cancelled, want it completed, because nothing was left to do")
	}
}

// An orphan that can't be removed doesn't stop the others.
func TestAFailedRemovalIsReported(t *testing.T) {
	s := newSweeper(t, rows("a", long), rows("b", long))
	s.remove = func(o orphan.Orphan) (orphan.Action, error) {
		if o.ID == "a" {
			return "", errors.New("the registry is down")
		}
		return orphan.Delete, nil
	}
	result, _ := s.run(orphan.Sweep{})
	s.want(result, []string{"b"}, orphan.Failed, orphan.Delete)
	if result.Failed() != 1 {
		t.Errorf("%d are counted as failed, want 1", result.Failed())
	}
}

// The orphans that one sweep removes are chosen at random.
func TestASweepLimitsParallelRemovals(t *testing.T) {
	var found []orphan.Orphan
	for i := range orphan.AtOnce + 2 {
		found = append(found, rows(strconv.Itoa(i), long))
	}
	s := newSweeper(t, found...)
	result, _ := s.run(orphan.Sweep{})
	var want []string
	var actions []orphan.Action
	for _, f := range result.Found {
		if actions = append(actions, orphan.Wait); f.Action == orphan.Delete {
			want, actions[len(actions)-1] = append(want, f.ID), orphan.Delete
		}
	}
	slices.Sort(s.removed)
	slices.Sort(want)
	s.want(result, want, actions...)
	if removed := len(slices.Compact(s.removed)); removed != orphan.AtOnce || len(result.Found) != len(found) {
		t.Errorf("%d of %d orphans are removed, want %d of %d", removed, len(result.Found), orphan.AtOnce, len(found))
	}
}

// An operator waits for a single removal, so there is no pause between its rows and its database.
func TestARemovalByHandDoesNotPause(t *testing.T) {
	s := newSweeper(t, rows("a", long), database("a"))
	start := s.env.Now()
	result, _ := s.run(orphan.Sweep{Only: "a"})
	s.want(result, []string{"a", "a"}, orphan.Delete, orphan.Rename)
	if s.asked.Only != "a" {
		t.Errorf("it searches for %+v, want only a", s.asked)
	}
	if took := s.env.Now().Sub(start); took > 5*time.Second {
		t.Errorf("it took %s, want no pause", took)
	}
}
