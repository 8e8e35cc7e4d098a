package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gin-gonic/gin"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

const maxIdempotencyKey = 255 // characters

// idempotencyKey reads the request's Idempotency-Key, where it has one. Errors: errKeySyntax.
func idempotencyKey(c *gin.Context) (key string, given bool, err error) {
	values := c.Request.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", false, nil
	}
	if len(values) > 1 || !validIdempotencyKey(values[0]) {
		return "", false, errKeySyntax
	}
	return values[0], true, nil
}

func validIdempotencyKey(key string) bool {
	if len(key) == 0 || len(key) > maxIdempotencyKey {
		return false
	}
	for _, b := range []byte(key) {
		if b < 0x21 || b > 0x7e {
			return false
		}
	}
	return true
}

// startUnderKey starts the signup that key stands for, or finds it where an earlier request has started
// it, on whichever API process. Errors: errKeyReused where that request was another.
func (a *api) startUnderKey(ctx context.Context, key string, request registerRequest) (startedSignup, error) {
	wanted, err := a.reservation(key, request)
	if err != nil {
		return startedSignup{}, err
	}
	kept, err := a.Registry.Reservation(ctx, wanted.KeyID, wanted.RequestHash)
	if err == nil && kept.Run.ID != "" {
		return startedUnder(kept, true)
	}
	if errors.Is(err, registry.ErrNotFound) {
		input, err := a.prepare(ctx, request)
		if err != nil {
			return startedSignup{}, err
		}
		wanted.TenantID = input.TenantID
		if wanted.Input, err = json.Marshal(input); err != nil {
			return startedSignup{}, fmt.Errorf("write signup input: %w", err)
		}
	} else if err != nil {
		return startedSignup{}, keyProblem(err)
	} else {
		wanted = kept
	}
	fresh := wanted.TenantID
	if err == nil { // reserved earlier, by whomever
		fresh = ""
	}
	// From here on the client may go away: what is started is also remembered.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*a.AnswerLimit) // less than a claim is good for
	defer cancel()
	repeated := true
	kept, err = a.Registry.Reserve(ctx, wanted, func(kept registry.Reservation) (registry.Run, error) {
		repeated = kept.TenantID != fresh
		return a.startReserved(ctx, kept, request.Email)
	})
	if err != nil {
		return startedSignup{}, keyProblem(err)
	}
	return startedUnder(kept, repeated)
}

func keyProblem(err error) error {
	if errors.Is(err, registry.ErrKeyReused) {
		return errKeyReused
	}
	return err
}

// reservation fingerprints the key and the request. The request's includes the password: who repeats a
// request has to know all of it.
func (a *api) reservation(key string, r registerRequest) (registry.Reservation, error) {
	keyID, err := a.Keys.Fingerprint("idempotency key", key)
	if err != nil {
		return registry.Reservation{}, err
	}
	requestHash, err := a.Keys.Fingerprint("register", r.ChurchName, r.Email, r.Password, r.FirstName, r.LastName)
	return registry.Reservation{KeyID: keyID, RequestHash: requestHash}, err
}

func startedUnder(kept registry.Reservation, repeated bool) (startedSignup, error) {
	started := startedSignup{runID: kept.Run.ID, publicID: kept.Run.PublicID, repeated: repeated}
	if err := json.Unmarshal(kept.Input, &started.input); err != nil {
		return started, errors.New("the signup's input under an idempotency key is damaged")
	}
	return started, nil
}

// startReserved starts a reserved signup, unless an earlier attempt has done so and died before it could
// say so: its run carries the tenant's id.
func (a *api) startReserved(ctx context.Context, kept registry.Reservation, email string) (registry.Run, error) {
	var input signup.Input
	if err := json.Unmarshal(kept.Input, &input); err != nil {
		return registry.Run{}, errors.New("the signup's input under an idempotency key is damaged")
	}
	run, err := a.findRun(ctx, input)
	if err != nil || run.ID != "" {
		return run, err
	}
	if err := a.refuseTaken(ctx, email); err != nil { // ctx is bounded by the caller
		return registry.Run{}, err
	}
	return a.start(ctx, input)
}

// findRun returns the newest run of the input's workflow, where it is this very signup's.
func (a *api) findRun(ctx context.Context, input signup.Input) (registry.Run, error) {
	workflowID := signup.WorkflowID(input.EmailHash)
	described, err := a.Temporal.DescribeWorkflowExecution(ctx, workflowID, "")
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return registry.Run{}, nil
	}
	if err != nil {
		return registry.Run{}, errNotStarted.with(err)
	}
	info := described.GetWorkflowExecutionInfo()
	var tenantID string
	attribute := info.GetSearchAttributes().GetIndexedFields()[saga.TenantID.GetName()]
	if attribute == nil || converter.GetDefaultDataConverter().FromPayload(attribute, &tenantID) != nil || tenantID != input.TenantID {
		return registry.Run{}, nil
	}
	runID := info.GetExecution().GetRunId()
	publicID, err := signup.PublicID(a.Keys, runs.Run{WorkflowID: workflowID, RunID: runID})
	return registry.Run{ID: runID, PublicID: publicID}, err
}
