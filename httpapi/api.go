// Package httpapi is the HTTP API. It validates requests, starts signups and waits for them, and serves
// each church from that church's own database. It contains no SQL. Everything that clients learn about
// an error is written in problem.go.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.temporal.io/sdk/client"

	"narthex/internal/fleet"
	"narthex/internal/invitation"
	"narthex/internal/login"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/internal/sessions"
	"narthex/internal/signup"
	"narthex/internal/tenantdb"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
)

// Options are what the API works with. All are required unless their comment says otherwise.
type Options struct {
	Temporal     client.Client
	Registry     *registry.Registry
	Router       *tenantdb.Router
	Sessions     *sessions.Store
	Throttle     *throttle.Counter
	Reservations signup.Reservations // by idempotency key
	Keys         *secrets.Keys
	Tokens       *tokens.Issuer
	Passwords    *password.Hasher
	TaskQueue    string        // polled by the signup workers
	Eager        func() bool   // whether a worker on the same client may run the signups that it starts; nil means yes
	SignupWait   time.Duration // how long a register request waits for its signup

	// AnswerLimit is how long a request may take before it is answered with 503. A request that waits for a saga has
	// this limit for each of its parts (prepare, start, open a session), plus SignupWait.
	AnswerLimit time.Duration

	Services []Route // for churches, in addition to the API's own routes

	Failed func(tenantID string) // called for each church request that is answered with 5xx; may be nil
	Pace   func() fleet.Pace     // whether churches are behind this release's schema, from memory; nil: unknown

	TrustedProxies []netip.Prefix // trusted to report a client's address (X-Forwarded-For)
	SpareLoopback  bool           // do not throttle clients on this machine
	Log            *slog.Logger
	Metrics        prometheus.Registerer // of requests; nil records none
	Traces         trace.TracerProvider  // of requests; nil records none
	Now            func() time.Time
}

type api struct {
	Options
	signups     *signup.Service
	invitations *invitation.Service
	logins      *login.Service
	took        *prometheus.HistogramVec
}

// New returns the API's handler.
func New(options Options) (http.Handler, error) {
	a := &api{Options: options, took: requestDurations(options.Metrics)}
	operator := func(kind runs.Kind) runs.Operator {
		return runs.Operator{Kind: kind, Temporal: options.Temporal, Keys: options.Keys, TaskQueue: options.TaskQueue, Emails: options.Registry}
	}
	a.signups = &signup.Service{
		Operator:     operator(signup.Kind),
		Reservations: options.Reservations, Passwords: options.Passwords,
		Eager: options.Eager, StartLimit: options.AnswerLimit, Now: options.Now, Log: options.Log,
	}
	a.invitations = &invitation.Service{
		Operator: operator(invitation.Kind), StartLimit: options.AnswerLimit, Now: options.Now,
	}
	a.logins = &login.Service{
		Registry: options.Registry, Router: options.Router, Sessions: options.Sessions, Passwords: options.Passwords,
	}
	if a.Traces == nil {
		a.Traces = noop.NewTracerProvider()
	}
	if a.Failed == nil {
		a.Failed = func(string) {}
	}
	if a.Pace == nil {
		a.Pace = func() fleet.Pace { return fleet.Unknown }
	}

	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.RemoteIPHeaders = []string{"X-Forwarded-For"} // not every proxy sets other headers, so a client could forge them
	var proxies []string
	for _, proxy := range options.TrustedProxies {
		proxies = append(proxies, proxy.String())
	}
	if err := engine.SetTrustedProxies(proxies); err != nil {
		return nil, fmt.Errorf("trust proxies: %w", err)
	}
	engine.Use(identify, a.trace, a.observe, a.countFailure, secureHeaders, a.recoverPanics)
	engine.NoRoute(a.handle(a.AnswerLimit, func(*gin.Context) error { return errNoRoute }))
	engine.NoMethod(a.handle(a.AnswerLimit, func(*gin.Context) error { return errNoMethod }))
	a.routes(engine)
	return engine, nil
}

// routes registers the API's routes. Each has a time limit: a route cannot be registered without one.
func (a *api) routes(engine *gin.Engine) {
	limit := a.AnswerLimit
	// A saga is prepared, started, awaited and then answered. With an idempotency key, the start takes two limits.
	sagaLimit := 4*limit + a.SignupWait
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		engine.Handle(method, "/healthz", a.handle(limit, a.health))
		engine.Handle(method, "/readyz", a.handle(min(limit, readyLimit), a.ready))
	}
	engine.POST("/api/auth/register", a.handle(sagaLimit, a.register))
	engine.POST("/api/auth/login", a.handle(limit, a.login))
	engine.POST("/api/auth/refresh", a.handle(limit, a.refresh))
	engine.POST("/api/auth/logout", a.handle(limit, a.logout))
	engine.POST("/api/auth/logout-all", a.handle(limit, a.inTenant(a.logoutAll)))
	engine.POST("/api/auth/password", a.handle(limit, a.inTenant(a.changePassword)))
	engine.GET("/.well-known/jwks.json", a.handle(limit, a.jwks))
	engine.GET("/api/auth/me", a.handle(limit, a.inTenant(a.me)))
	engine.GET("/api/admins", a.handle(limit, a.inTenant(a.listAdmins)))
	engine.POST("/api/admins/invitations", a.handle(sagaLimit, a.inTenant(a.invite)))
	engine.DELETE("/api/admins/:id", a.handle(limit, a.inTenant(a.removeAdmin)))
	engine.POST("/api/auth/invitations/accept", a.handle(limit, a.acceptInvitation))
	for _, route := range a.Services {
		engine.Handle(route.Method, route.Path, a.handle(limit, a.inTenant(route.Handle)))
	}
	engine.GET("/", a.handle(limit, a.index))
	engine.GET("/openapi.yaml", a.handle(limit, a.serveContract))
	engine.GET("/docs", docs())
	engine.GET("/docs/*part", docs())
	engine.GET("/api/signups/:signupId", a.handle(limit, a.signupStatus))
}

const readyLimit = 2 * time.Second

// within bounds the request's context while handler runs. handler is a route, or a part that must leave time for the rest.
func within(limit time.Duration, handler func(*gin.Context) error) func(*gin.Context) error {
	return func(c *gin.Context) error {
		request := c.Request
		cancel := func() {}
		start := func() {
			cancel()
			var ctx context.Context
			ctx, cancel = context.WithTimeout(request.Context(), limit)
			c.Request = request.WithContext(ctx)
		}
		if _, inside := c.Get(restartKey); !inside && request.ContentLength != 0 { // reads skip this cost
			c.Set(restartKey, start)
		}
		defer func() {
			cancel()
			c.Request = request
		}()
		start()
		return handler(c)
	}
}

const restartKey = "restart"

// restart restarts a request's time limit once its body has been read: the server's ReadTimeout bounds the read itself.
// A handler must not use a context obtained before it reads the body.
func restart(c *gin.Context) {
	if start, bounded := c.Get(restartKey); bounded {
		start.(func())()
	}
}

// handle adapts a handler that returns an error to gin, limits its time, and turns the error into a problem document.
func (a *api) handle(limit time.Duration, handler func(*gin.Context) error) gin.HandlerFunc {
	handler = within(limit, handler)
	return func(c *gin.Context) {
		if err := handler(c); err != nil {
			a.writeProblem(c, err)
		}
	}
}
