package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/ids"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// shelf stands for the registry's list of ready databases.
type shelf struct {
	mu  sync.Mutex
	ids []string
}

func (s *shelf) take(context.Context, string, string) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) > 0 {
		id, s.ids = s.ids[0], s.ids[1:]
	}
	return id, nil
}

// stock makes a template, and from it n databases that can be claimed.
func (h *host) stock(n int) *shelf {
	h.t.Helper()
	h.ensureTemplate()
	var s shelf
	for range n {
		id := ids.New()
		if err := h.server.MakeReady(h.t.Context(), id); err != nil {
			h.t.Fatalf("make a ready database: %v", err)
		}
		s.ids = append(s.ids, id)
	}
	return &s
}

// claim makes a tenant's database, and checks its source.
func (h *host) claim(s *shelf, want tenantserver.Source) tenantserver.Database {
	h.t.Helper()
	d := newDatabase()
	if got, err := h.server.Create(h.t.Context(), d, always, s.take); err != nil || got != want {
		h.t.Fatalf("the database comes from %q (%v), want %q", got, err, want)
	}
	return d
}

// left returns the names of all roles and databases that end with an id.
func (h *host) left(id string) (names []string) {
	h.t.Helper()
	const query = `
		SELECT datname::text FROM pg_database WHERE datname LIKE '%' || $1
		UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE '%' || $1 ORDER BY 1`
	rows, _ := h.admin.Query(h.t.Context(), query, id)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

func (h *host) wantMigrated(d tenantserver.Database) {
	h.t.Helper()
	if err := h.server.Migrate(h.t.Context(), d); err != nil {
		h.t.Fatalf("migrate: %v", err)
	}
	h.wantSame(h.describe(d), h.describe(h.make()))
}

// TestAClaimedDatabaseEqualsAMigratedOne claims a database, whose migration then needs no connection, and reverts and
// migrates it again.
func TestAClaimedDatabaseEqualsAMigratedOne(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(2)
	ids := slices.Clone(stock.ids)
	d := h.claim(stock, tenantserver.FromStock)
	if got := h.left(ids[0]); len(got) != 0 {
		t.Errorf("%v are left with the old name, want nothing", got)
	}
	exec(t, h.admin, `ALTER DATABASE `+d.Name()+` CONNECTION LIMIT 0`)
	if err := h.server.Migrate(t.Context(), d); err != nil {
		t.Errorf("migrate while nobody can connect: %v, want it to have nothing to do", err)
	}
	exec(t, h.admin, `ALTER DATABASE `+d.Name()+` CONNECTION LIMIT 20`)
	h.wantMigrated(d)
	conn, err := h.server.Connect(t.Context(), d)
	if err != nil {
		t.Fatalf("connect with the role's password: %v", err)
	}
	conn.Close(t.Context())

	for range 2 {
		if err := h.server.Revert(t.Context(), d); err != nil {
			t.Fatalf("revert: %v", err)
		}
	}
	if left := len(h.describe(d).Facts); left > 40 {
		t.Errorf("%d facts are left of the reverted database's schema, want the schema gone", left)
	}
	h.wantMigrated(d)
	drop(t, h.server, d)
	if got := h.left(d.TenantID); len(got) != 0 {
		t.Errorf("%v are left of a claimed database, want nothing", got)
	}
}

// Another attempt with the same input finds the same database, and makes no second one.
func TestAClaimIsMadeOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(2)
	d := h.claim(stock, tenantserver.FromStock)
	if source, err := h.server.Create(t.Context(), d, always, stock.take); err != nil || source != "" {
		t.Errorf("a second attempt makes one from %q (%v), want none", source, err)
	}
	other := d
	other.SignupID = ids.New()
	if _, err := h.server.Create(t.Context(), other, always, stock.take); !errors.Is(err, tenantserver.ErrNotOwned) {
		t.Errorf("another signup's attempt gets %v, want ErrNotOwned", err)
	}
	if len(stock.ids) != 1 {
		t.Errorf("%d databases are in stock, want 1", len(stock.ids))
	}
}

