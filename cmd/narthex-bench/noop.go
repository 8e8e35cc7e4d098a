package main

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/signup"
)

// The cost of durability alone is measured with as many steps as a signup has that do nothing.
const (
	noopQueue    = "bench"
	noopWorkflow = "Noop"
	noopActivity = "nothing"
)

// startNoop starts a worker of the workflow on the client that starts it, so that it starts eagerly.
func startNoop(c client.Client) (stop func(), err error) {
	w := worker.New(c, noopQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(noop, workflow.RegisterOptions{Name: noopWorkflow})
	w.RegisterActivity(nothing)
	if err := w.Start(); err != nil {
		return nil, err
	}
	return w.Stop, nil
}

func noop(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range signup.Steps {
		if err := workflow.ExecuteActivity(ctx, noopActivity).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func nothing(context.Context) error { return nil }

// hashAndRunNoop hashes a password, and runs the workflow to its end.
func hashAndRunNoop(ctx context.Context, c client.Client) error {
	if _, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost); err != nil {
		return err
	}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: noopQueue, EnableEagerStart: true}, noopWorkflow)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}
