package tenantdb_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/tenantdb"
)

// passwords is a world with one admin, whose password has a hash on both sides.
type passwords struct {
	*world
	tenant  *tenantdb.Tenant
	church  *pgxpool.Pool // the tenant's database
	adminID string
}

func newPasswords(t *testing.T, inRegistry, inChurch string) *passwords {
	t.Helper()
	p := &passwords{world: newWorld(t), adminID: ids.New()}
	databaseURL := testenv.NewDatabase(t)
	p.church = testenv.OpenPool(t, databaseURL)
	p.exec(p.church, `CREATE TABLE admins (id text PRIMARY KEY, password_hash text NOT NULL, updated_at timestamptz)`)
	p.exec(p.church, `INSERT INTO admins VALUES ($1, $2)`, p.adminID, inChurch)
	tenantID := p.enter(databaseURL)
	p.exec(p.pool, `
		INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id)
		VALUES ($1, $2, '', '', $3, '', '', 'PRIMARY', '')`, p.adminID, tenantID, inRegistry)
	tenant, err := p.router(5).Acquire(t.Context(), tenantID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tenant.Release)
	p.tenant = tenant
	return p
}

func (p *passwords) want(inRegistry, inChurch string) {
	p.t.Helper()
	for _, side := range []struct {
		name, want string
		pool       *pgxpool.Pool
	}{{"registry", inRegistry, p.pool}, {"church's database", inChurch, p.church}} {
		var hash string
		if err := side.pool.QueryRow(p.t.Context(), `SELECT password_hash FROM admins`).Scan(&hash); err != nil || hash != side.want {
			p.t.Errorf("the hash in the %s is %q (%v), want %q", side.name, hash, err, side.want)
		}
	}
}

// A login that finds an outdated hash in the registry must not restore a password that is being changed.
func TestAligningWaitsForAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end        string
		want       error
		inRegistry string
	}{"changed": {"COMMIT", tenantdb.ErrNoAdmin, "new"}, "not changed after all": {"ROLLBACK", nil, "old"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPasswords(t, "new", "old") // the state between the two commits of a change
			change, err := p.church.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer change.Release()
			if _, err := change.Exec(t.Context(), `BEGIN; UPDATE admins SET password_hash = 'new'`); err != nil {
				t.Fatal(err)
			}
			aligned := make(chan error, 1)
			go func() { aligned <- p.tenant.AlignPasswordHash(t.Context(), p.adminID, "old") }()
			eventually(t, "aligning waits", func() bool {
				const waiting = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`
				var waits bool
				if err := p.church.QueryRow(t.Context(), waiting).Scan(&waits); err != nil {
					t.Fatal(err)
				}
				return waits
			})
			if _, err := change.Exec(t.Context(), c.end); err != nil {
				t.Fatal(err)
			}
			if err := <-aligned; !errors.Is(err, c.want) {
				t.Errorf("aligning: %v, want %v", err, c.want)
			}
			p.want(c.inRegistry, c.inRegistry)
		})
	}
}

// If the registry is down, the error doesn't blame the church's database, and nothing has changed.
func TestAChangeWithoutTheRegistry(t *testing.T) {
	t.Parallel()
	p := newPasswords(t, "old", "old")
	name := p.pool.Config().ConnConfig.Database
	p.pool.Reset()
	p.exec(p.admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
	p.exec(p.admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	err := p.tenant.ChangePassword(t.Context(), p.adminID, "old", "new", "")
	if err == nil || errors.Is(err, tenantdb.ErrDown) || errors.Is(err, tenantdb.ErrNoAdmin) {
		t.Errorf("the change returns %v, want the registry's error", err)
	}
	p.exec(p.admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`)
	p.want("old", "old")
}

// A transaction that is repeated on a new connection changes the password once.
func TestAChangeOnANewConnection(t *testing.T) {
	t.Parallel()
	p := newPasswords(t, "old", "old")
	if err := p.tenant.ChangePassword(t.Context(), p.adminID, "old", "new", ""); err != nil {
		t.Fatal(err)
	}
	for _, pool := range []*pgxpool.Pool{p.church, p.pool} {
		p.exec(p.admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, pool.Config().ConnConfig.Database)
		pool.Reset()
	}
	if err := p.tenant.ChangePassword(t.Context(), p.adminID, "new", "newest", ""); err != nil {
		t.Fatal(err)
	}
	p.want("newest", "newest")
	var changes int
	row := p.pool.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE event = 'password_changed'`)
	if err := row.Scan(&changes); err != nil || changes != 2 {
		t.Errorf("the audit log has %d changes (%v), want 2", changes, err)
	}
}

// An admin that the registry has removed can't get a password.
func TestARemovedAdminCannotAccept(t *testing.T) {
	t.Parallel()
	p := newPasswords(t, "", "")
	p.exec(p.pool, `DELETE FROM admins`)
	if err := p.tenant.AcceptInvitation(t.Context(), p.adminID, "hash"); !errors.Is(err, tenantdb.ErrNoAdmin) {
		t.Errorf("accepting: %v, want ErrNoAdmin", err)
	}
}
