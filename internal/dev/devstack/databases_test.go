package devstack_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/dev/devstack"
	"narthex/internal/dev/testenv"
	"narthex/internal/hardening"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// prepared is a server as the development stack prepares it, with a migrated registry.
func prepared(t *testing.T) devstack.Databases {
	t.Helper()
	var databases devstack.Databases
	for range 2 { // it is idempotent
		var err error
		databases, err = devstack.PrepareOwn(t.Context(), testenv.PostgresURL(t), devstack.Keys{"SERVICE_PASSWORD": "service"})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := registry.Migrate(t.Context(), databases.RegistryURL); err != nil {
		t.Fatal(err)
	}
	return databases
}

// insufficientPrivilege is PostgreSQL's SQLSTATE for what a role may not do.
const insufficientPrivilege = "42501"

func wantForbidden(t *testing.T, what string, err error) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != insufficientPrivilege {
		t.Errorf("%s: %v, want it forbidden", what, err)
	}
}

// makeTenant makes a tenant's database, and returns its URL and name.
func makeTenant(t *testing.T, server *tenantserver.Server) (url, name string) {
	t.Helper()
	permit := func(context.Context) error { return nil }
	tenant := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: "password"}
	if _, err := server.Create(t.Context(), tenant, permit, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Drop(context.WithoutCancel(t.Context()), tenant, permit); err != nil {
			t.Error(err)
		}
	})
	url, _, _, name = server.Location(tenant)
	return url, name
}

// TestATenantsRoleReachesOnlyItsOwnDatabase tries to reach other databases with one church's credentials.
func TestATenantsRoleReachesOnlyItsOwnDatabase(t *testing.T) {
	databases := prepared(t)
	server, err := tenantserver.Open(t.Context(), databases.TenantServerURL, "test", migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	own, name := makeTenant(t, server)
	_, other := makeTenant(t, server)
	wantNoOtherDatabase(t, own, name, other)
	wantNoOtherRights(t, testenv.Connect(t, own), name, other)
}

func wantNoOtherDatabase(t *testing.T, own, name, other string) {
	t.Helper()
	for _, database := range []string{other, "narthex_registry", "postgres", "template1", "template0"} {
		u, err := url.Parse(own)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + database
		conn, err := pgx.Connect(t.Context(), u.String())
		if err == nil {
			conn.Close(t.Context())
			t.Errorf("%s may connect to %s", name, database)
			continue
		}
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != insufficientPrivilege && pgErr.Code != "55000" { // template0 accepts no connections at all
			t.Errorf("connect to %s: %v, want it forbidden", database, err)
		}
	}
}

func wantNoOtherRights(t *testing.T, tenant *pgx.Conn, name, other string) {
	t.Helper()
	for _, sql := range []string{
		`SELECT * FROM pg_shadow`,
		`SELECT rolpassword FROM pg_authid`,
		`CREATE DATABASE mine`,
		`CREATE ROLE mine`,
		`ALTER ROLE ` + other + ` PASSWORD 'mine'`,
		`ALTER DATABASE ` + other + ` CONNECTION LIMIT 0`,
		`DROP DATABASE ` + other,
		`SET ROLE ` + other,
		`SET ROLE narthex`,
		`SET ROLE postgres`,
		`SET SESSION AUTHORIZATION ` + other,
		`GRANT CONNECT ON DATABASE ` + other + ` TO ` + name,
		`ALTER DATABASE ` + name + ` OWNER TO narthex`,
		`COPY (SELECT 1) TO '/tmp/narthex-test-leak'`,
		`COPY (SELECT 1) TO PROGRAM 'true'`,
		`SELECT pg_read_file('PG_VERSION')`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narthex'`,
		`ALTER SYSTEM SET port = 1`,
		`ALTER ROLE ` + name + ` CONNECTION LIMIT -1`,
	} {
		_, err := tenant.Exec(t.Context(), sql)
		wantForbidden(t, sql, err)
	}
	var ofDatabase, ofRole int
	const selectLimits = `
		SELECT datconnlimit, rolconnlimit FROM pg_database, pg_roles
		WHERE datname = current_database() AND rolname = current_user`
	err := tenant.QueryRow(t.Context(), selectLimits).Scan(&ofDatabase, &ofRole)
	if err != nil || ofDatabase <= 0 || ofRole <= 0 {
		t.Errorf("the connection limits are %d and %d (%v), want both set", ofDatabase, ofRole, err)
	}
}

func TestTheServicesRoleIsNoSuperuserAndItsServerIsClosed(t *testing.T) {
	databases := prepared(t)
	var super bool
	const selectSuper = `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`
	err := testenv.Connect(t, databases.RegistryURL).QueryRow(t.Context(), selectSuper).Scan(&super)
	if err != nil || super {
		t.Errorf("Narthex works as a superuser: %t (%v), want false", super, err)
	}
	for _, url := range []string{databases.RegistryURL, databases.TenantServerURL} {
		if missing, err := hardening.Missing(t.Context(), testenv.Connect(t, url), true); err != nil || len(missing) > 0 {
			t.Errorf("missing: %q (%v), want nothing", missing, err)
		}
	}
	admin := testenv.Connect(t, databases.AdminURL)
	for _, sql := range []string{`GRANT CONNECT ON DATABASE postgres TO PUBLIC`, `ALTER ROLE narthex NOCREATEDB`,
		`REVOKE pg_read_all_stats FROM narthex`} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	missing, err := hardening.Missing(t.Context(), testenv.Connect(t, databases.TenantServerURL), true)
	want := []string{
		`ALTER ROLE narthex CREATEDB CREATEROLE;`,
		`GRANT pg_read_all_stats TO narthex;`,
		`REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;`,
		`GRANT CONNECT ON DATABASE postgres TO narthex;`,
	}
	if err != nil || !slices.Equal(missing, want) {
		t.Errorf("missing on an open server:\n%q (%v), want\n%q", missing, err, want)
	}
	for _, sql := range missing {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if missing, err := hardening.Missing(t.Context(), testenv.Connect(t, databases.TenantServerURL), true); err != nil || len(missing) > 0 {
		t.Errorf("after these statements: %q (%v), want nothing", missing, err)
	}
}
