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
	idleConnection       = time.Minute            // an unused tenant costs no connection after this long
	connectLimit         = patience + 2*dialLimit // of a connection, from its wait for a place to its log-in

	firstPause = time.Second // a database that could not be connected to is left alone for this long,
	lastPause  = 16 * time.Second
)

// pool is the connections to one tenant's database. The router's lock guards all but the connections.
type pool struct {
	*postgres.Pool
	url      string // that it connects to
	leases   int    // tenants that were acquired and not released yet
	entry    *entry // nil once it has been retired
	element  *list.Element
	failed   atomic.Bool // its database could not be connected to, the last time
	failures int         // in a row
	badUntil time.Time
}

// newPool makes a pool. It connects when it is first asked.
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
	config.ConnConfig.ConnectTimeout = connectLimit
	config.ConnConfig.RuntimeParams["search_path"] = "public"
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = postgres.IdleLimit
	opened, err := postgres.Open(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("open pool of tenant %s: %w", record.ID, err)
	}
	return &pool{Pool: opened, url: record.DatabaseURL}, nil
}

// tracer closes a connection that is given back to its pool while others wait for a place. pgxpool's AfterRelease
// would do so too, but takes a goroutine each time, and the next request may find the connection not back yet, and
// open another.
type tracer struct {
	sqltrace.Tracer
	budget *budget
}

var _ pgxpool.ReleaseTracer = tracer{}

// TraceRelease is called before the pool looks whether the connection is closed.
func (t tracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if !t.budget.keep() {
		_ = data.Conn.Close(context.Background())
	}
}

// install makes a pool the one of its tenant. The lock is held.
func (r *Router) install(e *entry, p *pool) {
	e.pool, p.entry = p, e
	p.element = r.pools.PushFront(p)
	r.opened++
	r.trim()
}

// trim retires the pools that were unused the longest, while there are more than could have a connection.
// It spares the one that was used last. The lock is held.
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

// retire takes a pool out of service: it closes when nobody uses it any more. The lock is held.
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

// makeRoom closes connections that nobody uses: those of the tenant that was unused the longest, or else
// idle ones of a tenant in use.
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

// note remembers whether a tenant's database could be used, by a query's error, and puts the error into
// words that hold nobody's data. Errors: ErrBusy, ErrDown, err.
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
