// Package saga runs the steps of a workflow, and undoes them if one fails for good. It is deterministic and knows no
// subject: its users define the steps and what they make.
package saga

import (
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"narthex/internal/ids"
)

// Step is an activity with the activity that undoes it, and texts that describe both. Undo is empty for the
// commit point. In the texts, {database} stands for the tenant's database and {server} for its server.
type Step struct {
	Do   string
	Undo string

	Doing   string // "create role and database {database} on {server}"
	Undoing string // "drop database and role {database} on {server}"
}

// names returns a replacer for {database} and {server} in a step's texts.
func names(tenantID, server string) *strings.Replacer {
	return strings.NewReplacer("{database}", ids.DatabaseName(tenantID), "{server}", server)
}

// ServerIn returns the server that a step's summary in a tenant's history names, or "".
func (s Step) ServerIn(summary, tenantID string) string {
	before, after, named := strings.Cut(names(tenantID, "{server}").Replace(s.Doing), "{server}")
	rest, began := strings.CutPrefix(summary, before)
	server, ended := strings.CutSuffix(rest, after)
	if !named || !began || !ended {
		return ""
	}
	return server
}

// Saga is a stack of compensations. Each is pushed before its step runs, because a step may work although
// its answer is lost. They run last in, first out, and a rollback never gives up.
type Saga struct {
	Options
	steps    []Step
	input    any
	progress *checklist

	// forward bounds each step, and backward bounds each attempt of a compensation. backward does not limit
	// how often or how long a compensation is retried.
	forward, backward workflow.ActivityOptions
	// quick, if not nil, bounds the first attempt of each step.
	quick *workflow.LocalActivityOptions

	undo []Step
}

// Options are what a saga needs to know about the workflow that it runs for.
type Options struct {
	TenantID string
	Server   string        // shown to people: the PostgreSQL server of the tenant's database, host:port
	Patience time.Duration // how long the rollback waits for one compensation before it continues with the next; 0 means a minute
}

// New returns a saga of the steps. Each step and each compensation gets the input.
func New(steps []Step, input any, options Options) *Saga {
	if options.Patience == 0 {
		options.Patience = patience
	}
	return &Saga{Options: options, steps: steps, input: input, progress: newChecklist(steps, options), forward: forward, backward: backward}
}

// RunQuickly makes the worker try each step first as a local activity within the workflow task. Temporal then learns of
// several steps at once, which saves most of a step's cost. A step whose first attempt fails becomes an activity, with
// retries and its own events in the history.
//
// If a workflow task is lost, the history doesn't show its completed quick steps, and the next attempt may fail at an
// earlier step than the last one that worked. So all compensations are registered first.
func (s *Saga) RunQuickly() {
	s.quick = &quick
	for _, step := range s.steps {
		s.push(step)
	}
}

func (s *Saga) push(step Step) {
	if step.Undo != "" {
		s.undo = append(s.undo, step)
	}
}

// Do registers the step's compensation, then runs the step.
func (s *Saga) Do(ctx workflow.Context, step Step) error {
	if s.quick == nil {
		s.push(step)
	} else if ctx.Err() != nil || s.doQuickly(ctx, step) {
		return ctx.Err()
	}
	err := s.start(workflow.WithActivityOptions(ctx, s.forward), step.Do, step.Doing).Get(ctx, nil)
	s.progress.ended(ctx, step.Do, err)
	return err
}

// doQuickly tries the step as a local activity, and reports whether it worked. A cancel waits until the attempt is over.
func (s *Saga) doQuickly(ctx workflow.Context, step Step) bool {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	options := *s.quick
	options.Summary = s.progress.text(step.Doing)
	err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, options), step.Do, s.input).Get(ctx, nil)
	if err != nil {
		return false
	}
	s.progress.ended(ctx, step.Do, nil)
	return true
}

// start starts an activity with a summary for people.
func (s *Saga) start(ctx workflow.Context, activity, summary string) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	options.Summary = s.progress.text(summary)
	s.progress.began(ctx, activity)
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, s.input)
}

// compensate runs the compensations of all steps that have begun, newest first, and returns when all have
// worked. It finishes even if ctx was cancelled. A compensation that takes too long doesn't delay the others: it is
// retried in the background.
func (s *Saga) compensate(ctx workflow.Context) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	ctx = workflow.WithActivityOptions(ctx, s.backward)
	var late []workflow.Future
	var lateNames []string
	for len(s.undo) > 0 {
		last := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		done := s.start(ctx, last.Undo, "undo: "+last.Undoing)
		if within(ctx, s.Patience, done) {
			s.progress.ended(ctx, last.Undo, nil)
			continue
		}
		late, lateNames = append(late, done), append(lateNames, last.Undo)
		s.progress.stuck(ctx, last.Undo)
		stuck(ctx, last.Undo)
	}
	for i, done := range late {
		_ = done.Get(ctx, nil) // cannot fail: retried without limit, and never cancelled
		s.progress.ended(ctx, lateNames[i], nil)
	}
}

// within waits for done, but no longer than limit, and reports whether done was ready in time.
func within(ctx workflow.Context, limit time.Duration, done workflow.Future) bool {
	timerCtx, stopTimer := workflow.WithCancel(ctx)
	defer stopTimer()
	timer := workflow.NewTimerWithOptions(timerCtx, limit, workflow.TimerOptions{Summary: "until this is reported as stuck"})
	workflow.NewSelector(ctx).
		AddFuture(done, func(workflow.Future) {}).
		AddFuture(timer, func(workflow.Future) {}).
		Select(ctx)
	return done.IsReady()
}
