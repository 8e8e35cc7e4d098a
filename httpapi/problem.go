package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/invitation"
	"narthex/internal/login"
	"narthex/internal/password"
	"narthex/internal/redact"
	"narthex/internal/runs"
	"narthex/internal/signup"
	"narthex/internal/tenantdb"
)

// problem is a problem document (RFC 9457) and an error. Its type is stable: clients may switch on it.
type problem struct {
	Type     string       `json:"type"`
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail,omitempty"`
	SignupID string       `json:"signupId,omitempty"`
	Errors   []FieldError `json:"errors,omitempty"`

	ErrorCount int `json:"errorCount,omitempty"` // if Errors lists only the first

	retryAfter   int    // in seconds; 0 sends no Retry-After
	authenticate string // WWW-Authenticate
	cause        error  // only for the log
}

// FieldError says what is wrong with one field of a request's body, or of a row of it.
type FieldError struct {
	Row    int    `json:"row,omitempty"` // the first is 1
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return p.Title }
func (p *problem) Unwrap() error { return p.cause }

// newProblem returns a problem whose type is /problems/slug.
func newProblem(status int, slug, title, detail string) *problem {
	return &problem{Type: "/problems/" + slug, Title: title, Status: status, Detail: detail}
}

// newUnavailable returns a 503 that says after how many seconds to retry.
func newUnavailable(slug, title, detail string, retryAfter int) *problem {
	p := newProblem(http.StatusServiceUnavailable, slug, title, detail)
	p.retryAfter = retryAfter
	return p
}

// newUnauthorized returns a 401 with a WWW-Authenticate header.
func newUnauthorized(slug, title, detail, authenticate string) *problem {
	p := newProblem(http.StatusUnauthorized, slug, title, detail)
	p.authenticate = authenticate
	return p
}

// with returns a copy that remembers its cause.
func (p *problem) with(cause error) *problem {
	q := *p
	q.cause = cause
	return &q
}

// in returns a copy that names the signup it is about.
func (p *problem) in(signupID string) *problem {
	q := *p
	q.SignupID = signupID
	return &q
}

var (
	errNoRoute  = newProblem(http.StatusNotFound, "not-found", "Not found", "")
	errNoMethod = newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", "")
	errEncoding = newProblem(http.StatusUnsupportedMediaType, "unsupported-encoding", "Content-Encoding is not supported",
		"Send the body without Content-Encoding.")
	errSlowBody   = newProblem(http.StatusRequestTimeout, "body-too-slow", "The body did not arrive in time", "")
	errEmailTaken = newProblem(http.StatusConflict, "email-taken", "This email is already in use", "Log in, or sign up with another email.")
	errInProgress = newProblem(http.StatusConflict, "signup-in-progress", "A signup with this email is in progress",
		"Wait until it has finished.")
	errRolledBack = newProblem(http.StatusInternalServerError, "signup-rolled-back", "The signup failed and was undone",
		"Nothing was kept. Send the request again, with a new Idempotency-Key if it had one.")
	errUnfinished = newProblem(http.StatusInternalServerError, "signup-failed", "The signup was terminated",
		"Some of what it created may still exist. Give support the signupId.")
	errCredentials = newProblem(http.StatusUnauthorized, "invalid-credentials", "Wrong email or password", "")
	errInactive    = newProblem(http.StatusForbidden, "tenant-inactive", "This church's account is not active", "")
	errNoSignup    = newProblem(http.StatusNotFound, "signup-not-found", "Signup not found", "")
	errPassword    = newProblem(http.StatusForbidden, "wrong-password", "The current password is wrong", "")
	errSession     = newProblem(http.StatusUnauthorized, "session-ended", "The session has ended", "Log in again.")
	errKeyReused   = newProblem(http.StatusUnprocessableEntity, "idempotency-key-reused",
		"This Idempotency-Key was sent with another request before", "Use a new key for each new request.")
	errKeySyntax = newProblem(http.StatusBadRequest, "malformed-idempotency-key", "The Idempotency-Key is malformed",
		"Use 1 to 255 visible ASCII characters, such as a UUID.")
	errBusy        = newUnavailable("busy", "The service is busy", "", 2)
	errNotReady    = newUnavailable("not-ready", "The service is not ready", "", 2)
	errDown        = newUnavailable("database-unavailable", "The church's database is unavailable", "", 5)
	errSchemaAhead = newUnavailable("schema-ahead", "The church's database is newer than this release of the service",
		"The service is being updated. Try again in a minute.", 60)
	errSchemaBehind = newUnavailable("schema-behind", "The church's database has not been upgraded yet",
		"It is next in the queue. Try again in a few seconds.", 5)
	errNotStarted = newUnavailable("unavailable", "The signup could not be started",
		"Try again in a few seconds. It may have started; retrying is safe.", 5)
	errNotSent = newUnavailable("unavailable", "The invitation could not be started",
		"Try again in a few seconds. It may have started; retrying is safe.", 5)
	errUnavailable = newUnavailable("unavailable", "The service is unavailable", "Try again in a few seconds.", 5)
	errToken       = newUnauthorized("invalid-token", "The access token is missing or invalid",
		"Send Authorization: Bearer followed by a current access token.", `Bearer error="invalid_token"`)
)

