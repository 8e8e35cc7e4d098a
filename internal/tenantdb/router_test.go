package tenantdb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/tenantdb"
	"narthex/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a test's own registry, with tenants whose databases the test may break.
type world struct {
	t        testing.TB
	admin    *pgxpool.Pool // the server, as superuser
	pool     *pgxpool.Pool // the registry
	registry *registry.Registry
	keys     *secrets.Keys
}

func newWorld(t testing.TB) *world {
	t.Helper()
	keys := testenv.Keys(t)
	r, url := testenv.NewRegistry(t, keys)
	return &world{t: t, admin: testenv.OpenPool(t, testenv.PostgresURL(t)), pool: testenv.OpenPool(t, url), registry: r, keys: keys}
}

func (w *world) router(connections int) *tenantdb.Router {
	r := tenantdb.NewRouter(w.registry, w.keys, connections, slog.New(slog.DiscardHandler))
	w.t.Cleanup(r.Close)
	return r
}

// enter inserts an active tenant whose database is at databaseURL.
func (w *world) enter(databaseURL string) (id string) {
	w.t.Helper()
	ctx, now := w.t.Context(), time.Now()
	owner := registry.Owner{RunID: ids.New(), TenantID: ids.New()}
	u, err := url.Parse(databaseURL)
	if err != nil {
		w.t.Fatal(err)
	}
	email := owner.TenantID + "@example.org"
	for _, err := range []error{
		w.registry.InsertChurch(ctx, owner, registry.Church{
			Name: "Grace Chapel", Email: email, EmailHash: email, TrialEndsAt: now, CreatedAt: now,
		}),
		w.registry.InsertTenant(ctx, owner, registry.NewTenant{Name: "Grace Chapel", Email: email, DatabaseURL: databaseURL,
			DatabaseHost: u.Hostname(), DatabasePort: 5432, DatabaseName: owner.TenantID, SchemaVersion: 1, CreatedAt: now}),
		w.registry.ActivateTenant(ctx, owner, "admin"),
	} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return owner.TenantID
}

// tenants inserts n tenants, each with its own database.
func (w *world) tenants(n int) (all []string) {
	w.t.Helper()
	for range n {
		all = append(all, w.enter(testenv.NewDatabase(w.t)))
	}
	return all
}

func (w *world) exec(pool *pgxpool.Pool, sql string, args ...any) {
	w.t.Helper()
	if _, err := pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

type name struct{ Database string }

// database asks a tenant which database it is.
func database(ctx context.Context, r *tenantdb.Router, id string) (string, error) {
	tenant, err := r.Acquire(ctx, id)
	if err != nil {
		return "", err
	}
	defer tenant.Release()
	row, err := tenantdb.One[name](ctx, tenant, `SELECT current_database() AS database`)
	return row.Database, err
}

func (w *world) wantDatabase(r *tenantdb.Router, id string) string {
	w.t.Helper()
	got, err := database(w.t.Context(), r, id)
	if err != nil {
		w.t.Fatalf("tenant %s: %v", id, err)
	}
	return got
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not true after 20 seconds", what)
}

func TestManyAtOnceOpenOnePool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, id := w.router(10), w.tenants(1)[0]
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := database(t.Context(), r, id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if stats := r.Stats(); stats.Opened != 1 || stats.PoolsInUse != 0 || stats.Connections > 4 {
		t.Errorf("%+v, want one pool of at most 4 connections, and none in use", stats)
	}
	if _, err := r.Acquire(t.Context(), ids.New()); !errors.Is(err, tenantdb.ErrUnknown) {
		t.Errorf("a tenant that doesn't exist: %v, want ErrUnknown", err)
	}
}

func TestChangesArriveWithinASecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.tenants(1)[0]
	routers := []*tenantdb.Router{w.router(10), w.router(10)}
	change := func(status string, want error, before func()) {
		t.Helper()
		for _, r := range routers {
			eventually(t, "the router receives notifications", func() bool { return r.Stats().Listening })
			_, _ = database(t.Context(), r, id)
		}
		before()
		w.exec(w.pool, `UPDATE tenants SET status = $1 WHERE id = $2`, status, id)
		time.Sleep(time.Second) // as promised
		for i, r := range routers {
			if _, err := database(t.Context(), r, id); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("router %d, a second after the tenant became %s: %v, want %v", i, status, err, want)
			}
		}
	}
	change("suspended", tenantdb.ErrInactive, func() {})
	change("active", nil, func() {})
	if routers[0].Stats().Changes < 2 {
		t.Errorf("%+v, want at least 2 changes", routers[0].Stats())
	}
	change("suspended", tenantdb.ErrInactive, func() { // while no notification arrives
		w.exec(w.pool, `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE '%ping%' AND pid <> pg_backend_pid()`)
	})
	w.exec(w.pool, `DROP TRIGGER tenants_changed ON tenants`) // as if the notification were lost
	w.exec(w.pool, `UPDATE tenants SET status = 'active'`)
	for _, r := range routers {
		eventually(t, "the router receives notifications again", func() bool { return r.Stats().Listening })
	}
}

