// Package runs finds the runs of a saga's workflow, reads their status, and acts on them for operators. It knows no
// subject: a Kind names the workflow and its steps. It needs no worker and no registry.
package runs

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
)

// Kind describes the saga to which runs belong.
type Kind struct {
	Noun     string // for errors: "signup"
	Workflow string // its registered name
	Prefix   string // of its workflow ids
	Steps    []saga.Step

	// Again returns the options and the input for a run that repeats a failed one. read reads the failed run's input.
	Again func(taskQueue string, read func(input any) error) (options client.StartWorkflowOptions, input any, err error)
	// Email returns the email that a saga is to use, and its tenant. read reads the saga's input. Errors: secrets.ErrSealed.
	Email func(keys *secrets.Keys, read func(input any) error) (email, tenantID string, err error)
	// OpenID returns the run that an id from the API names, and whether it is such an id. Nil if the API issues none.
	OpenID func(keys *secrets.Keys, id string) (Run, bool)
}

// Run is one run of a workflow.
type Run struct {
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"`
}

// Operator works with the runs of one kind. It ignores runs of other workflows.
type Operator struct {
	Kind
	Temporal  client.Client
	Keys      *secrets.Keys
	Namespace string
	TaskQueue string
	Emails    Emails // if nil, Replay leaves the check of the email to the saga
}

// Emails says which tenants emails belong to.
type Emails interface {
	// EmailHolder returns the tenant that a normalised email logs in to, or "".
	EmailHolder(ctx context.Context, email string) (tenantID string, err error)
}

var (
	// ErrNotFound means that Temporal doesn't have the run. It keeps closed runs only for its retention period.
	ErrNotFound = errors.New("no such run")
	// ErrSeveral means that an id names several sagas.
	ErrSeveral = errors.New("there are several: use a workflow id")
	// ErrClosed means that the run has ended, so it can't be cancelled.
	ErrClosed = errors.New("it has ended")
)

// Find returns the run that an id names: for a tenant id or a workflow id the newest run, for an id from the API that very
// run. Errors: ErrNotFound, ErrSeveral.
func (o *Operator) Find(ctx context.Context, id string) (Run, error) {
	if o.OpenID != nil {
		if run, ok := o.OpenID(o.Keys, id); ok {
			return run, nil
		}
	}
	if strings.HasPrefix(id, o.Prefix) {
		newest, err := o.describe(ctx, Run{WorkflowID: id})
		return newest.Run, err
	}
	if !ids.Valid(id) {
		return Run{}, ErrNotFound
	}
	newest, err := o.newest(ctx, fmt.Sprintf("TenantId = '%s'", id))
	return newest.Run, err
}

// FindByEmail returns the newest run for a normalised email. Errors: ErrNotFound.
func (o *Operator) FindByEmail(ctx context.Context, email string) (Run, error) {
	hashes, err := o.Keys.EmailIndexes(email)
	if err != nil {
		return Run{}, err
	}
	for _, hash := range hashes {
		run, err := o.Find(ctx, o.Prefix+hash)
		if !errors.Is(err, ErrNotFound) {
			return run, err
		}
	}
	return Run{}, ErrNotFound
}

// Latest returns the newest run of a run's saga, that is, of the same workflow and for the same tenant. A later run under
// the same workflow id for another tenant is another saga. Without a run id, Latest returns the workflow's newest run.
func (o *Operator) Latest(ctx context.Context, run Run) (Entry, error) {
	entry, err := o.describe(ctx, run)
	if err != nil || run.RunID == "" { // without a run id, it is the newest
		return entry, err
	}
	newest, err := o.describe(ctx, Run{WorkflowID: run.WorkflowID})
	if err != nil || newest.TenantID == entry.TenantID {
		return newest, err
	}
	latest, err := o.newest(ctx, fmt.Sprintf("WorkflowId = '%s' AND TenantId = '%s'", run.WorkflowID, entry.TenantID))
	if errors.Is(err, ErrNotFound) { // not listed yet
		return entry, nil
	}
	return latest, err
}

// newest returns the last started run that matches a list filter. Errors: ErrNotFound, ErrSeveral.
func (o *Operator) newest(ctx context.Context, condition string) (Entry, error) {
	found, err := o.all(ctx, o.ofKind()+" AND "+condition)
	if err != nil {
		return Entry{}, err
	}
	if len(found) == 0 {
		return Entry{}, ErrNotFound
	}
	for _, e := range found {
		if e.WorkflowID != found[0].WorkflowID {
			return Entry{}, ErrSeveral
		}
	}
	sortByStart(found)
	return found[0], nil
}

// ofKind returns the list filter that matches only runs of the kind.
func (o *Operator) ofKind() string { return fmt.Sprintf("WorkflowType = '%s'", o.Workflow) }

// describe returns a run or, without a run id, the workflow's newest run. Errors: ErrNotFound.
func (o *Operator) describe(ctx context.Context, run Run) (Entry, error) {
	described, err := o.Temporal.DescribeWorkflowExecution(ctx, run.WorkflowID, run.RunID)
	if err != nil {
		return Entry{}, o.failed("look for", err)
	}
	if described.WorkflowExecutionInfo.GetType().GetName() != o.Workflow {
		return Entry{}, ErrNotFound
	}
	return entryOf(described.WorkflowExecutionInfo), nil
}

// Cancel asks a run to stop and roll back. Errors: ErrNotFound, ErrClosed.
func (o *Operator) Cancel(ctx context.Context, run Run) error {
	entry, err := o.describe(ctx, run)
	if err != nil {
		return err
	}
	if entry.ClosedAt != nil {
		return ErrClosed
	}
	err = o.failed("cancel", o.Temporal.CancelWorkflow(ctx, run.WorkflowID, run.RunID))
	if errors.Is(err, ErrNotFound) { // it was there a moment ago
		return ErrClosed
	}
	if err != nil {
		return err
	}
	entry, err = o.describe(ctx, run)
	if err != nil {
		return err
	}
	if entry.ClosedAt != nil && entry.Outcome != saga.OutcomeRolledBack { // it had ended before the cancel, which Temporal doesn't report
		return ErrClosed
	}
	return nil
}

// Cause opens and returns an activity's failure message, or "".
func (o *Operator) Cause(failure *failurepb.Failure) string {
	if failure == nil {
		return ""
	}
	err := codec.FailureConverter(o.Keys).FailureToError(failure)
	if known, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return known.Message()
	}
	return err.Error()
}

// failed adds to Temporal's err what it was asked for. Errors: ErrNotFound.
func (o *Operator) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	_, notFound := errors.AsType[*serviceerror.NotFound](err)
	_, malformed := errors.AsType[*serviceerror.InvalidArgument](err)
	if notFound || malformed {
		return ErrNotFound
	}
	return fmt.Errorf("%s the %s: %w", doing, o.Noun, err)
}
