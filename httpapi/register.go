package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/email"
	"narthex/internal/ids"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/saga"
	"narthex/internal/signup"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
)

const (
	trial    = 14 * 24 * time.Hour
	askAgain = "2" // seconds after which a client may ask for a signup's status
)

type registerRequest struct {
	ChurchName string `json:"churchName"`
	Email      string `json:"email"`
	Password   string `json:"password"`
	FirstName  string `json:"firstName"`
	LastName   string `json:"lastName"`
}

// normalise trims the names and the email and lower-cases the email, and returns what is wrong with
// the request all the same.
func (r *registerRequest) normalise() (wrong Fields) {
	for _, name := range []struct {
		field string
		value *string
	}{{"churchName", &r.ChurchName}, {"firstName", &r.FirstName}, {"lastName", &r.LastName}} {
		*name.value = strings.TrimSpace(*name.value)
		wrong.Check(name.field, text.CheckName(*name.value, 1, 200))
	}
	r.Email = email.Normalise(r.Email)
	wrong.Check("email", email.Check(r.Email))
	wrong.Check("password", password.Check(r.Password))
	return wrong
}

// register signs a church up: it starts the signup, which goes on whatever becomes of this request,
// and waits for it a while.
func (a *api) register(c *gin.Context) error {
	var request registerRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	if err := request.normalise().Err(); err != nil {
		return err
	}
	var started startedSignup
	start := func(c *gin.Context) (err error) {
		if err := a.throttle(c, registerLimits, request.Email); err != nil {
			return err
		}
		started, err = a.startOnce(c, request)
		return err
	}
	if err := within(a.AnswerLimit, start)(c); err != nil {
		return err
	}
	done, err := a.await(c.Request.Context(), started)
	if err != nil {
		return err
	}
	if !done {
		c.Header("Location", "/api/signups/"+started.publicID)
		c.Header("Retry-After", askAgain)
		c.JSON(http.StatusAccepted, gin.H{"signupId": started.publicID, "state": "running"})
		return nil
	}
	return within(a.AnswerLimit, func(c *gin.Context) error { return a.writeFirstSession(c, request, started) })(c)
}

// writeFirstSession logs in the admin whom a signup has made.
func (a *api) writeFirstSession(c *gin.Context, request registerRequest, started startedSignup) (err error) {
	var s session
	if started.repeated { // the password may have been changed since
		s, err = a.authenticate(c.Request.Context(), request.Email, request.Password)
		if errors.Is(err, errCredentials) {
			err = errEmailTaken
		}
	} else {
		s, err = a.firstSession(started.input)
	}
	if err != nil {
		return err
	}
	return a.writeSession(c, http.StatusCreated, s)
}

// startedSignup is a signup that this request, or an earlier one with the same idempotency key, began.
type startedSignup struct {
	input    signup.Input
	runID    string
	publicID string
	repeated bool
}

// startOnce starts the signup, or finds the one that was started under the request's idempotency key.
func (a *api) startOnce(c *gin.Context, request registerRequest) (startedSignup, error) {
	key, given, err := idempotencyKey(c)
	if err != nil {
		return startedSignup{}, err
	}
	if given {
		return a.startUnderKey(c.Request.Context(), key, request)
	}
	input, err := a.prepare(c.Request.Context(), request)
	if err != nil {
		return startedSignup{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), a.AnswerLimit) // the client may go away
	defer cancel()
	run, err := a.start(ctx, input)
	return startedSignup{input: input, runID: run.ID, publicID: run.PublicID}, err
}

// prepare makes the signup's input, unless the email is taken.
func (a *api) prepare(ctx context.Context, request registerRequest) (signup.Input, error) {
	if err := a.refuseTaken(ctx, request.Email); err != nil {
		return signup.Input{}, err
	}
	return a.signupInput(ctx, request)
}

func (a *api) refuseTaken(ctx context.Context, email string) error {
	holder, err := a.Registry.EmailHolder(ctx, email)
	if err != nil {
		return errNotStarted.with(err)
	}
	if holder != "" {
		return errEmailTaken
	}
	return nil
}

