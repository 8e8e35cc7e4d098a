package activities_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// keeper runs the activity that keeps databases ready.
type keeper struct{ *bundle }

const readySize = 2

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{setup(t)}
	k.do.ReadyDatabases = readySize
	return k
}

// runUntil runs a round until there returns true.
func (k *keeper) runUntil(what string, there func() bool) {
	k.t.Helper()
	stop := make(chan struct{})
	k.env.SetWorkerStopChannel(stop)
	done := make(chan error)
	go func() {
		_, err := k.env.ExecuteActivity(k.do.KeepPoolFilled)
		done <- err
	}()
	deadline := time.Now().Add(30 * time.Second)
	for !there() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if !there() {
		k.t.Errorf("%s: not within 30 seconds", what)
	}
	close(stop)
	if err := <-done; err != nil {
		k.t.Errorf("the round ends with %v when the worker stops, want nil", err)
	}
}

// ready returns the databases that are offered, having checked that each exists.
func (k *keeper) ready() []registry.ReadyDatabase {
	k.t.Helper()
	offered, err := k.do.Registry.ReadyDatabases(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	existing, err := k.server.ReadyIDs(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	for _, d := range offered {
		if !existing[d.ID] {
			k.t.Errorf("%s is offered, and does not exist", d.ID)
		}
	}
	return offered
}

func (k *keeper) full() bool { return len(k.ready()) == readySize }

func (k *keeper) hasTemplate() bool {
	k.t.Helper()
	has, err := k.server.HasTemplate(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	return has
}

// A round can start on an empty server, without a template. It ends with the worker, and leaves nothing half-made.
func TestKeepPoolFilledFillsAnEmptyServer(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.runUntil("the stock is full", k.full)
	for _, d := range k.ready() {
		if d.Server != k.server.Name() || d.Template != k.server.Template() || d.SchemaVersion != migrations.TenantVersion() {
			t.Errorf("%+v is offered, want one on %s of template %s", d, k.server.Name(), k.server.Template())
		}
	}
	existing, err := k.server.ReadyIDs(t.Context())
	if err != nil || len(existing) != readySize {
		t.Errorf("%d databases exist (%v), want only the %d that are offered", len(existing), err, readySize)
	}
}

// A dropped template is made again without a restart, even if no databases are kept ready.
func TestKeepPoolFilledRecreatesADroppedTemplate(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, readySize} {
		t.Run(fmt.Sprintf("%d kept ready", size), func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			k.do.ReadyDatabases = size
			if err := k.server.EnsureTemplate(t.Context()); err != nil {
				t.Fatal(err)
			}
			dropped := false
			k.runUntil("the template is back", func() bool {
				if !dropped && len(k.ready()) == size {
					k.dropTemplate()
					dropped = true
				}
				return dropped && k.hasTemplate()
			})
			d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: "5ecret"}
			permit := func(context.Context) error { return nil }
			source, err := k.server.Create(t.Context(), d, permit, nil)
			if err != nil || source != tenantserver.FromTemplate {
				t.Errorf("the next database comes from %q (%v), want %q", source, err, tenantserver.FromTemplate)
			}
		})
	}
}

// dropTemplate leaves the template's role. The running keeper replaces both.
func (k *keeper) dropTemplate() {
	k.t.Helper()
	template := pgx.Identifier{k.server.Template()}.Sanitize()
	k.exec(`ALTER DATABASE ` + template + ` IS_TEMPLATE false`)
	k.exec(`DROP DATABASE ` + template + ` WITH (FORCE)`)
}
