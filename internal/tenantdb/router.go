// Package tenantdb routes a request to its church's own database, and to no other. A Tenant is the only
// way to a church's data, and only the Router makes one. The package also has the queries on a Tenant.
// Package tenantserver makes and removes databases.
package tenantdb

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"narthex/internal/fleet/ledger"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/migrations"
)

var (
	// ErrUnknown means that there is no such tenant, or that its signup has not succeeded.
	ErrUnknown = errors.New("no such tenant")
	// ErrInactive means that the tenant is suspended, archived or deleted.
	ErrInactive = errors.New("the tenant is not active")
	// ErrSchemaAhead means that a newer release has changed the tenant's schema to one that this release doesn't know.
	ErrSchemaAhead = errors.New("the tenant's schema is newer than this release's")
	// ErrSchemaBehind means that the tenant's schema is too old for this release and must be migrated first.
	ErrSchemaBehind = errors.New("the tenant's schema is older than this release's")
	// ErrDown means that connecting to the tenant's database fails.
	ErrDown = errors.New("the tenant's database does not answer")
)

// Router caches the registry's records of tenants, and has a connection pool for each tenant in use. It is
// safe for concurrent use.
type Router struct {
	registry *registry.Registry
	ledger   *ledger.Ledger
	keys     *secrets.Keys
	log      *slog.Logger
	budget   *budget
	newest   int // newest tenant schema version that this release knows
	oldest   int // oldest one that it works with
	reading  singleflight.Group
	stop     context.CancelFunc
	closing  sync.WaitGroup

	mu       sync.Mutex
	tenants  map[string]*entry
	used     map[string]bool // tenants that were lent since the last report to the registry
	byUse    *list.List      // of *entry, the one used last in front
	pools    *list.List      // of *pool, the one used last in front
	closed   bool
	heardAt  time.Time // when the registry was last known to report changes
	heardFor time.Time // since when it has reported all changes

	opened, evicted, changes int64
	hits, misses             atomic.Int64
}

// NewRouter returns a router over the tenants in reg. Its pools together have at most connections (at least
// one) open.
func NewRouter(reg *registry.Registry, keys *secrets.Keys, connections int, log *slog.Logger) *Router {
	ctx, stop := context.WithCancel(context.Background())
	r := &Router{
		registry: reg, ledger: ledger.New(reg.Pool()), keys: keys, log: log, stop: stop,
		newest: migrations.TenantVersion(), oldest: migrations.TenantOldest,
		tenants: map[string]*entry{}, used: map[string]bool{}, byUse: list.New(), pools: list.New(),
	}
	r.budget = newBudget(connections, r.makeRoom)
	r.closing.Go(func() { r.follow(ctx) })
	r.closing.Go(func() { r.reportUse(ctx) })
	return r
}

// Acquire returns the tenant with this id, which must be released. The id must come from a verified token or
// from the registry, never from a client. A church whose schema is too old moves to the head of the queue of a run over
// the fleet. Errors: ErrUnknown, ErrInactive, ErrSchemaAhead, ErrSchemaBehind, ErrDown, or why the registry did not
// answer.
func (r *Router) Acquire(ctx context.Context, tenantID string) (*Tenant, error) {
	tenant, err := r.acquire(ctx, tenantID)
	if errors.Is(err, ErrSchemaBehind) {
		if wantErr := r.ledger.Want(ctx, tenantID); wantErr != nil {
			r.log.Warn("A church could not be moved to the front of the queue", "tenantId", tenantID, "error", redact.Error(wantErr))
		}
	}
	return tenant, err
}

func (r *Router) acquire(ctx context.Context, tenantID string) (*Tenant, error) {
	now := time.Now()
	r.mu.Lock()
	if e, ok := r.tenants[tenantID]; ok && r.fresh(e, now) {
		if tenant, err := r.lease(e, now); err != errNoPool {
			r.mu.Unlock()
			r.hits.Add(1)
			return tenant, err
		}
	}
	r.mu.Unlock()
	r.misses.Add(1)
	for {
		if err := r.prepare(ctx, tenantID); err != nil {
			return nil, err
		}
		r.mu.Lock()
		e, ok := r.tenants[tenantID]
		if !ok { // forgotten at once, because too many others are in use
			r.mu.Unlock()
			continue
		}
		tenant, err := r.lease(e, time.Now())
		r.mu.Unlock()
		if err != errNoPool {
			return tenant, err
		}
	}
}

// errNoPool means that the tenant has no pool yet, or one for another URL.
var errNoPool = errors.New("no pool")

// lease lends a known tenant. The lock is held. Errors: errNoPool, ErrUnknown, ErrInactive,
// ErrSchemaAhead, ErrSchemaBehind, ErrDown.
func (r *Router) lease(e *entry, now time.Time) (*Tenant, error) {
	record, p := e.record, e.pool
	switch {
	case r.closed:
		return nil, errClosed
	case record == nil:
		return nil, errNoPool
	case record.Status == registry.StatusProvisioning:
		return nil, ErrUnknown
	case record.Status != registry.StatusActive:
		return nil, ErrInactive
	case record.SchemaVersion > r.newest && record.SchemaServes > r.newest:
		return nil, ErrSchemaAhead
	case record.SchemaVersion < r.oldest:
		return nil, ErrSchemaBehind
	case p == nil || p.url != record.DatabaseURL:
		return nil, errNoPool
	case now.Before(p.badUntil):
		return nil, ErrDown
	}
	p.leases++
	r.used[record.ID] = true
	r.byUse.MoveToFront(e.element)
	r.pools.MoveToFront(p.element)
	return &Tenant{Church: Church{ID: record.ID, Name: record.Name, Email: record.Email,
		SubscriptionStatus: record.SubscriptionStatus, TrialEndsAt: record.TrialEndsAt}, router: r, pool: p}, nil
}

var errClosed = errors.New("the router is closed")

// Close closes every pool once the requests that use it are done, and reports to the registry which churches were used.
func (r *Router) Close() {
	r.mu.Lock()
	r.closed = true
	for element := r.pools.Front(); element != nil; element = r.pools.Front() {
		r.retire(element.Value.(*pool))
	}
	r.mu.Unlock()
	r.stop() // once no tenant is lent
	r.closing.Wait()
}

// Stats are a router's counters and current state.
type Stats struct {
	Tenants     int   // whose records are kept
	Pools       int   // that are open
	PoolsInUse  int   // by a request
	Budget      int   // connections that may be open
	Connections int   // that are open
	Waiting     int   // connections that wait for their turn
	Hits        int64 // acquired without asking the registry
	Misses      int64
	Opened      int64 // pools
	Evicted     int64 // pools that made room for others
	Changes     int64 // reported by the registry
	Refused     int64 // connections that waited for too long
	Listening   bool  // the registry reports changes
}

// Stats returns the counters. Those of one kind are consistent with each other.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	inUse := 0
	for element := r.pools.Front(); element != nil; element = element.Next() {
		if element.Value.(*pool).leases > 0 {
			inUse++
		}
	}
	return Stats{
		Tenants: len(r.tenants), Pools: r.pools.Len(), PoolsInUse: inUse,
		Budget: r.budget.size, Connections: int(r.budget.open.Load()), Waiting: int(r.budget.waiting.Load()),
		Hits: r.hits.Load(), Misses: r.misses.Load(), Opened: r.opened, Evicted: r.evicted, Changes: r.changes,
		Refused: r.budget.refused.Load(), Listening: r.listening(time.Now()),
	}
}
