package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/schema"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// later returns the tenant migrations and one more.
func later(t testing.TB) (files fstest.MapFS, newest int) {
	t.Helper()
	files = fstest.MapFS{}
	names, err := fs.Glob(migrations.Tenant, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(migrations.Tenant, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: content}
	}
	newest = migrations.TenantVersion() + 1
	name := fmt.Sprintf("%06d_planted", newest)
	files[name+".up.sql"] = &fstest.MapFile{Data: []byte(`ALTER TABLE branches ADD COLUMN planted date; CREATE TABLE seeds (id text)`)}
	files[name+".down.sql"] = &fstest.MapFile{Data: []byte(`DROP TABLE seeds; ALTER TABLE branches DROP COLUMN planted`)}
	return files, newest
}

// upgrader is a host with a church's database at the newest schema, and the server of the next release.
type upgrader struct {
	*host
	d     tenantserver.Database
	next  *tenantserver.Server
	there tenantserver.Change
	conn  *pgx.Conn // in the church's database
}

func newUpgrader(t *testing.T) *upgrader {
	t.Helper()
	u := &upgrader{host: newHost(t)}
	u.d = u.make()
	files, newest := later(t)
	var err error
	if u.next, err = tenantserver.Open(t.Context(), u.url, "test", files); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.next.Close)
	u.there = tenantserver.Change{From: newest - 1, To: newest}
	config := u.admin.Config().Copy()
	config.Database = u.d.Name()
	u.conn = testenv.ConnectWith(t, config)
	return u
}

func (u *upgrader) change(change tenantserver.Change, limits tenantserver.Limits) error {
	_, err := u.next.ChangeSchema(u.t.Context(), u.d, change, limits, u.permit)
	return err
}

func (u *upgrader) permit(context.Context) (password string, err error) { return u.d.Password, nil }

func (u *upgrader) wantVersion(want int) {
	u.t.Helper()
	got, err := schema.Version(u.t.Context(), u.conn)
	if err != nil || got != want {
		u.t.Errorf("the schema's version is %d (%v), want %d", got, err, want)
	}
}

var usualLimits = tenantserver.Limits{Lock: 500 * time.Millisecond, Statement: time.Minute, Patience: 30 * time.Second}

func TestALiveDatabaseIsChangedAndChangedBack(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	back := tenantserver.Change{From: u.there.To, To: u.there.From}
	before := u.describe(u.d)
	for _, change := range []tenantserver.Change{u.there, u.there, back, back, u.there} {
		if err := u.change(change, usualLimits); err != nil {
			t.Fatalf("%+v: %v", change, err)
		}
		u.wantVersion(change.To)
		if change == back {
			u.wantSame(u.describe(u.d), before)
		}
	}
	var owner string
	err := u.conn.QueryRow(t.Context(), `SELECT tableowner FROM pg_tables WHERE tablename = 'seeds'`).Scan(&owner)
	if err != nil || owner != u.d.Name() {
		t.Errorf("the new table belongs to %s (%v), want %s", owner, err, u.d.Name())
	}
}

