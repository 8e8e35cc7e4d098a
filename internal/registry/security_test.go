package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/testenv"
	"narthex/internal/registry"
	"narthex/internal/secrets"
)

// keysets are the text forms of keys, which can be rotated.
type keysets struct{ seal, index string }

func newKeysets(t *testing.T) keysets {
	t.Helper()
	seal, index := testenv.Keysets(t)
	return keysets{seal, index}
}

func (k keysets) keys(t *testing.T) *secrets.Keys {
	t.Helper()
	return testenv.ParseKeys(t, k.seal, k.index)
}

// each applies a change to both keysets.
func (k keysets) each(t *testing.T, seal, index func(string) (string, error)) keysets {
	t.Helper()
	var err error
	if k.seal, err = seal(k.seal); err != nil {
		t.Fatal(err)
	}
	if k.index, err = index(k.index); err != nil {
		t.Fatal(err)
	}
	return k
}

// openWith opens the same registry as another process, with its own keys.
func openWith(t *testing.T, pool *pgxpool.Pool, keys *secrets.Keys) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), pool.Config().ConnString(), keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestKeysMustBelongToTheRegistry(t *testing.T) {
	t.Parallel()
	_, pool := open(t)
	first, other := newKeysets(t), newKeysets(t)
	for _, c := range []struct {
		keys keysets
		want error
	}{
		{first, nil}, {first, nil},
		{keysets{other.seal, first.index}, registry.ErrSealKeys},
		{keysets{first.seal, other.index}, registry.ErrIndexKeys},
		{first.each(t, secrets.AddSealKey, secrets.AddIndexKey).each(t, secrets.PromoteKey, secrets.PromoteKey), nil},
	} {
		if err := openWith(t, pool, c.keys.keys(t)).CheckKeys(t.Context()); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
}

// enterWith enters n churches, whose emails are indexed under keys.
func enterWith(t *testing.T, r *registry.Registry, keys *secrets.Keys, n int) (owners []registry.Owner) {
	t.Helper()
	for range n {
		owner := newOwner()
		hash, err := keys.EmailIndex(emailOf(owner))
		if err != nil {
			t.Fatal(err)
		}
		enter(t, r, owner, hash)
		owners = append(owners, owner)
	}
	return owners
}

// TestAnInterruptedResealContinues interrupts a reseal after its first batch, while another process, which has the new keys
// too but writes under the old ones, reads and writes.
func TestAnInterruptedResealContinues(t *testing.T) {
	t.Parallel()
	_, pool := open(t)
	old := newKeysets(t)
	known := old.each(t, secrets.AddSealKey, secrets.AddIndexKey)
	fresh := known.each(t, secrets.PromoteKey, secrets.PromoteKey)
	only := fresh.each(t, secrets.RetireKeys, secrets.RetireKeys)

	before := openWith(t, pool, known.keys(t))
	if err := before.CheckKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	owners := enterWith(t, before, known.keys(t), 150)
	during := openWith(t, pool, fresh.keys(t))
	ctx, interrupt := context.WithCancel(t.Context())
	err := during.Reseal(ctx, func(string, int) { interrupt() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted reseal: %v, want context.Canceled", err)
	}
	for _, owner := range owners {
		if _, err := before.Tenant(t.Context(), owner.TenantID); err != nil {
			t.Fatalf("halfway: %v", err)
		}
	}
	rows := map[string]int{}
	if err := during.Reseal(t.Context(), func(table string, n int) { rows[table] += n }); err != nil {
		t.Fatal(err)
	}
	if rows["tenants"] != 150 || rows["churches"] != 150 && rows["churches"] != 50 {
		t.Errorf("rows resealed the second time: %v, want 150 tenants, and the churches that were left", rows)
	}
	if err := during.Reseal(t.Context(), func(table string, n int) { t.Errorf("a third time: %d %s, want none", n, table) }); err != nil {
		t.Fatal(err)
	}
	after := openWith(t, pool, only.keys(t))
	if err := after.CheckKeys(t.Context()); err != nil {
		t.Errorf("with only the new keys: %v", err)
	}
	for _, owner := range owners {
		if tenant, err := after.Tenant(t.Context(), owner.TenantID); err != nil || tenant.Email != emailOf(owner) {
			t.Fatalf("with only the new keys: %+v, %v", tenant, err)
		}
	}
	var events int
	err = pool.QueryRow(t.Context(), `SELECT count(DISTINCT tenant_id) FROM audit_log WHERE event = 'keys_resealed'`).Scan(&events)
	if err != nil || events != 150 {
		t.Errorf("the audit log has %d resealed tenants (%v), want 150", events, err)
	}
}

// To reseal a church's row must not claim its released email again.
func TestResealLeavesAReleasedEmailFree(t *testing.T) {
	t.Parallel()
	_, pool := open(t)
	old := newKeysets(t)
	enter(t, openWith(t, pool, old.keys(t)), newOwner(), "hash")
	if _, err := pool.Exec(t.Context(), `UPDATE churches SET email_hash = NULL`); err != nil {
		t.Fatal(err)
	}
	fresh := old.each(t, secrets.AddSealKey, secrets.AddIndexKey).each(t, secrets.PromoteKey, secrets.PromoteKey)
	resealed := 0
	err := openWith(t, pool, fresh.keys(t)).Reseal(t.Context(), func(table string, n int) {
		if table == "churches" {
			resealed += n
		}
	})
	var held int
	row := pool.QueryRow(t.Context(), `SELECT count(email_hash) FROM churches`)
	if err := errors.Join(err, row.Scan(&held)); err != nil || resealed != 1 || held != 0 {
		t.Errorf("%d churches resealed, %d hold their email (%v); want 1 and 0", resealed, held, err)
	}
}

func TestResealRefusesUnreadableValues(t *testing.T) {
	t.Parallel()
	_, pool := open(t)
	old := newKeysets(t)
	r := openWith(t, pool, old.keys(t))
	enter(t, r, newOwner(), "hash a")
	enter(t, r, newOwner(), "hash b")
	const swap = `UPDATE tenants a SET database_url = b.database_url FROM tenants b WHERE a.id <> b.id`
	if _, err := pool.Exec(t.Context(), swap); err != nil {
		t.Fatal(err)
	}
	fresh := old.each(t, secrets.AddSealKey, secrets.AddIndexKey).each(t, secrets.PromoteKey, secrets.PromoteKey)
	if err := openWith(t, pool, fresh.keys(t)).Reseal(t.Context(), func(string, int) {}); !errors.Is(err, secrets.ErrSealed) {
		t.Errorf("with swapped URLs: %v, want ErrSealed", err)
	}
}

func adminOf(t testing.TB, pool *pgxpool.Pool) (id string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT id FROM admins`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}
