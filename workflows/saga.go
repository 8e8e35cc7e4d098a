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
	// Patience is how long the rollback waits for one compensation before it goes on to the next. The
	// late one keeps being tried meanwhile.
	Patience time.Duration
	// Stuck is told, once for each, of a compensation that ran out of patience.
	Stuck func(ctx workflow.Context, undo string)

	undo []compensation
}

type compensation struct {
	name  string
	input any
}

// Do pushes the step's compensation and runs the step, both with the same input.
func (s *Saga) Do(ctx workflow.Context, step signup.Step, input any) error {
	if step.Undo != "" {
		s.undo = append(s.undo, compensation{step.Undo, input})
	}
	ctx = workflow.WithActivityOptions(ctx, s.Forward)
	return workflow.ExecuteActivity(ctx, step.Do, input).Get(ctx, nil)
}

// Compensate runs the compensations of every step that was begun, newest first, and returns when all
// have worked. It runs to its end even where ctx was cancelled.
func (s *Saga) Compensate(ctx workflow.Context) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	ctx = workflow.WithActivityOptions(ctx, s.Backward)
	var late []workflow.Future
	for len(s.undo) > 0 {
		last := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		done := workflow.ExecuteActivity(ctx, last.name, last.input)
		if !within(ctx, s.Patience, done) {
			late = append(late, done)
			s.Stuck(ctx, last.name)
		}
	}
	for _, done := range late {
		_ = done.Get(ctx, nil) // cannot fail: retried without limit, and never cancelled
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
