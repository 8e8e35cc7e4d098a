package registry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/secrets"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t testing.TB) (*registry.Registry, *pgxpool.Pool) {
	t.Helper()
	r, url := testenv.NewRegistry(t, testenv.Keys(t))
	return r, testenv.OpenPool(t, url)
}

func newOwner() registry.Owner { return registry.Owner{RunID: ids.New(), TenantID: ids.New()} }

var now = time.Now().UTC().Truncate(time.Microsecond)

// enter inserts a complete, open church and its tenant, with its own email.
func enter(t testing.TB, r *registry.Registry, owner registry.Owner, emailHash string) {
	t.Helper()
	provision(t, r, owner, emailHash)
	if err := r.ActivateTenant(t.Context(), owner, "admin"); err != nil {
		t.Fatal(err)
	}
}

// provision is like enter, but does not open the church.
func provision(t testing.TB, r *registry.Registry, owner registry.Owner, emailHash string) {
	t.Helper()
	email := emailOf(owner)
	for _, err := range []error{
		r.InsertChurch(t.Context(), owner, registry.Church{
			Name: "Grace Chapel", Email: email, EmailHash: emailHash, TrialEndsAt: now, CreatedAt: now,
		}),
		r.InsertTenant(t.Context(), owner, registry.NewTenant{Name: "Grace Chapel", Email: email,
			DatabaseURL:  "postgres://tenant_" + owner.TenantID + ":5ecret@old:5432/tenant_" + owner.TenantID + "?sslmode=disable",
			DatabaseHost: "old", DatabasePort: 5432, DatabaseName: "tenant_" + owner.TenantID, SchemaVersion: 1, CreatedAt: now}),
		r.InsertAdmin(t.Context(), owner, registry.Admin{ID: ids.New(), Email: email, EmailHash: emailHash, PasswordHash: "hash",
			FirstName: "Pat", LastName: "Muster", Role: registry.RolePrimary, CreatedAt: now}),
		r.InsertEmailEntry(t.Context(), owner, registry.EmailEntry{Email: email, EmailHash: emailHash, AdminID: ids.New(), CreatedAt: now}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func emailOf(owner registry.Owner) string { return owner.TenantID + "@example.org" }

func TestReadyAsksForTheSchema(t *testing.T) {
	t.Parallel()
	url := testenv.NewDatabase(t)
	r, err := registry.Open(t.Context(), url, testenv.Keys(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if err := r.Ready(t.Context()); !errors.Is(err, registry.ErrNotMigrated) {
		t.Errorf("an empty database: %v, want ErrNotMigrated", err)
	}
	if err := registry.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Errorf("a migrated one: %v", err)
	}
}

// Each new connection leads to a server that accepts writes, or is refused.
func TestTargetSessionAttrsAreHonoured(t *testing.T) {
	t.Parallel()
	_, url := testenv.NewRegistry(t, testenv.Keys(t))
	pool := testenv.OpenPool(t, url)
	r, err := registry.Open(t.Context(), url+"&target_session_attrs=read-write", testenv.Keys(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	alter := `ALTER DATABASE ` + pool.Config().ConnConfig.Database
	for _, sql := range []string{alter + ` SET default_transaction_read_only = on`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Ready(t.Context()); err == nil {
		t.Error("a read-only session was used")
	}
	if _, err := pool.Exec(t.Context(), alter+` RESET default_transaction_read_only`); err != nil {
		t.Fatal(err)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Errorf("once the server accepts writes again: %v", err)
	}
}

func TestInsertsAreIdempotentOnlyForTheirOwner(t *testing.T) {
	t.Parallel()
	r, _ := open(t)
	owner := newOwner()
	church := registry.Church{Name: "Grace Chapel", Email: "pat@example.org", EmailHash: "hash", TrialEndsAt: now, CreatedAt: now}
	for range 2 {
		if err := r.InsertChurch(t.Context(), owner, church); err != nil {
			t.Errorf("insert church, the same again: %v", err)
		}
	}
	enter(t, r, owner, "hash")
	if err := r.InsertChurch(t.Context(), owner, church); !errors.Is(err, registry.ErrCommitted) {
		t.Errorf("the same again in a church that is open: %v, want ErrCommitted", err)
	}
	other := registry.Owner{RunID: ids.New(), TenantID: owner.TenantID}
	if err := r.InsertChurch(t.Context(), other, church); !errors.Is(err, registry.ErrNotOwned) {
		t.Errorf("another signup's insert for the same tenant: %v, want ErrNotOwned", err)
	}
	if err := r.InsertChurch(t.Context(), newOwner(), church); !errors.Is(err, registry.ErrEmailTaken) {
		t.Errorf("another church with the email: %v, want ErrEmailTaken", err)
	}
	if err := r.ActivateTenant(t.Context(), other, "admin"); !errors.Is(err, registry.ErrUndone) {
		t.Errorf("another signup activated the tenant: %v, want ErrUndone", err)
	}
}

func TestRemovalTouchesOnlyTheOwnersRowsAndForbidsLateInserts(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	owner := newOwner()
	provision(t, r, owner, "hash")
	other := registry.Owner{RunID: ids.New(), TenantID: owner.TenantID}
	for _, o := range []registry.Owner{other, owner, owner} { // twice, because it is idempotent
		for _, err := range []error{
			r.DeleteEmailEntry(t.Context(), o), r.DeleteAdmin(t.Context(), o),
			r.DeleteTenant(t.Context(), o), r.DeleteChurch(t.Context(), o),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var rows int
		const all = `
			SELECT (SELECT count(*) FROM churches) + (SELECT count(*) FROM tenants)
				+ (SELECT count(*) FROM admins) + (SELECT count(*) FROM admin_email_index)`
		if err := pool.QueryRow(t.Context(), all).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if want := map[registry.Owner]int{other: 4, owner: 0}[o]; rows != want {
			t.Errorf("there are %d rows, want %d", rows, want)
		}
	}
	church := registry.Church{Name: "Grace Chapel", Email: "pat@example.org", EmailHash: "hash", TrialEndsAt: now, CreatedAt: now}
	if err := r.InsertChurch(t.Context(), owner, church); !errors.Is(err, registry.ErrUndone) {
		t.Errorf("a late insert of the undone signup: %v, want ErrUndone", err)
	}
	again := registry.Owner{RunID: ids.New(), TenantID: owner.TenantID} // a replay: a new run with the same input
	if err := r.InsertChurch(t.Context(), again, church); err != nil {
		t.Errorf("a replay's insert: %v", err)
	}
}

func TestAnOpenChurchIsNotRolledBack(t *testing.T) {
	t.Parallel()
	r, _ := open(t)
	owner := newOwner()
	enter(t, r, owner, "hash")
	for _, err := range []error{
		r.Tombstone(t.Context(), owner), r.DeleteEmailEntry(t.Context(), owner),
		r.DeleteTenant(t.Context(), owner), r.DeleteRows(t.Context(), owner),
	} {
		if !errors.Is(err, registry.ErrCommitted) {
			t.Errorf("a rollback of an open church: %v, want ErrCommitted", err)
		}
	}
	if _, err := r.Tenant(t.Context(), owner.TenantID); err != nil {
		t.Errorf("the tenant after that: %v, want it to exist", err)
	}
}

func TestSealedValuesOpenOnlyInTheirOwnRow(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	a, b := newOwner(), newOwner()
	enter(t, r, a, "hash a")
	enter(t, r, b, "hash b")
	tenant, err := r.Tenant(t.Context(), a.TenantID)
	if err != nil || !strings.HasPrefix(tenant.DatabaseURL, "postgres://tenant_"+a.TenantID) || tenant.Email != emailOf(a) {
		t.Errorf("tenant %+v, %v", tenant, err)
	}
	const swap = `UPDATE tenants SET database_url = (SELECT database_url FROM tenants WHERE id = $2) WHERE id = $1`
	if _, err := pool.Exec(t.Context(), swap, a.TenantID, b.TenantID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Tenant(t.Context(), a.TenantID); !errors.Is(err, secrets.ErrSealed) {
		t.Errorf("with another tenant's URL in its row: %v, want ErrSealed", err)
	}
}

// A signup may be replayed weeks after it was requested. Its trial starts when the church opens, and only once.
func TestATrialStartsWhenTheChurchOpens(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	const trial = 14 * 24 * time.Hour
	for name, c := range map[string]struct{ asked, want time.Time }{
		"at once":      {now.Add(-time.Minute), now.Add(-time.Minute + trial)},
		"15 days late": {now.Add(-15 * 24 * time.Hour), now.Add(trial)},
	} {
		owner := newOwner()
		email := emailOf(owner)
		church := registry.Church{Name: "Grace Chapel", Email: email, EmailHash: ids.New(), TrialEndsAt: c.asked.Add(trial), CreatedAt: c.asked}
		tenant := registry.NewTenant{Name: "Grace Chapel", Email: email, DatabaseName: "tenant_" + owner.TenantID, CreatedAt: c.asked}
		for _, err := range []error{
			r.InsertChurch(t.Context(), owner, church), r.InsertTenant(t.Context(), owner, tenant),
			r.ActivateTenant(t.Context(), owner, "admin"), r.ActivateTenant(t.Context(), owner, "admin"), // twice: the answer was lost
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var ends time.Time
		if err := pool.QueryRow(t.Context(), `SELECT trial_ends_at FROM churches WHERE id = $1`, owner.TenantID).Scan(&ends); err != nil {
			t.Fatal(err)
		}
		if late := ends.Sub(c.want); late < 0 || late > time.Minute {
			t.Errorf("%s: the trial ends at %s, want %s", name, ends, c.want)
		}
	}
}
