package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/config"
	"narthex/internal/idempotency"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/sessions"
	"narthex/internal/telemetry"
	"narthex/internal/tenantdb"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
)

// api is what answers HTTP: the API and, where it is configured, the codec endpoint.
type api struct {
	sessions     *sessions.Store
	throttle     *throttle.Counter
	reservations *idempotency.Store
	router       *tenantdb.Router
	servers      []*http.Server
	listeners    []net.Listener
}

// openAPI checks the configuration and listens, and answers nobody yet.
func openAPI(ctx context.Context, c Config, watch *telemetry.Telemetry, temporal client.Client, reg *registry.Registry, keys *secrets.Keys, current *currency) (opened *api, err error) {
	a := &api{
		sessions: sessions.New(reg.Pool()), throttle: throttle.New(reg.Pool()), reservations: idempotency.New(reg.Pool(), keys),
		router: tenantdb.NewRouter(reg, keys, int(c.API.TenantConnections), c.Log),
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	watch.Metrics.MustRegister(a.router)
	if err := a.router.CheckBudget(ctx); errors.Is(err, tenantdb.ErrBudget) {
		return nil, fmt.Errorf("TENANT_CONNECTIONS does not fit (%w): lower it, or raise the server's max_connections", err)
	} else if err != nil {
		c.Log.Warn("TENANT_CONNECTIONS could not be compared with the servers' max_connections", "error", redact.Error(err))
	}
	handler, err := httpapi.New(httpapi.Options{
		Temporal: temporal, Registry: reg, Router: a.router, Sessions: a.sessions, Throttle: a.throttle, Keys: keys,
		Reservations: a.reservations,
		Tokens:       tokens.New(c.API.TokenKey, string(c.API.TokenIssuer), string(c.API.TokenAudience), time.Now),
		TaskQueue:    string(c.Queue.TaskQueue), SignupWait: time.Duration(c.API.SignupWait), AnswerLimit: answerLimit, Log: c.Log, Now: time.Now,
		Eager: current.yes.Load, Services: services.Routes(), Metrics: watch.Metrics, Traces: watch.Traces,
		TrustedProxies: c.API.TrustedProxies, SpareLoopback: c.SpareLoopback,
	})
	if err != nil {
		return nil, err
	}
	if _, err := a.listen("HTTP", c.API.HTTPAddress, newServer(handler, c)); err != nil {
		return nil, err
	}
	if c.Codec.CodecAddress == "" {
		return a, nil
	}
	codec := newServer(nil, c)
	listener, err := a.listen("codec", c.Codec.CodecAddress, codec)
	if err != nil {
		return nil, err
	}
	codec.Handler = httpapi.NewCodec(httpapi.CodecOptions{
		Keys: keys, Token: string(c.Codec.CodecToken), Origins: c.Codec.CodecOrigins, Loopback: isLoopback(listener),
	})
	return a, nil
}

func (a *api) listen(what string, address config.Address, server *http.Server) (net.Listener, error) {
	listener, err := listen(what, address)
	if err != nil {
		return nil, err
	}
	a.servers, a.listeners = append(a.servers, server), append(a.listeners, listener)
	return listener, nil
}

func (a *api) close() {
	for _, listener := range a.listeners {
		listener.Close() // again, where a server has closed it
	}
	a.router.Close()
}

// serve answers until ctx ends, and lets requests in hand be answered.
func (a *api) serve(ctx context.Context, c Config, operations string) error {
	go keepTidy(ctx, c.Log, a.sessions.Tidy, a.throttle.Tidy, a.reservations.Tidy, a.router.RemoveExpired)
	served := make(chan error, len(a.servers))
	for i, server := range a.servers {
		go func() { served <- server.Serve(a.listeners[i]) }()
	}
	if c.Ready != nil {
		c.Ready(a.listeners[0].Addr().String(), operations)
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), time.Duration(c.API.SignupWait)+httpDrain)
	defer cancel()
	for _, server := range a.servers {
		if err := server.Shutdown(drain); err != nil {
			c.Log.Warn("some requests were cut off at the stop")
			server.Close()
		}
	}
	return whatEnded(ctx)
}

// keepTidy removes what expires, in the registry and of invitations, until ctx ends.
func keepTidy(ctx context.Context, log *slog.Logger, tidy ...func(context.Context) error) {
	for pause(ctx, tidyPause) {
		for _, remove := range tidy {
			if err := remove(ctx); err != nil {
				log.Warn("What has expired could not be removed from the registry; trying again later", "error", redact.Error(err))
			}
		}
	}
}

func listen(what string, address config.Address) (net.Listener, error) {
	listener, err := net.Listen("tcp", string(address))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the %s address %s is taken: stop what uses it, or choose another", what, address)
	}
	if err != nil {
		return nil, fmt.Errorf("the %s address %s cannot be listened on: choose another", what, address)
	}
	return listener, nil
}

func isLoopback(listener net.Listener) bool {
	address, ok := listener.Addr().(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

func newServer(handler http.Handler, c Config) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + time.Duration(c.API.SignupWait) + 6*answerLimit, // it counts from the header on
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
}
