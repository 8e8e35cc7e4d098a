package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// host is the process's server, seen by a role that may only create databases and roles, and by the superuser.
type host struct {
	t         testing.TB
	role, url string
	server    *tenantserver.Server
	admin     *pgx.Conn
}

func newHost(t testing.TB) *host {
	t.Helper()
	adminURL := testenv.PostgresURL(t)
	admin := testenv.Connect(t, adminURL)
	h := &host{t: t, role: "service_" + ids.New(), admin: admin}
	exec(t, admin, fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEDB CREATEROLE PASSWORD 'service'`, h.role))
	service, err := url.Parse(adminURL)
	if err != nil {
		t.Fatal(err)
	}
	service.User = url.UserPassword(h.role, "service")
	h.url = service.String()
	h.server = h.another()
	return h
}

// another returns the same server with the same role, as in another process.
func (h *host) another() *tenantserver.Server { return h.of("test") }

// of returns the same server with the same role, as in another installation.
func (h *host) of(installation string) *tenantserver.Server {
	h.t.Helper()
	server, err := tenantserver.Open(h.t.Context(), h.url, installation, migrations.Tenant)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(server.Close)
	return server
}

func open(t *testing.T) (server *tenantserver.Server, admin *pgx.Conn) {
	t.Helper()
	h := newHost(t)
	return h.server, h.admin
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func newDatabase() tenantserver.Database {
	return tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: strings.Repeat("5ecret", 8)}
}

func always(context.Context) error { return nil }

// makes returns Create's error.
func makes(_ tenantserver.Source, err error) error { return err }

func create(t testing.TB, server *tenantserver.Server, d tenantserver.Database) {
	t.Helper()
	if _, err := server.Create(t.Context(), d, always, nil); err != nil {
		t.Fatalf("create: %v", err)
	}
}

func drop(t testing.TB, server *tenantserver.Server, d tenantserver.Database) {
	t.Helper()
	if err := server.Drop(t.Context(), d, always); err != nil {
		t.Fatalf("drop: %v", err)
	}
}

// there counts the database and the role of d's name.
func there(t *testing.T, admin *pgx.Conn, d tenantserver.Database) (found int) {
	t.Helper()
	const query = `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1) + (SELECT count(*) FROM pg_roles WHERE rolname = $1)`
	if err := admin.QueryRow(t.Context(), query, d.Name()).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLifeOfADatabase(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	d := newDatabase()
	if _, err := server.Connect(t.Context(), d); !errors.Is(err, tenantserver.ErrGone) {
		t.Errorf("before it is made, connect returns %v, want ErrGone", err)
	}
	for range 2 { // each step is idempotent
		create(t, server, d)
	}
	for range 2 {
		if err := server.Migrate(t.Context(), d); err != nil {
			t.Fatalf("migrate: %v", err)
		}
	}
	conn, err := server.Connect(t.Context(), d)
	if err != nil {
		t.Fatalf("connect with the role's password: %v", err)
	}
	defer conn.Close(context.Background())
	for range 2 {
		if err := server.Revert(t.Context(), d); err != nil {
			t.Fatalf("revert: %v", err)
		}
	}
	for range 2 {
		drop(t, server, d) // even while somebody is connected
	}
	if found := there(t, admin, d); found != 0 {
		t.Errorf("of database and role, %d are left, want 0", found)
	}
}

// The next attempt completes what an interrupted attempt left half-made.
func TestCreateCompletesAHalfMadeDatabase(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	for name, cut := range map[string]string{
		"a role without its database":               `DROP DATABASE %s`,
		"a half-dropped database":                   `UPDATE pg_database SET datconnlimit = -2 WHERE datname = '%s'`,
		"a database that is still open to everyone": `GRANT CONNECT, TEMPORARY ON DATABASE %s TO PUBLIC`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase()
			create(t, server, d)
			exec(t, admin, fmt.Sprintf(cut, d.Name()))
			create(t, server, d)
			if err := server.Migrate(t.Context(), d); err != nil {
				t.Errorf("migrate after it: %v", err)
			}
			var public bool
			const query = `SELECT EXISTS (SELECT FROM pg_database, aclexplode(datacl) WHERE datname = $1 AND grantee = 0)`
			if err := admin.QueryRow(t.Context(), query, d.Name()).Scan(&public); err != nil || public {
				t.Errorf("PUBLIC has rights on the database: %t (%v), want false", public, err)
			}
			drop(t, server, d)
		})
	}
}

// An interrupted migration leaves a dirty version. The database is not in use yet, so it is emptied and migrated again.
func TestMigrateRepairsADirtyDatabase(t *testing.T) {
	t.Parallel()
	server, _ := open(t)
	d := newDatabase()
	create(t, server, d)
	defer drop(t, server, d)
	for _, again := range []func(context.Context, tenantserver.Database) error{server.Migrate, server.Revert} {
		if err := server.Migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		conn, err := server.Connect(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, conn, `UPDATE narthex_migrations.versions SET dirty = true; DROP TABLE branches`)
		conn.Close(t.Context())
		if err := again(t.Context(), d); err != nil {
			t.Errorf("on a dirty database: %v", err)
		}
	}
}

func TestAnotherSignupsDatabaseIsNotTouched(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	mine := newDatabase()
	create(t, server, mine)
	defer drop(t, server, mine)
	other := mine
	other.SignupID = ids.New()
	for name, err := range map[string]error{
		"create":  makes(server.Create(t.Context(), other, always, nil)),
		"migrate": server.Migrate(t.Context(), other),
		"revert":  server.Revert(t.Context(), other),
	} {
		if !errors.Is(err, tenantserver.ErrNotOwned) {
			t.Errorf("%s of another signup's database returns %v, want ErrNotOwned", name, err)
		}
	}
	drop(t, server, other) // there is nothing to drop
	if found := there(t, admin, mine); found != 2 {
		t.Errorf("of database and role, %d exist after another signup's drop, want 2", found)
	}
}

// A database without a mark is not ours, whatever its name.
func TestAnUnmarkedDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	d := newDatabase()
	exec(t, admin, "CREATE DATABASE "+d.Name())
	defer exec(t, admin, "DROP DATABASE "+d.Name())
	if _, err := server.Create(t.Context(), d, always, nil); !errors.Is(err, tenantserver.ErrNotOwned) {
		t.Errorf("create says %v, want ErrNotOwned", err)
	}
	drop(t, server, d)
	if found := there(t, admin, d); found != 1 {
		t.Errorf("of database and role, %d exist, want only the database", found)
	}
}

func TestPermitAndTombstoneDecide(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	d := newDatabase()
	no := errors.New("no")
	refuse := func(context.Context) error { return no }
	if _, err := server.Create(t.Context(), d, refuse, nil); !errors.Is(err, no) {
		t.Errorf("create without a permit says %v, want the permit's error", err)
	}
	if found := there(t, admin, d); found != 0 {
		t.Errorf("of database and role, %d exist without a permit, want 0", found)
	}
	create(t, server, d)
	if err := server.Drop(t.Context(), d, refuse); !errors.Is(err, no) {
		t.Errorf("drop without a tombstone returns %v, want its error", err)
	}
	if found := there(t, admin, d); found != 2 {
		t.Errorf("of database and role, %d exist without a tombstone, want 2", found)
	}
	drop(t, server, d)
}

// When creates and drops of one signup race, nothing is left once the first drop has written its
// tombstone, and every failure can be fixed by a retry.
func TestCreateAndDropRace(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	d := newDatabase()
	var tombstoned bool // guarded by the tenant's lock
	permit := func(context.Context) error {
		if tombstoned {
			return errors.New("tombstoned")
		}
		return nil
	}
	tombstone := func(context.Context) error { tombstoned = true; return nil } //nolint:unparam // a drop takes functions that can fail
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			if i%3 == 2 {
				if err := server.Drop(t.Context(), d, tombstone); err != nil {
					t.Errorf("drop: %v", err)
				}
			} else if _, err := server.Create(t.Context(), d, permit, nil); err != nil && err.Error() != "tombstoned" {
				t.Errorf("create: %v", err)
			}
		})
	}
	group.Wait()
	if found := there(t, admin, d); found != 0 {
		t.Errorf("of database and role, %d are left, want 0", found)
	}
}

func TestAPasswordIsNeverSentInClear(t *testing.T) {
	t.Parallel()
	server, admin := open(t)
	d := newDatabase()
	create(t, server, d)
	defer drop(t, server, d)
	var verifier string
	if err := admin.QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, d.Name()).Scan(&verifier); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(verifier, "SCRAM-SHA-256$1:") {
		t.Errorf("the stored password begins %.20q, want a SCRAM verifier", verifier)
	}
	wrong := d
	wrong.Password = "wrong"
	var pgErr *pgconn.PgError
	if _, err := server.Connect(t.Context(), wrong); !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
		t.Errorf("a wrong password gets %v, want SQLSTATE 28P01", err)
	}
}

func TestMalformedTenantID(t *testing.T) {
	t.Parallel()
	server, _ := open(t)
	d := newDatabase()
	d.TenantID = `x"; DROP ROLE postgres; --`
	if _, err := server.Create(t.Context(), d, always, nil); !errors.Is(err, tenantserver.ErrNotOwned) {
		t.Errorf("create says %v, want ErrNotOwned", err)
	}
}

