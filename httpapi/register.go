package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"narthex/internal/email"
	"narthex/internal/login"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/signup"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
)

const askAgain = "2" // seconds before a client should ask for a signup's status

type registerRequest struct {
	ChurchName string `json:"churchName"`
	Email      string `json:"email"`
	Password   string `json:"password"`
	FirstName  string `json:"firstName"`
	LastName   string `json:"lastName"`
}

// normalise trims the names and the email and lower-cases the email, and returns what is wrong with
// the request.
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

// register signs a church up. It starts the signup and waits for it for a while. The signup continues whatever happens to
// this request.
func (a *api) register(c *gin.Context) error {
	var request registerRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	if err := request.normalise().Err(); err != nil {
		return err
	}
	var started signup.Started
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
	created, err := a.awaitSignup(c, started)
	if err != nil {
		return err
	}
	if !created {
		c.Header("Location", "/api/signups/"+started.PublicID)
		c.Header("Retry-After", askAgain)
		c.JSON(http.StatusAccepted, gin.H{"signupId": started.PublicID, "state": "running"})
		return nil
	}
	return within(a.AnswerLimit, func(c *gin.Context) error { return a.writeFirstSession(c, request, started) })(c)
}

// startOnce starts the signup, or finds the one that the request's idempotency key has started.
func (a *api) startOnce(c *gin.Context, request registerRequest) (signup.Started, error) {
	key, given, err := idempotencyKey(c)
	switch {
	case err != nil:
		return signup.Started{}, err
	case given:
		return a.signups.StartOnce(c.Request.Context(), key, signup.Request(request))
	}
	return a.signups.Start(c.Request.Context(), signup.Request(request))
}

// awaitSignup waits for the signup as long as the client and the configuration allow. It reports whether the church
// exists.
func (a *api) awaitSignup(c *gin.Context, started signup.Started) (created bool, err error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), a.SignupWait)
	defer cancel()
	created, err = a.signups.Await(ctx, started)
	if errors.Is(err, runs.ErrRolledBack) || errors.Is(err, runs.ErrTerminated) {
		return false, problemFor(err).in(started.PublicID)
	}
	return created, err
}

// writeFirstSession logs in the admin that a signup has created.
func (a *api) writeFirstSession(c *gin.Context, request registerRequest, started signup.Started) (err error) {
	var proven login.Login
	if started.Repeated { // the password may have changed since
		proven, err = a.logins.ByPassword(c.Request.Context(), request.Email, request.Password)
		c.Set(tenantKey, proven.Church.ID)
		if errors.Is(err, login.ErrRefused) {
			err = errEmailTaken
		}
	} else {
		proven, err = a.firstLogin(started.Input)
	}
	if err != nil {
		return err
	}
	return a.writeSession(c, http.StatusCreated, proven)
}

// firstLogin returns the login of the admin that a signup has just created.
func (a *api) firstLogin(input signup.Input) (login.Login, error) {
	who, err := signup.OpenApplicant(a.Keys, input)
	if err != nil {
		return login.Login{}, err
	}
	return login.Login{
		Admin: tenantdb.Admin{ID: input.AdminID, Email: who.Email, PasswordHash: who.PasswordHash, FirstName: who.FirstName,
			LastName: who.LastName, Role: registry.RolePrimary},
		Church: tenantdb.Church{ID: input.TenantID, Name: who.ChurchName, Email: who.Email, SubscriptionStatus: "trial",
			TrialEndsAt: input.TrialEndsAt},
	}, nil
}
