package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"narthex/internal/signup"
)

// Saga is a stack of compensations. Each is put on the stack before its step runs, because a step may
// have worked and its answer been lost; they run last in, first out, and a rollback never gives up.
type Saga struct {
	// Forward bounds each step, Backward each attempt of a compensation; Backward sets no limit on
	// how often and how long a compensation is tried.
	Forward, Backward workflow.ActivityOptions
	// Quick, if not nil, bounds a first attempt of each step that the worker makes within the workflow task, as
	// a local activity: Temporal hears of several steps at once, which spares most of what a step costs. A step
	// whose first attempt fails becomes an activity, with its retries and its place in the history. The
	// compensations of quick steps are to be put on the stack beforehand, by Plan.
	Quick *workflow.LocalActivityOptions
	// Patience is how long the rollback waits for one compensation before it goes on to the next. The
	// late one keeps being tried meanwhile.
	Patience time.Duration
	// Stuck is told, once for each, of a compensation that ran out of patience.
	Stuck func(ctx workflow.Context, undo string)
	// Progress, if not nil, shows people how far it has come.
	Progress *Checklist

	undo []compensation
}

type compensation struct {
	step  signup.Step
	input any
}

// Plan pushes the compensations of all steps before the first of them runs. What quick steps have done is
// lost to the history where their workflow task is lost, with its worker or to a cancel: who begins anew may
// fail at an earlier step than the last that worked, and must undo that one too.
func (s *Saga) Plan(steps []signup.Step, input any) {
	for _, step := range steps {
		s.push(step, input)
	}
}

func (s *Saga) push(step signup.Step, input any) {
	if step.Undo != "" {
		s.undo = append(s.undo, compensation{step, input})
	}
}

// Do runs the step, having pushed its compensation, with the same input.
func (s *Saga) Do(ctx workflow.Context, step signup.Step, input any) error {
	if s.Quick == nil {
		s.push(step, input)
	} else if ctx.Err() != nil || s.quickly(ctx, step, input) {
		return ctx.Err()
	}
	err := s.start(workflow.WithActivityOptions(ctx, s.Forward), step.Do, step.Doing, input).Get(ctx, nil)
	s.Progress.ended(ctx, step.Do, err)
	return err
}

// quickly tries the step as a local activity, and reports whether it worked. A cancel waits until it is over.
func (s *Saga) quickly(ctx workflow.Context, step signup.Step, input any) bool {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	options := *s.Quick
	options.Summary = s.Progress.text(step.Doing)
	if workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, options), step.Do, input).Get(ctx, nil) != nil {
		return false
	}
	s.Progress.ended(ctx, step.Do, nil)
	return true
}

// start starts an activity, with a text for people.
func (s *Saga) start(ctx workflow.Context, activity, summary string, input any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	options.Summary = s.Progress.text(summary)
	s.Progress.began(ctx, activity)
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, input)
}

// Compensate runs the compensations of every step that was begun, newest first, and returns when all
// have worked. It runs to its end even where ctx was cancelled.
func (s *Saga) Compensate(ctx workflow.Context) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	ctx = workflow.WithActivityOptions(ctx, s.Backward)
	var late []workflow.Future
	var lateNames []string
	for len(s.undo) > 0 {
		last := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		done := s.start(ctx, last.step.Undo, "undo: "+last.step.Undoing, last.input)
		if within(ctx, s.Patience, done) {
			s.Progress.ended(ctx, last.step.Undo, nil)
			continue
		}
		late, lateNames = append(late, done), append(lateNames, last.step.Undo)
		s.Progress.stuck(ctx, last.step.Undo)
		s.Stuck(ctx, last.step.Undo)
	}
	for i, done := range late {
		_ = done.Get(ctx, nil) // cannot fail: retried without limit, and never cancelled
		s.Progress.ended(ctx, lateNames[i], nil)
	}
}

// within waits for done, but no longer than limit, and reports whether it came.
func within(ctx workflow.Context, limit time.Duration, done workflow.Future) bool {
	timerCtx, stopTimer := workflow.WithCancel(ctx)
	defer stopTimer()
	timer := workflow.NewTimer(timerCtx, limit)
	workflow.NewSelector(ctx).
		AddFuture(done, func(workflow.Future) {}).
		AddFuture(timer, func(workflow.Future) {}).
		Select(ctx)
	return done.IsReady()
}