// On a server that isn't closed to tenants, a tenant's role may leave objects in the service's own database.
func TestDropIgnoresWhatARoleLeftElsewhere(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDatabase()
	create(t, h.server, d)
	location, _, _, _ := h.server.Location(d)
	conn, err := pgx.Connect(t.Context(), strings.Replace(location, "/"+d.Name()+"?", "/postgres?", 1))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`)
	conn.Close(t.Context())
	if err := h.server.Drop(t.Context(), d, always); err != nil {
		t.Errorf("drop: %v", err)
	}
}

// A session that was opened while the server was read-only stays read-only for as long as it lives.
func TestSessionsOpenedWhileReadOnlyAreReplaced(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: "5ecret"}
	permit := func(context.Context) error { return nil }
	exec(t, h.admin, fmt.Sprintf(`ALTER ROLE %s SET default_transaction_read_only = on`, h.role))
	if _, err := h.server.Create(t.Context(), d, permit, nil); err == nil {
		t.Fatal("a read-only server made a database")
	}
	if _, err := h.server.Names(t.Context()); err != nil { // a session that was opened while the server was read-only
		t.Fatal(err)
	}
	exec(t, h.admin, fmt.Sprintf(`ALTER ROLE %s RESET default_transaction_read_only`, h.role))
	for try := 1; ; try++ { // as Temporal does
		_, err := h.server.Create(t.Context(), d, permit, nil)
		if err == nil {
			break
		}
		if try == 2 {
			t.Fatalf("once the server accepts writes again, the second try returns: %v", err)
		}
	}
	if err := h.server.Drop(t.Context(), d, permit); err != nil {
		t.Fatal(err)
	}
}

// A tenant's URL names the same servers as the admin URL, and says which of them to choose.
func TestTenantsURLsNameAllHosts(t *testing.T) {
	t.Parallel()
	const url = "postgres://admin:5ecret@one:5432,two:5433/postgres?target_session_attrs=read-write"
	server, err := tenantserver.Open(t.Context(), url, "test", migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	d := tenantserver.Database{TenantID: ids.New(), Password: "5ecret"}
	location, _, _, _ := server.Location(d)
	config, err := pgx.ParseConfig(location)
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]bool{config.Host: true}
	for _, fallback := range config.Fallbacks {
		hosts[fallback.Host] = true
	}
	if !hosts["one"] || !hosts["two"] || config.ValidateConnect == nil {
		t.Errorf("a tenant's URL leads to %v (checked: %t), want both hosts and a check for writes", hosts, config.ValidateConnect != nil)
	}
}
