package tenantdb

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/postgres"
	"narthex/internal/registry"
	"narthex/internal/sqltrace"
)

const (
	connectionsPerTenant = 4
	idleConnection       = time.Minute            // after this long an unused tenant has no connection
	connectLimit         = patience + 2*dialLimit // for a connection, from its wait for a place to its login

	firstPause = time.Second // a database that could not be connected to is left alone for this long,
	lastPause  = 16 * time.Second
)

// pool is the pool of one tenant's database. The router's lock guards everything but the connections.
type pool struct {
	*postgres.Pool
	url      string // that it connects to
	leases   int    // tenants that are acquired and not released yet
	entry    *entry // nil once it has been retired
	element  *list.Element
	failed   atomic.Bool // the last attempt to connect to the database failed
	failures int         // in a row
	badUntil time.Time
}

// newPool makes a pool. It connects when it is first used.
func (r *Router) newPool(record *registry.Tenant) (*pool, error) {
	config, err := pgxpool.ParseConfig(record.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: its database URL is malformed", record.ID)
	}
	config.MaxConns = connectionsPerTenant
	config.MaxConnIdleTime = idleConnection
	config.HealthCheckPeriod = idleConnection / 2
	config.ConnConfig.Tracer = tracer{budget: r.budget}
	config.ConnConfig.DialFunc = r.budget.dial
	postgres.Distrust(config.ConnConfig)
	config.ConnConfig.ConnectTimeout = connectLimit
	config.ConnConfig.RuntimeParams["search_path"] = "public"
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = postgres.IdleLimit
	opened, err := postgres.Open(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("open pool of tenant %s: %w", record.ID, err)
	}
	return &pool{Pool: opened, url: record.DatabaseURL}, nil
}

// tracer closes a connection that is returned to its pool while others wait for a place. pgxpool's AfterRelease could
// do this too, but it starts a goroutine each time, and the next request may open another connection because this one
// is not back yet.
type tracer struct {
	sqltrace.Tracer
	budget *budget
}

var _ pgxpool.ReleaseTracer = tracer{}

// TraceRelease is called before the pool checks whether the connection is closed.
func (t tracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if !t.budget.keep() {
		_ = data.Conn.Close(context.Background())
	}
}

// install makes a pool its tenant's current pool. The lock is held.
func (r *Router) install(e *entry, p *pool) {
	e.pool, p.entry = p, e
	p.element = r.pools.PushFront(p)
	r.opened++
	r.trim()
}

// trim retires the pools that were unused the longest while there are more pools than connections allowed.
// It keeps the one that was used last. The lock is held.
func (r *Router) trim() {
	for element := r.pools.Back(); element != r.pools.Front() && r.pools.Len() > r.budget.size; {
		p := element.Value.(*pool)
		element = element.Prev()
		if p.leases == 0 {
			r.evicted++
			r.retire(p)
		}
	}
}

// retire takes a pool out of service. The pool closes when nobody uses it any more. The lock is held.
func (r *Router) retire(p *pool) {
	r.pools.Remove(p.element)
	p.entry.pool, p.entry = nil, nil
	r.closing.Add(1)
	if p.leases == 0 {
		r.close(p)
	}
}

// close closes a retired pool that nobody uses, without waiting for it.
func (r *Router) close(p *pool) {
	go func() {
		defer r.closing.Done()
		p.Close()
	}()
}

// makeRoom closes unused connections: those of the tenant that was unused the longest, or else idle ones
// of a tenant in use.
func (r *Router) makeRoom() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for element := r.pools.Back(); element != nil; element = element.Prev() {
		if p := element.Value.(*pool); p.leases == 0 && p.Stat().TotalConns() > 0 {
			r.evicted++
			r.retire(p)
			return
		}
	}
	for element := r.pools.Back(); element != nil; element = element.Prev() {
		if p := element.Value.(*pool); p.Stat().IdleConns() > 0 {
			p.Reset() // those in use are closed when they are given back
			return
		}
	}
}

// release gives a lease back.
func (r *Router) release(p *pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.leases--
	switch {
	case p.leases > 0:
	case p.entry == nil:
		r.close(p)
	case r.pools.Len() > r.budget.size:
		r.trim()
	}
}

// note records from a query's error whether a tenant's database is usable, and rewords the error so that
// it contains nobody's data. Errors: ErrBusy, ErrDown, err.
func (r *Router) note(ctx context.Context, p *pool, err error) error {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	switch {
	case err == nil:
		if p.failed.Load() {
			r.setBad(p, false)
		}
		return nil
	case errors.Is(err, ErrBusy), errors.As(err, &pgErr) && pgErr.Code == tooManyConnections:
		return fmt.Errorf("%w", ErrBusy)
	case errors.As(err, &connectErr) && ctx.Err() == nil:
		r.setBad(p, true)
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return err
}

const tooManyConnections = "53300" // SQLSTATE

func (r *Router) setBad(p *pool, bad bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.failed.Store(bad)
	if !bad {
		p.failures, p.badUntil = 0, time.Time{}
		return
	}
	pause := min(firstPause<<min(p.failures, 10), lastPause)
	p.failures++
	p.badUntil = time.Now().Add(pause)
}
