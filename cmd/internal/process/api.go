package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/config"
	"narthex/internal/fleet/ledger"
	"narthex/internal/idempotency"
	"narthex/internal/password"
	"narthex/internal/redact"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
	"narthex/migrations"
)

const (
	httpDrain   = 5 * time.Second  // for open requests at a stop, in addition to their wait for a signup
	answerLimit = 5 * time.Second  // for the servers that a request needs
	tidyPause   = 10 * time.Minute // between removals of the registry's expired rows
	tidyLimit   = time.Minute      // for each of them, so that one that hangs holds up no other
)

// api serves HTTP: the API and, if configured, the codec endpoint.
type api struct {
	*process
	sessions     *sessions.Store
	throttle     *throttle.Counter
	reservations *idempotency.Store
	router       *tenantdb.Router
	failed       *ledger.FailedRequests
	fleet        *ledger.Watch
	servers      []*http.Server
	listeners    []net.Listener
}

// openAPI checks the configuration and listens, but serves no requests yet.
func openAPI(ctx context.Context, p *process) (*api, error) {
	a := &api{
		process: p, sessions: sessions.New(p.registry.Pool()), throttle: throttle.New(p.registry.Pool()),
		reservations: idempotency.New(p.registry.Pool(), p.keys),
		router:       tenantdb.NewRouter(p.registry, p.keys, int(p.TenantConnections), p.Log),
		failed:       ledger.NewFailedRequests(p.registry.Pool(), p.Log),
		fleet:        ledger.NewWatch(p.registry.Pool(), migrations.TenantVersion(), p.Log),
	}
	err := a.open(ctx)
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *api) open(ctx context.Context) error {
	a.watch.Metrics.MustRegister(a.router)
	if err := a.checkBudget(ctx); err != nil {
		return err
	}
	handler, err := a.handler()
	if err != nil {
		return err
	}
	if _, err := a.listen("HTTP", a.HTTPAddress, newServer(handler, a.Config)); err != nil {
		return err
	}
	if a.CodecAddress == "" {
		return nil
	}
	return a.openCodec()
}

// checkBudget compares TENANT_CONNECTIONS with what the servers allow, if they answer.
func (a *api) checkBudget(ctx context.Context) error {
	err := a.router.CheckBudget(ctx)
	if errors.Is(err, tenantdb.ErrBudget) {
		return fmt.Errorf("TENANT_CONNECTIONS is too high (%w): lower it, or raise the server's max_connections", err)
	}
	if err != nil {
		a.Log.Warn("TENANT_CONNECTIONS could not be compared with the servers' max_connections", "error", redact.Error(err))
	}
	return nil
}

func (a *api) handler() (http.Handler, error) {
	passwords, err := password.NewHasher(password.Cost)
	if err != nil {
		return nil, err
	}
	return httpapi.New(httpapi.Options{
		Temporal: a.temporal, Registry: a.registry, Router: a.router, Keys: a.keys,
		Sessions: a.sessions, Throttle: a.throttle, Reservations: a.reservations,
		Tokens:    tokens.New(a.TokenKey, string(a.TokenIssuer), string(a.TokenAudience), time.Now),
		Passwords: passwords,
		TaskQueue: string(a.TaskQueue), Eager: a.current.yes.Load,
		SignupWait: time.Duration(a.SignupWait), AnswerLimit: answerLimit,
		Services: services.Routes(), Failed: a.failed.Count, Pace: a.fleet.Pace, TrustedProxies: a.TrustedProxies, SpareLoopback: a.SpareLoopback,
		Log: a.Log, Metrics: a.watch.Metrics, Traces: a.watch.Traces, Now: time.Now,
	})
}

func (a *api) openCodec() error {
	server := newServer(nil, a.Config)
	listener, err := a.listen("codec", a.CodecAddress, server)
	if err != nil {
		return err
	}
	server.Handler = httpapi.NewCodec(httpapi.CodecOptions{
		Keys: a.keys, Token: string(a.CodecToken), Origins: a.CodecOrigins, Loopback: isLoopback(listener),
	})
	return nil
}

func (a *api) listen(what string, address config.Address, server *http.Server) (net.Listener, error) {
	listener, err := listen(what, address)
	if err != nil {
		return nil, err
	}
	a.servers, a.listeners = append(a.servers, server), append(a.listeners, listener)
	return listener, nil
}

// address returns the API's address, with the chosen port if port 0 was configured.
func (a *api) address() string { return a.listeners[0].Addr().String() }

func (a *api) close() {
	for _, listener := range a.listeners {
		listener.Close() // a server may have closed it already
	}
	a.router.Close()
	a.failed.Report(context.Background())
}

// serve answers requests until ctx ends, and then finishes open requests.
func (a *api) serve(ctx context.Context) error {
	go keepTidy(ctx, a.Log, a.sessions.Tidy, a.throttle.Tidy, a.reservations.Tidy, a.failed.Tidy, a.router.RemoveExpired)
	go a.failed.Keep(ctx)
	go a.fleet.Keep(ctx)
	served := make(chan error, len(a.servers))
	for i, server := range a.servers {
		go func() { served <- server.Serve(a.listeners[i]) }()
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), time.Duration(a.SignupWait)+httpDrain)
	defer cancel()
	for _, server := range a.servers {
		if err := server.Shutdown(drain); err != nil {
			a.Log.Warn("Some requests were still running when the process stopped")
			server.Close()
		}
	}
	return whatEnded(ctx)
}

// keepTidy removes expired rows in the registry and expired invitations until ctx ends.
func keepTidy(ctx context.Context, log *slog.Logger, tidy ...func(context.Context) error) {
	for pause(ctx, tidyPause) {
		for _, remove := range tidy {
			attempt, cancel := context.WithTimeout(ctx, tidyLimit)
			err := remove(attempt)
			cancel()
			if err != nil {
				log.Warn("Expired rows could not be removed from the registry; trying again later", "error", redact.Error(err))
			}
		}
	}
}
