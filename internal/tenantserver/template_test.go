package tenantserver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/catalog"
	"narthex/internal/tenantserver"
)

// describe reads the catalog of d's database.
func (h *host) describe(d tenantserver.Database) catalog.Catalog {
	h.t.Helper()
	c, err := h.server.Catalog(h.t.Context(), d.Name(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *host) ensureTemplate() {
	h.t.Helper()
	if err := h.server.EnsureTemplate(h.t.Context()); err != nil {
		h.t.Fatalf("ensure template: %v", err)
	}
}

func (h *host) make() tenantserver.Database {
	h.t.Helper()
	d := newDatabase()
	create(h.t, h.server, d)
	if err := h.server.Migrate(h.t.Context(), d); err != nil {
		h.t.Fatalf("migrate: %v", err)
	}
	return d
}

// templates returns the templates of the host's role, with their oids, which change if a template is made again.
func (h *host) templates() (names []string) {
	h.t.Helper()
	rows, _ := h.admin.Query(
		h.t.Context(),
		`SELECT datname || ' ' || oid FROM pg_database
			WHERE datname LIKE 'tenant\_template\_%' AND datdba = (SELECT oid FROM pg_roles WHERE rolname = $1)`,
		h.role,
	)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

func TestACopyOfTheTemplateEqualsAMigratedDatabase(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	migrated := h.describe(h.make())
	h.ensureTemplate()
	copied := newDatabase()
	create(t, h.server, copied)
	before := h.describe(copied)
	if len(before.Facts) < 500 {
		t.Fatalf("the copy has %d facts before it is migrated, want the schema's, because it should be a copy", len(before.Facts))
	}
	if err := h.server.Migrate(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	h.wantSame(h.describe(copied), migrated)
}

// wantSame compares what is in a copy with what is in a database that was migrated.
func (h *host) wantSame(got, migrated catalog.Catalog) {
	h.t.Helper()
	for _, d := range catalog.Compare(migrated, got) {
		h.t.Errorf("the copy differs from a migrated database: %s", d)
	}
}

func TestOneProcessMakesTheTemplate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var wg sync.WaitGroup
	for range 4 {
		other := h.another()
		wg.Go(func() {
			if err := other.EnsureTemplate(context.Background()); err != nil {
				t.Errorf("ensure template: %v", err)
			}
		})
	}
	wg.Wait()
	made := h.templates()
	h.ensureTemplate()
	if got := h.templates(); len(got) != 1 || !slices.Equal(got, made) {
		t.Errorf("the templates are %v and then %v, want the same one", made, got)
	}
	if _, err := pgx.Connect(
		t.Context(),
		strings.Replace(h.admin.Config().ConnString(), "/postgres?", "/"+strings.Fields(made[0])[0]+"?", 1),
	); err == nil {
		t.Error("somebody can connect to the template, want it refused")
	}
}

// TestAHalfMadeTemplateIsRecreated leaves the template as if an attempt had been interrupted at each of its steps.
func TestAHalfMadeTemplateIsRecreated(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"it was not closed":        `ALTER DATABASE %[1]s IS_TEMPLATE false; COMMENT ON DATABASE %[1]s IS NULL`,
		"it is gone":               `ALTER DATABASE %[1]s IS_TEMPLATE false; DROP DATABASE %[1]s`,
		"it was opened":            `ALTER DATABASE %[1]s ALLOW_CONNECTIONS true`,
		"it is somebody else's":    `ALTER DATABASE %[1]s OWNER TO postgres`,
		"its drop was interrupted": `UPDATE pg_database SET datconnlimit = -2, datistemplate = false WHERE datname = '%[1]s'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.ensureTemplate()
			template := strings.Fields(h.templates()[0])[0]
			for statement := range strings.SplitSeq(strings.ReplaceAll(damage, "%[1]s", template), "; ") {
				exec(t, h.admin, statement)
			}
			h.make() // without the template
			if name == "it is somebody else's" {
				if err := h.server.EnsureTemplate(t.Context()); err == nil {
					t.Error("somebody else's template was used or dropped, want an error")
				}
				exec(t, h.admin, `ALTER DATABASE `+template+` IS_TEMPLATE false`)
				exec(t, h.admin, `DROP DATABASE `+template)
			}
			h.ensureTemplate()
			h.make()
			if got := h.templates(); len(got) != 1 {
				t.Errorf("the templates are %v, want one", got)
			}
		})
	}
}

// A worker that hangs while it holds the template's lock, idle or in a statement, doesn't keep others from making the template.
func TestAHungWorkerDoesNotHoldTheTemplatesLock(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(ctx context.Context, conn *pgx.Conn){
		"between statements": func(ctx context.Context, _ *pgx.Conn) { <-ctx.Done() },
		"in a statement":     func(ctx context.Context, conn *pgx.Conn) { _, _ = conn.Exec(ctx, `SELECT pg_sleep(600)`); <-ctx.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			hung := h.another()
			hanging, resume := context.WithCancel(t.Context())
			held := make(chan struct{})
			hold := func(conn *pgx.Conn) error { //nolint:unparam // the lock takes functions that can fail
				close(held)
				hang(hanging, conn)
				return nil
			}
			var group sync.WaitGroup
			group.Go(func() {
				_ = hung.HoldTemplateLock(hanging, "300ms", hold)
			})
			defer group.Wait()
			defer resume()
			<-held
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := h.server.EnsureTemplate(ctx); err != nil {
				t.Errorf("ensure template: %v", err)
			}
		})
	}
}

func TestOldTemplatesAreDropped(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, name := range []string{"tenant_template_v0_" + newDatabase().TenantID, "tenant_template_v99_" + newDatabase().TenantID} {
		exec(t, h.admin, `CREATE DATABASE `+name+` OWNER `+h.role+` IS_TEMPLATE true`)
		exec(t, h.admin, `COMMENT ON DATABASE `+name+` IS 'narthex template'`)
	}
	h.ensureTemplate()
	got := strings.Join(h.templates(), " ")
	if strings.Contains(got, "_v0_") || !strings.Contains(got, "_v99_") {
		t.Errorf("the templates are %s, want the older schema's dropped and the newer's kept", got)
	}
	for _, name := range h.templates() {
		exec(t, h.admin, `ALTER DATABASE `+strings.Fields(name)[0]+` IS_TEMPLATE false`)
	}
}

// If the maker of a copy is interrupted before it changes the copy's owner, another process fills or drops the copy.
func TestACopyIsFinishedByAProcessWithoutATemplate(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*tenantserver.Server, tenantserver.Database) error{
		"migrate": func(s *tenantserver.Server, d tenantserver.Database) error { return s.Migrate(t.Context(), d) },
		"revert":  func(s *tenantserver.Server, d tenantserver.Database) error { return s.Revert(t.Context(), d) },
		"drop": func(s *tenantserver.Server, d tenantserver.Database) error {
			return s.Drop(t.Context(), d, func(context.Context) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.ensureTemplate()
			d := newDatabase()
			create(t, h.server, d)
			if err := do(h.another(), d); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			other := newDatabase()
			other.TenantID = d.TenantID
			if err := h.another().Migrate(
				t.Context(),
				other,
			); err == nil ||
				!errors.Is(err, tenantserver.ErrNotOwned) && !errors.Is(err, tenantserver.ErrGone) {
				t.Errorf("another signup migrates it: %v, want ErrNotOwned or ErrGone", err)
			}
		})
	}
}