// TestClaimedDatabasesHaveGrantsAndLimits also checks that nobody can connect to a database that waits to be claimed.
func TestClaimedDatabasesHaveGrantsAndLimits(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(3)
	for _, id := range stock.ids {
		h.wantRights("pool_"+id, "connectable false, limit 20, PUBLIC none; "+
			"role login false, limit 20, super false, createdb false, createrole false")
	}
	for range 2 {
		d := h.claim(stock, tenantserver.FromStock)
		h.wantRights(d.Name(), "connectable true, limit 20, PUBLIC none; "+
			"role login true, limit 20, super false, createdb false, createrole false")
		stranger := newDatabase()
		create(t, h.server, stranger)
		location, _, _, _ := h.server.Location(stranger)
		var pgErr *pgconn.PgError
		_, err := pgx.Connect(t.Context(), strings.Replace(location, "/"+stranger.Name()+"?", "/"+d.Name()+"?", 1))
		if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("another tenant's role gets %v, want SQLSTATE 42501", err)
		}
	}
	if _, err := pgx.Connect(t.Context(), strings.Replace(h.url, "/postgres?", "/pool_"+stock.ids[0]+"?", 1)); err == nil {
		t.Error("the service can connect to a database that waits to be claimed, want it refused")
	}
}

func (h *host) wantRights(name, want string) {
	h.t.Helper()
	const query = `
		SELECT format('connectable %s, limit %s, PUBLIC %s; role login %s, limit %s, super %s, createdb %s, createrole %s',
			d.datallowconn::text, d.datconnlimit,
			coalesce((SELECT string_agg(privilege_type, ' ')
				FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) WHERE grantee = 0), 'none'),
			r.rolcanlogin::text, r.rolconnlimit, r.rolsuper::text, r.rolcreatedb::text, r.rolcreaterole::text)
		FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba AND r.rolname = d.datname WHERE datname = $1`
	var got string
	if err := h.admin.QueryRow(h.t.Context(), query, name).Scan(&got); err != nil || got != want {
		h.t.Errorf("%s: %s (%v)\nwant %s", name, got, err, want)
	}
}

// TestUnusableReadyDatabasesAreSkipped damages databases that are still on offer.
func TestUnusableReadyDatabasesAreSkipped(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"both are gone":                  `DROP DATABASE %[1]s; DROP ROLE %[1]s`,
		"its database is gone":           `DROP DATABASE %[1]s`,
		"another has claimed it already": `ALTER DATABASE %[1]s RENAME TO x%[1]s; ALTER ROLE %[1]s RENAME TO x%[1]s`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			stock := h.stock(2)
			ready := slices.Clone(stock.ids)
			hurt := func(id string) {
				for statement := range strings.SplitSeq(fmt.Sprintf(damage, "pool_"+id), "; ") {
					exec(t, h.admin, statement)
				}
			}
			hurt(ready[0])
			h.wantMigrated(h.claim(stock, tenantserver.FromStock))
			stock = h.stock(1)
			hurt(stock.ids[0])
			h.wantMigrated(h.claim(stock, tenantserver.FromTemplate))
		})
	}
}

// A failure that isn't the database's own fault uses up no further databases.
func TestAForbiddenClaimUsesUpOnlyOneDatabase(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(3)
	exec(t, h.admin, `ALTER ROLE `+h.role+` NOCREATEDB`)
	var pgErr *pgconn.PgError
	if _, err := h.server.Create(t.Context(), newDatabase(), always, stock.take); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		t.Errorf("create without the right returns %v, want SQLSTATE 42501", err)
	}
	if len(stock.ids) != 2 {
		t.Errorf("%d databases are in stock, want 2", len(stock.ids))
	}
}

// TestConcurrentClaimsShareNothing makes more claims than there are databases. Each gets a database of its own.
func TestConcurrentClaimsShareNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(4)
	sources := make(chan tenantserver.Source, 10)
	made := make([]tenantserver.Database, cap(sources))
	var group sync.WaitGroup
	for i := range made {
		made[i] = newDatabase()
		group.Go(func() {
			source, err := h.server.Create(t.Context(), made[i], always, stock.take)
			if err != nil {
				t.Errorf("create: %v", err)
			}
			sources <- source
		})
	}
	group.Wait()
	close(sources)
	count := map[tenantserver.Source]int{}
	for source := range sources {
		count[source]++
	}
	if count[tenantserver.FromStock] != 4 || count[tenantserver.FromTemplate] != 6 {
		t.Errorf("the databases come from %v, want 4 that were ready and 6 from the template", count)
	}
	for _, d := range made {
		if err := h.server.Migrate(t.Context(), d); err != nil {
			t.Errorf("migrate: %v", err)
		}
		if found := there(t, h.admin, d); found != 2 {
			t.Errorf("of database and role, %d exist, want 2", found)
		}
	}
}

