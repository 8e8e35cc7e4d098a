package tenantdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const lastAccess = `SELECT last_accessed_at FROM tenants WHERE id = $1`

func (w *world) lastAccess(id string) (at *time.Time) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), lastAccess, id).Scan(&at); err != nil {
		w.t.Fatal(err)
	}
	return at
}

// A request writes nothing to the registry. When the router closes, one statement records which churches were used, and
// notifies nobody.
func TestTheRegistryLearnsWhichChurchesWereUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tenants := w.tenants(3)
	used, held, idle := tenants[0], tenants[1], tenants[2]
	listener := w.router(2)
	eventually(t, "the listener receives notifications", func() bool { return listener.Stats().Listening })
	r := w.router(2)
	for range 20 {
		w.wantDatabase(r, used)
	}
	w.wantDatabase(r, held)
	if at := w.lastAccess(used); at != nil {
		t.Errorf("the request itself recorded when the church was used (%s), want that to wait", at)
	}
	letGo := hold(t, w.pool, held)
	began := time.Now()
	r.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %s, want it not to wait for a locked row", took)
	}
	letGo()
	if at := w.lastAccess(used); at == nil || time.Since(*at) > time.Minute {
		t.Errorf("the church was last used at %v, want now", at)
	}
	for what, id := range map[string]string{"whose row was locked": held, "that nobody asked for": idle} {
		if at := w.lastAccess(id); at != nil {
			t.Errorf("a church %s was last used at %s, want never", what, at)
		}
	}
	w.exec(w.pool, `UPDATE tenants SET name = 'Hill Chapel' WHERE id = $1`, idle)
	eventually(t, "the listener learns of the new name", func() bool { return listener.Stats().Changes > 0 })
	if heard := listener.Stats().Changes; heard != 1 {
		t.Errorf("the registry sent %d notifications, want only that of the new name", heard)
	}
}

// hold locks a tenant's row, like a change, until the end of a transaction.
func hold(t *testing.T, registry *pgxpool.Pool, id string) (letGo func()) {
	t.Helper()
	tx, err := registry.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `SELECT FROM tenants WHERE id = $1 FOR UPDATE`, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
}
