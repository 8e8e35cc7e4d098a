package signups

import (
	"context"
	"errors"
	"fmt"
	"strings"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/codec"
	"narthex/internal/ids"
	"narthex/internal/saga"
	"narthex/internal/secrets"
	"narthex/internal/signup"
)

// Operator finds signups, and acts on them as operators do. It needs no registry.
type Operator struct {
	Temporal  client.Client
	Keys      *secrets.Keys
	Namespace string
	TaskQueue string
	Steps     []saga.Step
}

// Read returns how a signup's run stands. Errors: ErrNotFound, or why Temporal did not answer.
func (o *Operator) Read(ctx context.Context, run Run) (Status, error) {
	return Read(ctx, o.Temporal, o.Keys, run, o.Steps)
}

// Cause opens what an activity failed with, or "".
func (o *Operator) Cause(failure *failurepb.Failure) string {
	if failure == nil {
		return ""
	}
	err := codec.FailureConverter(o.Keys).FailureToError(failure)
	var known *temporal.ApplicationError
	if errors.As(err, &known) {
		return known.Message()
	}
	return err.Error()
}

// Find returns the run that an id names: a tenant id, a workflow id (the newest run of either), or the id
// that the API gave out (that very run). Errors: ErrNotFound.
func (o *Operator) Find(ctx context.Context, id string) (Run, error) {
	if run, ok := OpenPublicID(o.Keys, id); ok {
		return run, nil
	}
	if strings.HasPrefix(id, signup.WorkflowID("")) {
		return o.newest(ctx, id)
	}
	if !ids.Valid(id) {
		return Run{}, ErrNotFound
	}
	found, err := o.list(ctx, fmt.Sprintf("TenantId = '%s'", id), 1)
	if err != nil {
		return Run{}, err
	}
	if len(found) == 0 {
		return Run{}, ErrNotFound
	}
	return found[0].Run, nil
}

// FindByEmail returns the newest run of a normalised email's signup. Errors: ErrNotFound.
func (o *Operator) FindByEmail(ctx context.Context, email string) (Run, error) {
	hashes, err := o.Keys.EmailIndexes(email)
	if err != nil {
		return Run{}, err
	}
	for _, hash := range hashes {
		run, err := o.newest(ctx, signup.WorkflowID(hash))
		if !errors.Is(err, ErrNotFound) {
			return run, err
		}
	}
	return Run{}, ErrNotFound
}

func (o *Operator) newest(ctx context.Context, workflowID string) (Run, error) {
	entry, err := o.describe(ctx, workflowID)
	return entry.Run, err
}

// describe returns a workflow's newest run.
func (o *Operator) describe(ctx context.Context, workflowID string) (Entry, error) {
	described, err := o.Temporal.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return Entry{}, inTemporal("look for the signup", err)
	}
	if described.WorkflowExecutionInfo.GetType().GetName() != signup.Workflow {
		return Entry{}, ErrNotFound
	}
	return entryOf(described.WorkflowExecutionInfo), nil
}

// Cancel asks a running signup to stop: it rolls back. Errors: ErrNotFound, ErrClosed.
func (o *Operator) Cancel(ctx context.Context, run Run) error {
	status, err := o.Read(ctx, run)
	if err != nil {
		return err
	}
	if status.State != Running {
		return ErrClosed
	}
	return inTemporal("cancel the signup", o.Temporal.CancelWorkflow(ctx, run.WorkflowID, run.RunID))
}

// inTemporal says what Temporal was asked for when it answered with err. Errors: ErrNotFound.
func inTemporal(doing string, err error) error {
	var notFound *serviceerror.NotFound
	var malformed *serviceerror.InvalidArgument
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notFound), errors.As(err, &malformed):
		return ErrNotFound
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ReadPending returns how a run stands as Read does, and how often what is running was tried.
func (o *Operator) ReadPending(ctx context.Context, run Run) (Status, error) {
	status, err := o.Read(ctx, run)
	if err != nil || status.State != Running {
		return status, err
	}
	described, err := o.Temporal.DescribeWorkflowExecution(ctx, run.WorkflowID, run.RunID)
	if err != nil {
		return Status{}, inTemporal("look at the signup", err)
	}
	for _, pending := range described.PendingActivities {
		if activity := status.activity(pending.ActivityType.Name); activity != nil {
			activity.Attempts, activity.Failure = int(pending.Attempt), pending.LastFailure
		}
	}
	return status, nil
}

func (s Status) activity(name string) *Activity {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i].Activity
		}
		if undo := s.Steps[i].Undo; undo != nil && undo.Name == name {
			return undo
		}
	}
	return nil
}