// TestAClaimAndADropRace drops a database as lost while a signup claims it. Whichever wins, the signup gets a complete
// database, and nothing is left of the ready one.
func TestAClaimAndADropRace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	count := map[tenantserver.Source]int{}
	for i := range 12 {
		stock := h.stock(1)
		id, d, taken := stock.ids[0], newDatabase(), make(chan struct{})
		var once sync.Once
		var group sync.WaitGroup
		group.Go(func() {
			<-taken
			time.Sleep(time.Duration(i) * 300 * time.Microsecond) // so that sometimes one is ahead, sometimes the other
			_ = h.server.DropReady(t.Context(), id)               // the claim may overtake the drop, which is then tried again
		})
		source, err := h.server.Create(t.Context(), d, always, func(ctx context.Context, server, template string) (string, error) {
			once.Do(func() { close(taken) })
			return stock.take(ctx, server, template)
		})
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		group.Wait()
		count[source]++
		if err := h.server.DropReady(t.Context(), id); err != nil {
			t.Errorf("drop it again: %v", err)
		}
		if got := h.left(id); len(got) != 0 {
			t.Errorf("%v are left of the ready one, want nothing", got)
		}
		if err := h.server.Migrate(t.Context(), d); err != nil {
			t.Errorf("migrate: %v", err)
		}
		if found := there(t, h.admin, d); found != 2 {
			t.Errorf("of database and role, %d exist, want 2", found)
		}
		drop(t, h.server, d)
	}
	t.Logf("the databases came from %v", count)
}

// A database that was claimed but not renamed for its tenant, and one that was not completed, are listed so that they can
// be dropped. Another installation's are not.
func TestLostDatabasesAreListed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stock := h.stock(1)
	half := ids.New()
	const makeHalf = `CREATE ROLE pool_%[1]s; COMMENT ON ROLE pool_%[1]s IS 'narthex pool of test'; GRANT pool_%[1]s TO %[2]s`
	exec(t, h.admin, fmt.Sprintf(makeHalf, half, h.role))
	stranger, err := tenantserver.Open(t.Context(), h.url, "another installation", migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	foreign, err := stranger.ReadyIDs(t.Context())
	if err != nil || len(foreign) != 0 {
		t.Errorf("another installation sees %v (%v), want nothing", foreign, err)
	}
	if _, err := h.server.Create(t.Context(), newDatabase(), always, func(context.Context, string, string) (string, error) {
		return "", errors.New("interrupted")
	}); err == nil {
		t.Error("an interrupted claim made a database, want an error")
	}
	all, err := h.server.ReadyIDs(t.Context())
	if err != nil || !all[half] || !all[stock.ids[0]] {
		t.Errorf("%v are listed (%v), want %s and %s", all, err, half, stock.ids[0])
	}
	for _, id := range []string{half, stock.ids[0]} {
		for range 2 {
			if err := h.server.DropReady(t.Context(), id); err != nil {
				t.Errorf("drop: %v", err)
			}
		}
		if got := h.left(id); len(got) != 0 {
			t.Errorf("%v are left, want nothing", got)
		}
	}
}

// A database that waits to be claimed doesn't keep its template from being dropped.
func TestReadyDatabasesKeepNoTemplate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stock(2)
	template := h.server.Template()
	exec(t, h.admin, `ALTER DATABASE `+template+` IS_TEMPLATE false`)
	exec(t, h.admin, `DROP DATABASE `+template)
	exec(t, h.admin, `DROP ROLE `+template)
}

func TestWithoutATemplateNoneIsReady(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := h.server.MakeReady(t.Context(), ids.New()); !errors.Is(err, tenantserver.ErrNoTemplate) {
		t.Errorf("make one: %v, want ErrNoTemplate", err)
	}
	h.claim(&shelf{ids: []string{ids.New()}}, tenantserver.FromNothing)
	h.stock(0)
	exec(t, h.admin, `ALTER ROLE `+h.role+` NOCREATEDB`)
	id := ids.New()
	if err := h.server.MakeReady(t.Context(), id); err == nil {
		t.Error("one was made without the right, want an error")
	}
	if got := h.left(id); len(got) != 0 {
		t.Errorf("%v are left of one that could not be made, want nothing", got)
	}
}