// signupInput makes everything that the signup needs and that must be the same however often it is
// retried, replayed or reset: ids, times, hashes and secrets.
func (a *api) signupInput(ctx context.Context, request registerRequest) (signup.Input, error) {
	emailHash, err := a.Keys.EmailIndex(request.Email)
	if err != nil {
		return signup.Input{}, err
	}
	passwordHash, err := a.hasher.Hash(ctx, request.Password)
	if err != nil {
		return signup.Input{}, err
	}
	databasePassword := make([]byte, 32)
	if _, err := rand.Read(databasePassword); err != nil {
		return signup.Input{}, fmt.Errorf("make database password: %w", err)
	}
	now := a.Now().UTC().Truncate(time.Microsecond) // PostgreSQL's precision
	input := signup.Input{TenantID: ids.New(), AdminID: ids.New(), EmailHash: emailHash, RequestedAt: now, TrialEndsAt: now.Add(trial)}
	applicant, err := json.Marshal(signup.Applicant{
		ChurchName: request.ChurchName, Email: request.Email, FirstName: request.FirstName, LastName: request.LastName,
		PasswordHash: string(passwordHash), DatabasePassword: hex.EncodeToString(databasePassword),
	})
	if err != nil {
		return signup.Input{}, fmt.Errorf("write applicant: %w", err)
	}
	input.Applicant, err = a.Keys.Seal(applicant, signup.ApplicantPlace(input.TenantID))
	return input, err
}

// start starts the signup. ctx must not end with the request's.
func (a *api) start(ctx context.Context, input signup.Input) (registry.Run, error) {
	run, err := a.Temporal.ExecuteWorkflow(ctx, signup.StartOptions(a.TaskQueue, input, a.Eager == nil || a.Eager()), signup.Workflow, input)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &running):
		return registry.Run{}, errInProgress
	case err != nil:
		return registry.Run{}, errNotStarted.with(err)
	}
	a.Log.InfoContext(ctx, "signup started", "workflowId", run.GetID(), "runId", run.GetRunID(), "tenantId", input.TenantID)
	publicID, err := signup.PublicID(a.Keys, runs.Run{WorkflowID: run.GetID(), RunID: run.GetRunID()})
	return registry.Run{ID: run.GetRunID(), PublicID: publicID}, err
}

// await waits for the signup, as long as the client and the configuration allow, and reports whether
// it has succeeded in that time. A signup that failed is an error; one that goes on is neither.
func (a *api) await(ctx context.Context, started startedSignup) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.SignupWait)
	defer cancel()
	err = a.Temporal.GetWorkflow(ctx, signup.WorkflowID(started.input.EmailHash), started.runID).Get(ctx, nil)
	var ended *temporal.WorkflowExecutionError
	var failure *temporal.ApplicationError
	var terminated *temporal.TerminatedError
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil || !errors.As(err, &ended):
		return false, nil // still going on, or out of sight: its status will tell
	case errors.As(err, &failure) && failure.Type() == saga.ErrorEmailTaken:
		return false, errEmailTaken
	case errors.As(err, &terminated):
		return false, errUnfinished.in(started.publicID).with(err)
	default:
		return false, errRolledBack.in(started.publicID).with(errors.New("signup rolled back"))
	}
}

// firstSession is of the admin whom a signup has just made.
func (a *api) firstSession(input signup.Input) (session, error) {
	var who signup.Applicant
	applicant, err := a.Keys.Open(input.Applicant, signup.ApplicantPlace(input.TenantID))
	if err == nil {
		err = json.Unmarshal(applicant, &who)
	}
	if err != nil {
		return session{}, errors.New("the signup's input is damaged")
	}
	return session{
		admin: tenantdb.Admin{ID: input.AdminID, Email: who.Email, PasswordHash: who.PasswordHash, FirstName: who.FirstName,
			LastName: who.LastName, Role: registry.RolePrimary},
		church: tenantdb.Church{ID: input.TenantID, Name: who.ChurchName, Email: who.Email, SubscriptionStatus: "trial",
			TrialEndsAt: input.TrialEndsAt},
	}, nil
}
