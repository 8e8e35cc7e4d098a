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
	"github.com/go-playground/validator/v10"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"

	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/signup"
	"narthex/internal/tenantdb"
)

const (
	trial        = 14 * 24 * time.Hour
	passwordCost = 10              // bcrypt
	minPassword  = 8               // bytes
	maxPassword  = 72              // bytes; bcrypt reads no further
	leastStart   = 5 * time.Second // Temporal may take this long to accept a signup, or as long as the wait
	askAgain     = "2"             // seconds after which a client may ask for a signup's status
)

type registerRequest struct {
	ChurchName string `json:"churchName"`
	Email      string `json:"email"`
	Password   string `json:"password"`
	FirstName  string `json:"firstName"`
	LastName   string `json:"lastName"`
}

var emailSyntax = validator.New()

// normalise trims the names and the email and lower-cases the email, and returns what is wrong with
// the request all the same.
func (r *registerRequest) normalise() (wrong []fieldError) {
	check := func(field, problem string) {
		if problem != "" {
			wrong = append(wrong, fieldError{field, problem})
		}
	}
	for _, name := range []struct {
		field string
		value *string
	}{{"churchName", &r.ChurchName}, {"firstName", &r.FirstName}, {"lastName", &r.LastName}} {
		*name.value = strings.TrimSpace(*name.value)
		check(name.field, checkName(*name.value, 1, 200))
	}
	r.Email = normaliseEmail(r.Email)
	if problem := checkName(r.Email, 1, 254); problem != "" {
		check("email", problem)
	} else if emailSyntax.Var(r.Email, "email") != nil {
		check("email", "is not an email address")
	}
	if len(r.Password) < minPassword || len(r.Password) > maxPassword {
		check("password", fmt.Sprintf("must have %d to %d bytes", minPassword, maxPassword))
	} else {
		check("password", checkText(r.Password, 1, maxPassword))
	}
	return wrong
}

// normaliseEmail gives what is the same address to its readers the same bytes: without spaces around
// it, in lower case, letters and their accents composed (NFC).
func normaliseEmail(email string) string {
	return norm.NFC.String(strings.ToLower(strings.TrimSpace(email)))
}

// register signs a church up: it starts the signup, which goes on whatever becomes of this request,
// and waits for it a while.
func (a *api) register(c *gin.Context) error {
	var request registerRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	if wrong := request.normalise(); len(wrong) > 0 {
		return errInvalid(wrong)
	}
	ctx := c.Request.Context()
	emailHash, err := a.Keys.EmailIndex(request.Email)
	if err != nil {
		return err
	}
	if taken, err := a.emailTaken(ctx, emailHash); err != nil {
		return errNotStarted.with(err)
	} else if taken {
		return errEmailTaken
	}
	input, err := a.signupInput(request, emailHash)
	if err != nil {
		return err
	}
	run, err := a.start(ctx, input)
	if err != nil {
		return err
	}
	id, err := a.signupID(run.GetID(), run.GetRunID())
	if err != nil {
		return err
	}
	done, err := a.await(ctx, run, id)
	if err != nil {
		return err
	}
	if !done {
		c.Header("Location", "/api/signups/"+id)
		c.Header("Retry-After", askAgain)
		c.JSON(http.StatusAccepted, gin.H{"signupId": id, "state": "running"})
		return nil
	}
	return a.writeSession(c, http.StatusCreated, sessionFor(input, request))
}

func (a *api) emailTaken(ctx context.Context, emailHash string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return a.Registry.EmailTaken(ctx, emailHash)
}

// signupInput makes everything that the signup needs and that must be the same however often it is
// retried, replayed or reset: ids, times, hashes and secrets.
func (a *api) signupInput(request registerRequest, emailHash string) (signup.Input, error) {
	passwordHash, err := bcrypt.GenerateFromPassword([]byte(request.Password), passwordCost)
	if err != nil {
		return signup.Input{}, fmt.Errorf("hash password: %w", err)
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

// start starts the signup on a context that outlives the request's.
func (a *api) start(ctx context.Context, input signup.Input) (client.WorkflowRun, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(leastStart, a.SignupWait))
	defer cancel()
	run, err := a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       signup.WorkflowID(input.EmailHash),
		TaskQueue:                                a.TaskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		TypedSearchAttributes:                    temporal.NewSearchAttributes(signup.TenantID.ValueSet(input.TenantID)),
	}, signup.Workflow, input)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &running):
		return nil, errInProgress
	case err != nil:
		return nil, errNotStarted.with(err)
	}
	return run, nil
}

// await waits for the signup, as long as the client and the configuration allow, and reports whether
// it has succeeded in that time. A signup that failed is an error; one that goes on is neither.
func (a *api) await(ctx context.Context, run client.WorkflowRun, id string) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.SignupWait)
	defer cancel()
	err = run.Get(ctx, nil)
	var ended *temporal.WorkflowExecutionError
	var failure *temporal.ApplicationError
	var terminated *temporal.TerminatedError
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil || !errors.As(err, &ended):
		return false, nil // still going on, or out of sight: its status will tell
	case errors.As(err, &failure) && failure.Type() == signup.ErrorEmailTaken:
		return false, errEmailTaken
	case errors.As(err, &terminated):
		return false, errUnfinished.in(id).with(err)
	default:
		return false, errRolledBack.in(id).with(errors.New("signup rolled back"))
	}
}

func sessionFor(input signup.Input, request registerRequest) session {
	return session{
		admin: tenantdb.Admin{ID: input.AdminID, Email: request.Email, FirstName: request.FirstName,
			LastName: request.LastName, Role: registry.RolePrimary},
		tenant: registry.Tenant{ID: input.TenantID, Name: request.ChurchName, Email: request.Email, SubscriptionStatus: "trial",
			TrialEndsAt: input.TrialEndsAt},
	}
}
