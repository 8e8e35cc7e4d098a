// Package httpapi is the HTTP API: it checks what comes in, starts and awaits signups, and answers for
// a church from that church's own database. It holds no SQL; everything that a client is told of an
// error is written in problem.go.
package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.temporal.io/sdk/client"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

// Options are what the API works with. All are needed.
type Options struct {
	Temporal   client.Client
	Registry   *registry.Registry
	Router     *tenantdb.Router
	Keys       *secrets.Keys
	Tokens     *tokens.Issuer
	TaskQueue  string        // that the signup workers poll
	SignupWait time.Duration // how long a register request waits for its signup
	Log        *slog.Logger
	Now        func() time.Time
}

type api struct {
	Options
	decoyHash []byte // compared with when an email is unknown, so that it costs as much as a known one
}

// New returns the API's handler.
func New(options Options) (http.Handler, error) {
	decoy, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), passwordCost)
	if err != nil {
		return nil, fmt.Errorf("make decoy hash: %w", err)
	}
	a := &api{Options: options, decoyHash: decoy}

	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	if err := engine.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("trust no proxy: %w", err)
	}
	engine.Use(a.logRequests, a.recoverPanics)
	engine.NoRoute(a.handle(func(*gin.Context) error { return errNoRoute }))
	engine.NoMethod(a.handle(func(*gin.Context) error { return errNoMethod }))
	a.routes(engine)
	return engine, nil
}

func (a *api) routes(engine *gin.Engine) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		engine.Handle(method, "/healthz", a.handle(a.health))
		engine.Handle(method, "/readyz", a.handle(within(readyLimit, a.ready)))
	}
	engine.POST("/api/auth/register", a.handle(a.register))
	engine.POST("/api/auth/login", a.handle(within(answerLimit, a.login)))
	engine.GET("/api/auth/me", a.handle(within(answerLimit, a.inTenant(a.me))))
	engine.GET("/api/signups/:id", a.handle(within(answerLimit, a.signupStatus)))
}

// Servers that are behind a request get this long to answer; then the client is told to come again.
const (
	answerLimit = 5 * time.Second
	readyLimit  = 2 * time.Second
)

// within bounds the request's context while handler runs.
func within(limit time.Duration, handler func(*gin.Context) error) func(*gin.Context) error {
	return func(c *gin.Context) error {
		request := c.Request
		ctx, cancel := context.WithTimeout(request.Context(), limit)
		defer func() {
			cancel()
			c.Request = request
		}()
		c.Request = request.WithContext(ctx)
		return handler(c)
	}
}

// handle turns a handler that returns an error into gin's, and the error into a problem document.
func (a *api) handle(handler func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := handler(c); err != nil {
			a.writeProblem(c, err)
		}
	}
}