// A church is served if its schema is one that this release works with, or a newer one that works with this release.
func TestCompatibleSchemasAreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, id := w.router(10), w.tenants(1)[0]
	for _, c := range []struct {
		version int
		serves  any
		want    error
	}{
		{migrations.TenantOldest - 1, nil, tenantdb.ErrSchemaBehind},
		{migrations.TenantVersion() + 1, nil, tenantdb.ErrSchemaAhead},
		{migrations.TenantVersion() + 1, migrations.TenantVersion() + 1, tenantdb.ErrSchemaAhead},
		{migrations.TenantVersion() + 1, migrations.TenantVersion(), nil},
		{migrations.TenantVersion() + 2, migrations.TenantVersion() - 1, nil},
		{migrations.TenantVersion(), nil, nil},
		{migrations.TenantOldest, nil, nil},
	} {
		eventually(t, "the router receives notifications", func() bool { return r.Stats().Listening })
		w.exec(w.pool, `UPDATE tenants SET schema_version = $1, schema_serves = $3 WHERE id = $2`, c.version, id, c.serves)
		time.Sleep(time.Second) // by then, the notification has arrived
		if _, err := database(t.Context(), r, id); !errors.Is(err, c.want) {
			t.Errorf("schema version %d: %v, want %v", c.version, err, c.want)
		}
	}
}

func TestAcquireDoesNotAskTheRegistryEachTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, id := w.router(10), w.tenants(1)[0]
	eventually(t, "the router receives notifications", func() bool { return r.Stats().Listening })
	for range 100 {
		w.wantDatabase(r, id)
	}
	if stats := r.Stats(); stats.Misses > 3 { // one, unless the machine paused in between
		t.Errorf("%+v, want hardly any misses", stats)
	}
}

// A moved tenant gets a new pool at once; the old one stays until its last request is done.
func TestMovedTenantGetsANewPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, old, next := w.router(10), testenv.NewDatabase(t), testenv.NewDatabase(t)
	id := w.enter(old)
	before := w.wantDatabase(r, id)
	tenant, err := r.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	err = tenant.InTx(t.Context(), func(tx *tenantdb.Tx) error {
		sealed, err := w.keys.Seal([]byte(next), secrets.Place{Table: "registry.tenants", Column: "database_url", Tenant: id})
		if err != nil {
			return err
		}
		w.exec(w.pool, `UPDATE tenants SET database_url = $1 WHERE id = $2`, sealed, id)
		eventually(t, "the new database", func() bool { return w.wantDatabase(r, id) != before })
		row, err := tenantdb.One[name](t.Context(), tx, `SELECT current_database() AS database`)
		if row.Database != before {
			t.Errorf("the request that had started is answered from %s, want %s", row.Database, before)
		}
		return err
	})
	if err != nil {
		t.Errorf("the request that had started: %v", err)
	}
	tenant.Release()
	if stats := r.Stats(); stats.Pools != 1 || stats.Opened != 2 {
		t.Errorf("%+v, want one pool left of two", stats)
	}
	eventually(t, "the old pool's end", func() bool { return r.Stats().Connections == 1 })
}

// TestBudget lets more tenants ask at once than connections may be open.
func TestBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const budget = 3
	r, tenants := w.router(budget), w.tenants(8)
	most := 0
	watch, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ; watch.Err() == nil; time.Sleep(time.Millisecond) {
			most = max(most, r.Stats().Connections)
		}
	}()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			tenant, err := r.Acquire(t.Context(), tenants[i%len(tenants)])
			if err == nil {
				_, err = tenantdb.Exec(t.Context(), tenant, `SELECT pg_sleep(0.005)`)
				tenant.Release()
			}
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	stop()
	<-watched
	if most > budget || most == 0 {
		t.Errorf("%d connections were open, want at most %d", most, budget)
	}
	if stats := r.Stats(); stats.Pools > budget || stats.PoolsInUse != 0 || stats.Waiting != 0 {
		t.Errorf("%+v, want at most %d pools, nothing in use and nobody waiting", stats, budget)
	}
}

// A connection returns to its pool before the next request asks for one.
func TestConsecutiveRequestsUseOneConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, id := w.router(4), w.tenants(1)[0]
	for range 500 {
		w.wantDatabase(r, id)
	}
	if n := r.Stats().Connections; n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
}

func TestASpentBudgetRefusesRequestsAndKeepsPoolsInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, tenants := w.router(2), w.tenants(3)
	held := make([]*tenantdb.Tenant, 2)
	inUse, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for i := range held {
		var err error
		if held[i], err = r.Acquire(t.Context(), tenants[i]); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer held[i].Release()
			err := held[i].InTx(t.Context(), func(tx *tenantdb.Tx) error {
				inUse <- struct{}{}
				<-done
				_, err := tenantdb.Exec(t.Context(), tx, `SELECT 1`)
				return err
			})
			if err != nil {
				t.Errorf("a request that had started: %v", err)
			}
		})
		<-inUse
	}
	if _, err := database(t.Context(), r, tenants[2]); !errors.Is(err, tenantdb.ErrBusy) {
		t.Errorf("with all connections in use: %v, want ErrBusy", err)
	}
	close(done)
	wg.Wait()
	w.wantDatabase(r, tenants[2])
	if stats := r.Stats(); stats.Refused == 0 || stats.Evicted == 0 {
		t.Errorf("%+v, want one refused and one evicted", stats)
	}
}

func TestDatabaseThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, id := w.router(10), ""
	u, err := url.Parse(testenv.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	gone := "gone_" + strings.ToLower(ids.New())
	u.Path = "/" + gone
	w.exec(w.admin, "CREATE DATABASE "+gone)
	id = w.enter(u.String())
	w.wantDatabase(r, id)
	w.exec(w.admin, "DROP DATABASE "+gone+" WITH (FORCE)")
	began := time.Now()
	var refused error
	for i := range 10 {
		if _, refused = database(t.Context(), r, id); refused == nil {
			t.Fatalf("request %d is answered by a dropped database", i)
		}
		if i > 1 && !errors.Is(refused, tenantdb.ErrDown) {
			t.Errorf("request %d: %v, want ErrDown", i, refused)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("10 refusals took %s, want no hang", took)
	}
	w.exec(w.admin, "CREATE DATABASE "+gone)
	t.Cleanup(func() { _, _ = w.admin.Exec(context.Background(), "DROP DATABASE "+gone+" WITH (FORCE)") })
	eventually(t, "an answer from the database that is back", func() bool { _, err := database(t.Context(), r, id); return err == nil })
}

// A server that takes connections and never answers costs the first request some seconds, and the others
// nothing.
// Each new connection leads to a server that takes writes, or is refused.
func TestTargetSessionAttrsAreHonoured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.enter(testenv.NewDatabase(t) + "&target_session_attrs=read-write")
	r := w.router(10)
	alter := "ALTER DATABASE " + w.wantDatabase(r, id)
	w.exec(w.admin, alter+" SET default_transaction_read_only = on")
	w.exec(w.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", strings.Fields(alter)[2])
	if _, err := database(t.Context(), r, id); !errors.Is(err, tenantdb.ErrDown) {
		t.Errorf("a database whose sessions are read-only returns %v, want ErrDown", err)
	}
	w.exec(w.admin, alter+" RESET default_transaction_read_only")
	eventually(t, "the database can be used once it accepts writes again", func() bool {
		_, err := database(t.Context(), r, id)
		return err == nil
	})
}

func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r, id := w.router(10), w.enter(fmt.Sprintf("postgres://tenant:tenant@%s/tenant?sslmode=disable", listener.Addr()))
	if _, err := database(t.Context(), r, id); !errors.Is(err, tenantdb.ErrDown) {
		t.Errorf("the first request: %v, want ErrDown", err)
	}
	if _, err := r.Acquire(t.Context(), id); !errors.Is(err, tenantdb.ErrDown) {
		t.Errorf("the next: %v, want ErrDown at once", err)
	}
}

func TestBudgetIsComparedWithTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 { // before the first tenant, and after
		if err := w.router(50).CheckBudget(t.Context()); err != nil {
			t.Errorf("50 connections: %v", err)
		}
		if err := w.router(10_000).CheckBudget(t.Context()); !errors.Is(err, tenantdb.ErrBudget) {
			t.Errorf("10,000 connections: %v, want ErrBudget", err)
		}
		w.tenants(1)
	}
}

func TestCloseWaitsForRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := tenantdb.NewRouter(w.registry, w.keys, 10, slog.New(slog.DiscardHandler))
	id := w.tenants(1)[0]
	tenant, err := r.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	err = tenant.InTx(t.Context(), func(tx *tenantdb.Tx) error {
		go func() { r.Close(); close(closed) }()
		eventually(t, "a closed router", func() bool { _, err := database(t.Context(), r, id); return err != nil })
		_, err := tenantdb.Exec(t.Context(), tx, `SELECT 1`)
		return err
	})
	if err != nil {
		t.Errorf("the request that had started: %v", err)
	}
	tenant.Release()
	tenant.Release() // it is idempotent
	<-closed
	if open := r.Stats().Connections; open != 0 {
		t.Errorf("%d connections are left open", open)
	}
}

// TestOneChurchDoesNotStarveAnother keeps all connections busy with one church's requests. Another church's requests still
// get their turn.
func TestOneChurchDoesNotStarveAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, tenants := w.router(4), w.tenants(2)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				tenant, err := r.Acquire(ctx, tenants[0])
				if err == nil {
					_, err = tenantdb.Exec(ctx, tenant, `SELECT pg_sleep(0.01)`)
					tenant.Release()
				}
				if err != nil && ctx.Err() == nil && !errors.Is(err, tenantdb.ErrBusy) {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, "a spent budget", func() bool { return r.Stats().Connections == 4 })
	for range 10 {
		w.wantDatabase(r, tenants[1])
	}
	stop()
	wg.Wait()
}