// errTooMany says when to retry.
func errTooMany(wait time.Duration) *problem {
	p := newProblem(http.StatusTooManyRequests, "too-many-requests", "Too many requests", "Retry-After says when to try again.")
	p.retryAfter = int(math.Ceil(wait.Seconds()))
	return p
}

func errMediaType(want string) *problem {
	return newProblem(http.StatusUnsupportedMediaType, "unsupported-media-type", "Unsupported content type",
		"Send Content-Type: "+want+".")
}

func errTooLarge(limit int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "body-too-large", "The body is too large",
		fmt.Sprintf("The limit is %d bytes.", limit))
}

// Malformed says why a body cannot be read at all.
func Malformed(detail string) error { return errMalformed(detail) }

func errMalformed(detail string) *problem {
	return newProblem(http.StatusBadRequest, "malformed-body", "The body is malformed", detail)
}

// Fields collects the problems of a request's fields.
type Fields []FieldError

// Check adds a field's problem, unless it is "".
func (f *Fields) Check(field, problem string) {
	if problem != "" {
		*f = append(*f, FieldError{Field: field, Detail: problem})
	}
}

// Err returns a problem, or nil if nothing is wrong.
func (f Fields) Err() error { return f.ErrOf(len(f)) }

// ErrOf is like Err, but says that these are the first of count errors.
func (f Fields) ErrOf(count int) error {
	if count == 0 {
		return nil
	}
	p := newProblem(http.StatusUnprocessableEntity, "invalid-fields", "Some fields are invalid", "")
	p.Errors = f
	if count > len(f) {
		p.Detail, p.ErrorCount = fmt.Sprintf("There are %d errors; the first %d are listed.", count, len(f)), count
	}
	return p
}

// problemFor is the only place that turns errors into statuses.
func problemFor(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case sagaProblem(err) != nil:
		return sagaProblem(err)
	case errors.Is(err, login.ErrRefused):
		return errCredentials
	case errors.Is(err, tenantdb.ErrInactive):
		return errInactive
	case errors.Is(err, tenantdb.ErrUnknown), errors.Is(err, tenantdb.ErrNoAdmin):
		return errToken.with(err)
	case errors.Is(err, tenantdb.ErrNotFound):
		return errNoRoute
	case errors.Is(err, tenantdb.ErrBusy), errors.Is(err, password.ErrBusy):
		return errBusy.with(err)
	case errors.Is(err, tenantdb.ErrSchemaAhead):
		return errSchemaAhead.with(err)
	case errors.Is(err, tenantdb.ErrSchemaBehind):
		return errSchemaBehind.with(err)
	case errors.Is(err, tenantdb.ErrDown):
		return errDown.with(err)
	default:
		return errUnavailable.with(err)
	}
}

// sagaProblem is the part of problemFor for signups and invitations. It returns nil for other errors.
func sagaProblem(err error) *problem {
	switch {
	case errors.Is(err, signup.ErrEmailTaken):
		return errEmailTaken
	case errors.Is(err, invitation.ErrEmailTaken):
		return errInviteeTaken
	case errors.Is(err, signup.ErrInProgress):
		return errInProgress
	case errors.Is(err, invitation.ErrInProgress):
		return errInviting
	case errors.Is(err, signup.ErrKeyReused):
		return errKeyReused
	case errors.Is(err, signup.ErrNotStarted):
		return errNotStarted.with(err)
	case errors.Is(err, invitation.ErrNotStarted):
		return errNotSent.with(err)
	case errors.Is(err, invitation.ErrRolledBack):
		return errNotInvited.with(err)
	case errors.Is(err, invitation.ErrTerminated):
		return errHalfInvited.with(err)
	case errors.Is(err, runs.ErrRolledBack):
		return errRolledBack.with(err)
	case errors.Is(err, runs.ErrTerminated):
		return errUnfinished.with(err)
	case errors.Is(err, runs.ErrNotFound):
		return errNoSignup
	}
	return nil
}

func (a *api) writeProblem(c *gin.Context, err error) {
	p := problemFor(err)
	ctx, cause := c.Request.Context(), p.Unwrap()
	hungUp := errors.Is(ctx.Err(), context.Canceled) || errors.Is(cause, context.Canceled)
	if cause != nil && !hungUp {
		a.Log.ErrorContext(ctx, "request failed",
			"route", c.FullPath(), "status", p.Status, "problem", p.Type, "error", redact.Error(cause))
	}
	sendProblem(c, p)
}

func sendProblem(c *gin.Context, p *problem) {
	if p.retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.authenticate != "" {
		c.Header("WWW-Authenticate", p.authenticate)
	}
	c.Abort()
	c.Header("Content-Type", "application/problem+json")
	c.JSON(p.Status, p)
}
