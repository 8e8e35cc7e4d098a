package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/config"
	"narthex/internal/idempotency"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
)

// selectAdmin is what GET /api/auth/me asks the church's database.
const selectAdmin = `SELECT id, encrypted_email, password_hash, first_name, last_name, role, welcome_completed FROM admins WHERE id = $1`

// measureReads compares the path through middleware and router with the query at its end. The query crosses
// only PostgreSQL's network, so the handler is called in this process too. The cost of HTTP is measured
// separately.
func (b *bench) measureReads(ctx context.Context) error {
	b.progress("Reads, one by one.")
	c := b.churches[0]
	if err := b.api.renew(ctx, c); err != nil {
		return err
	}
	pool, err := b.barePool(ctx, c)
	if err != nil {
		return err
	}
	defer pool.Close()
	handler, stop, err := b.handler(ctx)
	if err != nil {
		return err
	}
	defer stop()
	bare := &variant{name: "read: the query on a bare pgxpool", do: func(ctx context.Context) error { return readBare(ctx, pool, c) }}
	through := &variant{
		name: "read: GET /api/auth/me through router and middleware",
		do:   func(ctx context.Context) error { return b.serveMe(ctx, handler, c) },
	}
	overHTTP := &variant{name: "read: GET /api/auth/me over HTTP", do: func(ctx context.Context) error { return b.api.me(ctx, c) }}
	if err := alternate(ctx, readsPerN*b.samples, noRest, bare, through, overHTTP); err != nil {
		return err
	}
	b.report.times = append(b.report.times, bare, through, overHTTP)
	b.add(
		figureRead,
		figure{
			what:  "GET /api/auth/me through router and middleware / the query on a bare pgxpool, p50",
			value: ratio(through.times.p50(), bare.times.p50()),
			goal:  1.25,
		},
	)
	b.add(figureRead, figure{what: "the same over HTTP, by a client in another process", value: ratio(overHTTP.times.p50(), bare.times.p50())})
	return nil
}

func (b *bench) barePool(ctx context.Context, c *church) (*pgxpool.Pool, error) {
	at, err := url.Parse(b.stack.databases.AdminURL)
	if err != nil {
		return nil, err
	}
	at.Path = "/tenant_" + c.TenantID
	return pgxpool.New(ctx, at.String())
}

func readBare(ctx context.Context, pool *pgxpool.Pool, c *church) error {
	var id, hash, firstName, lastName, role string
	var email []byte
	var welcomed bool
	return pool.QueryRow(ctx, selectAdmin, c.AdminID).Scan(&id, &email, &hash, &firstName, &lastName, &role, &welcomed)
}

func (b *bench) serveMe(ctx context.Context, handler http.Handler, c *church) error {
	request, err := b.api.meRequest(ctx, c)
	if err != nil {
		return err
	}
	request.RemoteAddr = "127.0.0.1:1"
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK {
		return fmt.Errorf("the handler answers %d: %s", recorder.Code, recorder.Body)
	}
	return nil
}

// handler returns the API as in `narthex serve`, in this process.
func (b *bench) handler(ctx context.Context) (handler http.Handler, stop func(), err error) {
	var c struct {
		config.Keys
		config.API
	}
	if err := config.ParseFrom(&c, b.stack.variables()); err != nil {
		return nil, nil, err
	}
	keys := secrets.New(c.SealKeyset, c.IndexKeyset)
	reg, err := registry.Open(ctx, b.stack.databases.RegistryURL, keys)
	if err != nil {
		return nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	router := tenantdb.NewRouter(reg, keys, int(c.TenantConnections), log)
	stop = func() { router.Close(); reg.Close() }
	handler, err = httpapi.New(httpapi.Options{
		Temporal:     b.stack.temporal,
		Registry:     reg,
		Router:       router,
		Sessions:     sessions.New(reg.Pool()),
		Throttle:     throttle.New(reg.Pool()),
		Reservations: idempotency.New(reg.Pool(), keys),
		Keys:         keys,
		Tokens:       tokens.New(c.TokenKey, string(c.TokenIssuer), string(c.TokenAudience), time.Now),
		AnswerLimit:  time.Minute,
		Services:     services.Routes(),
		Log:          log,
		Now:          time.Now,
	})
	if err != nil {
		stop()
	}
	return handler, stop, err
}
