package devstack_test

import (
	"errors"
	"testing"
	"time"

	"narthex/internal/dev/devstack"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/registry"
)

func TestRelocate(t *testing.T) {
	t.Parallel()
	ctx, registryURL, keys := t.Context(), testenv.NewDatabase(t), testenv.Keys(t)
	if err := registry.Migrate(ctx, registryURL); err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(ctx, registryURL, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	owner, email := registry.Owner{RunID: ids.New(), TenantID: ids.New()}, "pat@example.org"
	name := ids.DatabaseName(owner.TenantID)
	tenant := registry.NewTenant{Name: "Grace Chapel", Email: email,
		DatabaseURL: "postgres://" + name + ":5ecret@old:5432/" + name + "?sslmode=disable", DatabaseHost: "old", DatabasePort: 5432,
		DatabaseName: name, SchemaVersion: 1, CreatedAt: time.Now()}
	ready := registry.ReadyDatabase{ID: ids.New(), Server: "old:5432", Template: "template", SchemaVersion: 1}
	if err := errors.Join(
		reg.InsertChurch(ctx, owner, registry.Church{Name: "Grace Chapel", Email: email, EmailHash: "hash", CreatedAt: time.Now()}),
		reg.InsertTenant(ctx, owner, tenant),
		reg.AddReadyDatabase(ctx, ready),
	); err != nil {
		t.Fatal(err)
	}

	for _, want := range []int{1, 0} { // it is idempotent
		if moved, err := devstack.Relocate(ctx, registryURL, keys, "::1", 54329); err != nil || moved != want {
			t.Errorf("%d tenants moved (%v), want %d", moved, err, want)
		}
	}
	found, err := reg.Tenant(ctx, owner.TenantID)
	if want := "postgres://" + name + ":5ecret@[::1]:54329/" + name + "?sslmode=disable"; err != nil || found.DatabaseURL != want {
		t.Errorf("the URL is %s (%v), want %s", found.DatabaseURL, err, want)
	}
	var host string
	var port int
	err = testenv.Connect(t, registryURL).QueryRow(ctx, `SELECT database_host, database_port FROM tenants`).Scan(&host, &port)
	if err != nil || host != "::1" || port != 54329 {
		t.Errorf("it is recorded at %s, port %d (%v), want ::1, 54329", host, port, err)
	}
	if n, err := reg.CountReadyDatabases(ctx, "[::1]:54329", "template"); err != nil || n != 1 {
		t.Errorf("%d ready databases have the server's new address (%v), want 1", n, err)
	}
}
