package sessions_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/registry"
	"narthex/internal/sessions"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open opens a store in the test's own registry database.
func open(t testing.TB) (*sessions.Store, *postgres.Pool) {
	t.Helper()
	reg, _ := testenv.NewRegistry(t, testenv.Keys(t))
	return sessions.New(reg.Pool()), reg.Pool()
}

// enter inserts an admin of an open church, and returns their login.
func enter(t testing.TB, pool *postgres.Pool) sessions.Login {
	t.Helper()
	login := sessions.Login{
		TenantID: ids.New(), AdminID: ids.New(), Role: registry.RolePrimary, PasswordHash: "hash", Event: audit.LoggedIn,
	}
	var batch pgx.Batch
	batch.Queue(`INSERT INTO churches (id, name, email, subscription_status, signup_id) VALUES ($1, '', '', 'trial', '')`, login.TenantID)
	batch.Queue(`
		INSERT INTO tenants (id, church_id, name, email, database_url, database_host, database_port, database_name,
			subscription_status, subscription_plan, status, schema_version, signup_id)
		VALUES ($1, $1, '', '', '', '', 0, $1, 'trial', 'starter', 'active', 1, '')`, login.TenantID)
	batch.Queue(`
		INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id)
		VALUES ($1, $2, '', $1, $3, '', '', $4, '')`, login.AdminID, login.TenantID, login.PasswordHash, login.Role)
	if err := pool.SendBatch(t.Context(), &batch); err != nil {
		t.Fatal(err)
	}
	return login
}

func TestTidyRemovesWhatHasExpired(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	proven := enter(t, pool)
	tokens := make([]string, 2)
	for i := range tokens {
		var err error
		if _, tokens[i], err = store.Open(t.Context(), proven); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		`UPDATE sessions SET created_at = created_at - interval '31 days'`,
		`UPDATE refresh_tokens SET expires_at = now() - interval '1 second' WHERE session_id = (SELECT min(id) FROM sessions)`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM sessions`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d sessions are left (%v), want 1", left, err)
	}
	good := 0
	for _, token := range tokens {
		if _, _, err := store.Refresh(t.Context(), token); err == nil {
			good++
		} else if !errors.Is(err, sessions.ErrEnded) {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d refresh tokens are valid, want the one that has not expired", good)
	}
}

// If a password is being changed, a login waits and then needs the new password. The login is recorded together with its
// session or not at all.
func TestOpenWaitsForAChangeOfThePassword(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  string
		want error
		rows int
	}{"changed": {"COMMIT", sessions.ErrEnded, 0}, "not changed after all": {"ROLLBACK", nil, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, pool := open(t)
			proven := enter(t, pool)
			conn, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			if _, err := conn.Exec(t.Context(), `BEGIN; UPDATE admins SET password_hash = 'another'`); err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = conn.Exec(context.WithoutCancel(t.Context()), `ROLLBACK`) }()
			opened := make(chan error, 1)
			go func() {
				_, _, err := store.Open(t.Context(), proven)
				opened <- err
			}()
			awaitLock(t, pool, opened)
			if _, err := conn.Exec(t.Context(), c.end); err != nil {
				t.Fatal(err)
			}
			if err := <-opened; !errors.Is(err, c.want) {
				t.Errorf("the session: %v, want %v", err, c.want)
			}
			var rows, tokens, events int
			err = pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM refresh_tokens),
				(SELECT count(*) FROM audit_log WHERE event = 'logged_in')`).Scan(&rows, &tokens, &events)
			if err != nil || rows != c.rows || tokens != c.rows || events != c.rows {
				t.Errorf("%d sessions, %d tokens and %d entries (%v), want %d of each", rows, tokens, events, err, c.rows)
			}
		})
	}
}

// awaitLock waits until somebody waits for a lock in the pool's database. Until then, nothing may arrive at done.
func awaitLock(t *testing.T, pool *postgres.Pool, done <-chan error) {
	t.Helper()
	const waiting = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`
	for waits := false; !waits; {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		if err := pool.QueryRow(t.Context(), waiting).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
}
