// Package tenantdb routes a request to its church's own database, and to no other. A Tenant, the only
// way to a church's data, comes from the Router alone; the queries on it stand beside it in this
// package. Making and removing databases is tenantserver's.
package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"narthex/internal/registry"
	"narthex/internal/secrets"
)

var (
	// ErrUnknown: there is no such tenant, or its signup has not succeeded.
	ErrUnknown = errors.New("no such tenant")
	// ErrInactive: the tenant is suspended, archived or deleted.
	ErrInactive = errors.New("the tenant is not active")
)

const (
	connectionsPerTenant = 4
	idleConnection       = time.Minute // an unused tenant costs no connection after this long
)

// Router opens and keeps one pool of connections a tenant. It is safe for concurrent use.
type Router struct {
	registry *registry.Registry
	keys     *secrets.Keys

	opening singleflight.Group
	mu      sync.Mutex
	pools   map[string]pool // by tenant id
	closed  bool
}

type pool struct {
	*pgxpool.Pool
	url string // the database URL that it was opened with
}

// NewRouter returns a router over the tenants that reg lists.
func NewRouter(reg *registry.Registry, keys *secrets.Keys) *Router {
	return &Router{registry: reg, keys: keys, pools: map[string]pool{}}
}

// Tenant is a church's own database with its registry record. Only a Router makes one.
type Tenant struct {
	registry.Tenant
	pool *pgxpool.Pool
	keys *secrets.Keys
}

// Acquire returns the tenant of this id. The id must come from a verified token or from the registry,
// never from a client. Errors: ErrUnknown, ErrInactive, or why the registry did not answer.
func (r *Router) Acquire(ctx context.Context, tenantID string) (*Tenant, error) {
	record, err := r.registry.Tenant(ctx, tenantID)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, ErrUnknown
	case err != nil:
		return nil, err
	case record.Status == "provisioning":
		return nil, ErrUnknown
	case record.Status != registry.StatusActive:
		return nil, ErrInactive
	}
	p, err := r.pool(record)
	if err != nil {
		return nil, err
	}
	return &Tenant{Tenant: record, pool: p, keys: r.keys}, nil
}

// pool returns the tenant's pool, opening it, or opening it anew when the tenant's URL has changed.
// Opening connects to nothing yet.
func (r *Router) pool(record registry.Tenant) (*pgxpool.Pool, error) {
	if p, ok := r.lookup(record); ok {
		return p, nil
	}
	opened, err, _ := r.opening.Do(record.ID+"\x00"+record.DatabaseURL, func() (any, error) {
		if p, ok := r.lookup(record); ok {
			return p, nil
		}
		return r.open(record)
	})
	if err != nil {
		return nil, err
	}
	return opened.(*pgxpool.Pool), nil
}

func (r *Router) lookup(record registry.Tenant) (*pgxpool.Pool, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pools[record.ID]
	return p.Pool, ok && p.url == record.DatabaseURL
}

func (r *Router) open(record registry.Tenant) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(record.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: its database URL is malformed", record.ID)
	}
	config.MaxConns = connectionsPerTenant
	config.MaxConnIdleTime = idleConnection
	config.HealthCheckPeriod = idleConnection / 2
	opened, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("open pool of tenant %s: %w", record.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		opened.Close()
		return nil, errors.New("the router is closed")
	}
	if old, ok := r.pools[record.ID]; ok {
		go old.Close() // waits for the requests that still use it
	}
	r.pools[record.ID] = pool{Pool: opened, url: record.DatabaseURL}
	return opened, nil
}

// Close closes every pool, and waits for the requests that use them.
func (r *Router) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, p := range r.pools {
		p.Close()
	}
	clear(r.pools)
}