func TestAnotherSignupsDatabaseIsNotChanged(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	for name, c := range map[string]struct {
		d    tenantserver.Database
		want error
	}{
		"another signup's": {tenantserver.Database{TenantID: u.d.TenantID, SignupID: newDatabase().SignupID}, tenantserver.ErrNotOwned},
		"a dropped one":    {newDatabase(), tenantserver.ErrGone},
	} {
		if _, err := u.next.ChangeSchema(t.Context(), c.d, u.there, usualLimits, u.permit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	no := errors.New("no")
	forbid := func(context.Context) (string, error) { return "", no }
	if _, err := u.next.ChangeSchema(t.Context(), u.d, u.there, usualLimits, forbid); !errors.Is(err, no) {
		t.Errorf("without a permit: %v, want %v", err, no)
	}
	u.wantVersion(u.there.From)
}

// While somebody locks the table, readers wait behind the change for at most its lock timeout at a time. The change
// succeeds once the lock is free.
func TestAChangeWaitsForALockInShortAttempts(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	tx, err := u.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM branches`); err != nil {
		t.Fatal(err)
	}
	limits := tenantserver.Limits{Lock: 50 * time.Millisecond, Statement: time.Minute, Patience: 300 * time.Millisecond}
	if err := u.change(u.there, limits); sqlstate.Of(err) != sqlstate.LockNotAvailable {
		t.Errorf("with the table locked: %v, want %s", err, sqlstate.LockNotAvailable)
	}
	limits.Patience = time.Minute
	changed := make(chan error)
	go func() { changed <- u.change(u.there, limits) }()
	u.waitFor(`SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'branches'::regclass`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-changed; err != nil {
		t.Errorf("once the table is free: %v, want no error", err)
	}
	u.wantVersion(u.there.To)
}

// waitFor waits until a query in the church's database returns true. It uses a separate connection.
func (u *upgrader) waitFor(query string) {
	u.t.Helper()
	conn, err := pgx.ConnectConfig(u.t.Context(), u.conn.Config())
	if err != nil {
		u.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var so bool
		if err := conn.QueryRow(u.t.Context(), query).Scan(&so); err != nil {
			u.t.Fatal(err)
		}
		if so {
			return
		}
	}
	u.t.Fatalf("this never became true: %s", query)
}

func TestAnInterruptedChangeIsContinued(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	exec(t, u.conn, `UPDATE narthex_migrations.versions SET version = version + 1, dirty = true`)
	if err := u.change(u.there, usualLimits); err != nil {
		t.Fatal(err)
	}
	u.wantVersion(u.there.To)
	exec(t, u.conn, `UPDATE narthex_migrations.versions SET version = version - 1, dirty = true`)
	if err := u.change(tenantserver.Change{From: u.there.To, To: u.there.From}, usualLimits); err != nil {
		t.Fatal(err)
	}
	u.wantVersion(u.there.From)
}

// An index that somebody else is building is not taken for the leftover of an interrupted attempt.
func TestAnIndexThatAnOperatorBuildsIsKept(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	files, newest := later(t)
	const build = `CREATE INDEX CONCURRENTLY IF NOT EXISTS branches_planted_idx ON branches (planted)`
	files[fmt.Sprintf("%06d_index.up.sql", newest+1)] = &fstest.MapFile{Data: []byte("-- no transaction\n" + build)}
	var err error
	if u.next, err = tenantserver.Open(t.Context(), u.url, "test", files); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.next.Close)
	if err := u.change(u.there, usualLimits); err != nil {
		t.Fatal(err)
	}
	exec(t, u.conn, fmt.Sprintf(`UPDATE narthex_migrations.versions SET version = %d, dirty = true`, newest+1))

	reader := testenv.ConnectWith(t, u.conn.Config())
	exec(t, reader, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT`)
	built := make(chan error, 1)
	operator := testenv.ConnectWith(t, u.conn.Config())
	go func() {
		_, err := operator.Exec(t.Context(), build)
		built <- err
	}()
	const isHalf = `SELECT count(*) > 0 FROM pg_index WHERE indexrelid = to_regclass('branches_planted_idx') AND NOT indisvalid`
	u.waitFor(isHalf)
	var before, after uint32
	const id = `SELECT 'branches_planted_idx'::regclass::oid`
	if err := u.conn.QueryRow(t.Context(), id).Scan(&before); err != nil {
		t.Fatal(err)
	}

	limits := tenantserver.Limits{Lock: 50 * time.Millisecond, Statement: time.Minute, Patience: 200 * time.Millisecond}
	there := tenantserver.Change{From: newest, To: newest + 1}
	if err := u.change(there, limits); sqlstate.Of(err) != sqlstate.LockNotAvailable {
		t.Errorf("while the index is being built: %v, want %s", err, sqlstate.LockNotAvailable)
	}
	limits.Lock = time.Minute
	changed := make(chan error, 1)
	go func() { changed <- u.change(there, limits) }()
	u.waitFor(`SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'branches'::regclass`)
	exec(t, reader, `COMMIT`)
	if err := errors.Join(<-built, <-changed); err != nil {
		t.Errorf("the operator and the change end with %v, want no error", err)
	}
	if err := u.conn.QueryRow(t.Context(), id).Scan(&after); err != nil || after != before {
		t.Errorf("the operator's index %d is now %d (%v), want it kept", before, after, err)
	}
	u.wantVersion(newest + 1)
}
