package tenantdb

import (
	"container/list"
	"context"
	"errors"
	"time"

	"narthex/internal/redact"
	"narthex/internal/registry"
)

const (
	maxTenants = 10_000      // whose records are kept
	recordLife = time.Minute // a record is read again after this long, even without news of a change

	// If the connection to the registry breaks silently, changes are not reported either. So a record may be
	// used without the registry for no longer than unheardLife.
	heardLife   = 700 * time.Millisecond
	unheardLife = 400 * time.Millisecond

	readLimit   = 3 * time.Second
	listenPause = time.Second
)

// entry is what is known about one tenant. The router's lock guards it.
type entry struct {
	id      string
	record  *registry.Tenant // never changed; nil until it has been read
	readAt  time.Time        // when the registry was asked
	changed bool             // since it was asked
	pool    *pool
	element *list.Element
}

// fresh reports whether a record can be used without asking the registry. The lock is held.
func (r *Router) fresh(e *entry, now time.Time) bool {
	age := now.Sub(e.readAt)
	if e.record == nil || e.changed || age > recordLife {
		return false
	}
	return age < unheardLife || r.listening(now) && e.readAt.After(r.heardFor)
}

// listening reports whether the registry reports changes. The lock is held.
func (r *Router) listening(now time.Time) bool { return now.Sub(r.heardAt) < heardLife }

// prepare reads a tenant's record, and opens its pool if it has none. Concurrent callers share the work.
func (r *Router) prepare(ctx context.Context, tenantID string) error {
	done := r.reading.DoChan(tenantID, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
		defer cancel()
		return nil, r.read(ctx, tenantID)
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Router) read(ctx context.Context, tenantID string) error {
	asked := time.Now()
	r.mu.Lock()
	e := r.remember(tenantID)
	e.changed = false
	r.mu.Unlock()
	record, err := r.registry.Tenant(ctx, tenantID)

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errClosed
	case errors.Is(err, registry.ErrNotFound):
		r.forget(e)
		return ErrUnknown
	case err != nil:
		e.changed = true
		return err
	case r.tenants[tenantID] != e:
		return nil // forgotten in the meantime: the caller asks again
	}
	e.record, e.readAt = &record, asked
	if e.pool != nil && (e.pool.url != record.DatabaseURL || record.Status != registry.StatusActive) {
		r.retire(e.pool)
	}
	if e.pool != nil || record.Status != registry.StatusActive {
		return nil
	}
	fresh, err := r.newPool(&record)
	if err != nil {
		return err
	}
	r.install(e, fresh)
	return nil
}

// remember returns a tenant's entry, and makes it if it is missing. The lock is held.
func (r *Router) remember(tenantID string) *entry {
	if e, ok := r.tenants[tenantID]; ok {
		return e
	}
	e := &entry{id: tenantID}
	r.tenants[tenantID], e.element = e, r.byUse.PushFront(e)
	for element := r.byUse.Back(); element != nil && len(r.tenants) > maxTenants; {
		old := element.Value.(*entry)
		element = element.Prev()
		if old.pool == nil || old.pool.leases == 0 {
			r.forget(old)
		}
	}
	return e
}

// forget drops an entry. The lock is held.
func (r *Router) forget(e *entry) {
	if r.tenants[e.id] != e {
		return // already dropped
	}
	delete(r.tenants, e.id)
	r.byUse.Remove(e.element)
	if e.pool != nil {
		r.retire(e.pool)
	}
}

// follow receives the registry's changes until ctx ends.
func (r *Router) follow(ctx context.Context) {
	for ctx.Err() == nil {
		began := true
		err := r.registry.FollowTenants(ctx, r.invalidate, func(asked time.Time) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if began {
				r.heardFor, began = asked, false
			}
			r.heardAt = asked
		})
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("The registry sends no notifications; querying it more often until it does", "error", redact.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(listenPause):
		}
	}
}

// invalidate makes sure that a tenant's record is read again when it is next needed.
func (r *Router) invalidate(tenantID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	if e, ok := r.tenants[tenantID]; ok {
		e.changed = true
	}
}
