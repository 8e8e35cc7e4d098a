// Package runs finds the runs of a saga's workflow, reads how they stand, and acts on them as operators do. It knows no
// subject: a Kind says which workflow, and what its steps are. It needs no worker and no registry.
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

// Kind says which saga's runs they are.
type Kind struct {
	Noun     string // for errors: "signup"
	Workflow string // its registered name
	Prefix   string // of its workflow ids
	Steps    []saga.Step

	// Again makes what a run starts with that repeats a failed one, whose input read reads.
	Again func(taskQueue string, read func(input any) error) (options client.StartWorkflowOptions, input any, err error)
	// Email returns the email that a saga whose input read reads is to have, and for which tenant. Errors: secrets.ErrSealed.
	Email func(keys *secrets.Keys, read func(input any) error) (email, tenantID string, err error)
	// OpenID returns the run that an id names which the API gave out, and whether it is one. Nil if the API gives none out.
	OpenID func(keys *secrets.Keys, id string) (Run, bool)
}

// Run is one run of a workflow.
type Run struct {
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"`
}

// Operator works with the runs of one kind. Runs of other workflows don't exist for it.
type Operator struct {
	Kind
	Temporal  client.Client
	Keys      *secrets.Keys
	Namespace string
	TaskQueue string
	Emails    Emails // if nil, Replay leaves it to the saga to find an email taken
}

// Emails says whom emails belong to.
type Emails interface {
	// EmailHolder returns the tenant that a normalised email logs in to, or "".
	EmailHolder(ctx context.Context, email string) (tenantID string, err error)
}

var (
	// ErrNotFound means that Temporal doesn't have the run, or no longer: it keeps closed ones for its retention.
	ErrNotFound = errors.New("no such run")
	// ErrSeveral means that an id names several sagas.
	ErrSeveral = errors.New("there are several: name one by its workflow id")
	// ErrClosed means that the run has ended, so it can't be cancelled.
	ErrClosed = errors.New("it has ended")
)

// Find returns the run that an id names: a tenant id or a workflow id (the newest run of either), or the id that the API
// gave out (that very run). Errors: ErrNotFound, ErrSeveral.
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

// FindByEmail returns the newest run of a normalised email. Errors: ErrNotFound.
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

// Latest returns the newest run of the saga that a run belongs to: of the same workflow, for the same tenant. What came
// later under the same workflow id for another tenant is another saga. Without a run id it is the workflow's newest.
func (o *Operator) Latest(ctx context.Context, run Run) (Entry, error) {
	entry, err := o.describe(ctx, run)
	if err != nil || run.RunID == "" { // without a run id it is the newest
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

// newest returns the run that started last of those that a list filter takes. Errors: ErrNotFound, ErrSeveral.
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

// ofKind is the list filter that takes runs of the kind alone.
func (o *Operator) ofKind() string { return fmt.Sprintf("WorkflowType = '%s'", o.Workflow) }

// describe returns a run; without a run id the workflow's newest. Errors: ErrNotFound.
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

// Cancel asks a run to stop: it rolls back. Errors: ErrNotFound, ErrClosed.
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
	if entry, err = o.describe(ctx, run); err != nil {
		return err
	}
	if entry.ClosedAt != nil && entry.Outcome != saga.OutcomeRolledBack { // before it was asked: Temporal doesn't say
		return ErrClosed
	}
	return nil
}

// Cause opens what an activity failed with, or "".
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

// failed says what Temporal was asked for when it answered with err. Errors: ErrNotFound.
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
