package activities

import (
	"errors"

	"go.temporal.io/sdk/temporal"

	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/saga"
	"narthex/internal/schema"
	"narthex/internal/secrets"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
)

// forward turns a step's error into the failure that the workflow and the history see. Its type says
// what happened, it is retryable if a retry can help, and its message contains no personal data.
// For a signup that completed and was then reset, the step counts as done.
func forward(doing string, err error) error {
	if err == nil || errors.Is(err, registry.ErrCommitted) {
		return nil
	}
	kind, retry := classify(err)
	options := temporal.ApplicationErrorOptions{NonRetryable: !retry}
	if kind == saga.ErrorEmailTaken {
		options.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(doing+": "+describe(err), kind, options)
}

// undo turns a compensation's error into a failure that is always retried: a rollback never gives up. A
// completed signup is not undone.
func undo(doing string, err error) error {
	if err == nil || errors.Is(err, registry.ErrCommitted) {
		return nil
	}
	kind, _ := classify(err)
	return temporal.NewApplicationErrorWithOptions(doing+": "+describe(err), kind, temporal.ApplicationErrorOptions{})
}

func classify(err error) (kind string, retry bool) {
	switch {
	case errors.Is(err, registry.ErrEmailTaken):
		return saga.ErrorEmailTaken, false
	case errors.Is(err, registry.ErrUndone), errors.Is(err, tenantserver.ErrGone):
		return saga.ErrorUndone, false
	case errors.Is(err, registry.ErrNotOwned), errors.Is(err, tenantserver.ErrNotOwned):
		return saga.ErrorNotOwned, false
	case errors.Is(err, secrets.ErrSealed):
		return saga.ErrorSealing, false
	default:
		return saga.ErrorDatabase, sqlstate.Retry(err)
	}
}

// describe says what went wrong without quoting any values.
func describe(err error) string {
	for _, known := range []error{
		registry.ErrEmailTaken, registry.ErrUndone, registry.ErrNotOwned,
		tenantserver.ErrGone, tenantserver.ErrNotOwned, tenantserver.ErrInUse, secrets.ErrSealed, schema.ErrDirty,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return redact.Error(err)
}
