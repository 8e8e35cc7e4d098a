package registry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/ids"
	"narthex/internal/invitation"
	"narthex/internal/registry"
)

// invite adds an admin without a password, like an invitation before its token becomes valid.
func invite(t *testing.T, r *registry.Registry, tenantID string) registry.Owner {
	t.Helper()
	owner := registry.Owner{RunID: ids.New(), TenantID: tenantID, InviteeID: ids.New()}
	for _, err := range []error{
		r.InsertAdmin(t.Context(), owner, registry.Admin{ID: owner.InviteeID, Email: "kim@example.org", EmailHash: owner.InviteeID,
			FirstName: "Kim", LastName: "Other", Role: registry.RolePrimary, CreatedAt: now}),
		r.InsertEmailEntry(t.Context(), owner, registry.EmailEntry{Email: "kim@example.org", EmailHash: owner.InviteeID,
			AdminID: owner.InviteeID, CreatedAt: now}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return owner
}

// offerInvitation makes the token of an invitation valid.
func offerInvitation(t *testing.T, r *registry.Registry, owner registry.Owner, token string, expiresAt time.Time) {
	t.Helper()
	offered := registry.Invitation{
		TokenHash: invitation.TokenHash(token), TenantID: owner.TenantID, AdminID: owner.InviteeID, ExpiresAt: expiresAt,
	}
	if err := r.InsertInvitation(t.Context(), owner, offered); err != nil {
		t.Fatal(err)
	}
}

// An invitation that is being written may still be rolled back, so its PRIMARY doesn't count yet.
func TestOnlyAPrimaryWithAPasswordCounts(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	owner := newOwner()
	enter(t, r, owner, "hash")
	founder := adminOf(t, pool)
	invited := invite(t, r, owner.TenantID)
	wantLast := func(when string) {
		t.Helper()
		if err := r.RemoveAdmin(t.Context(), owner.TenantID, founder); !errors.Is(err, registry.ErrLastPrimary) {
			t.Fatalf("%s: %v, want ErrLastPrimary", when, err)
		}
	}
	wantLast("the invitation is being written")
	offerInvitation(t, r, invited, "token", time.Now().Add(time.Hour))
	wantLast("it was offered")
	if err := r.AlignPasswordHash(t.Context(), owner.TenantID, invited.InviteeID, "hash of Kim's"); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveAdmin(t.Context(), owner.TenantID, founder); err != nil {
		t.Errorf("it was accepted: %v", err)
	}
	if err := r.RemoveAdmin(t.Context(), owner.TenantID, invited.InviteeID); !errors.Is(err, registry.ErrLastPrimary) {
		t.Errorf("only the invited PRIMARY is left: %v, want ErrLastPrimary", err)
	}
}

// inviteInEachState returns an invitation of a church of its own in each state, by the state.
func inviteInEachState(t *testing.T, r *registry.Registry, pool *pgxpool.Pool) map[string]registry.Owner {
	t.Helper()
	hourAgo := time.Now().Add(-time.Hour)
	invited := map[string]registry.Owner{}
	for _, state := range []string{"good", "accepted", "of a suspended church", "expired", "expired too"} {
		owner := newOwner()
		enter(t, r, owner, owner.TenantID)
		invited[state] = invite(t, r, owner.TenantID)
		expiresAt := hourAgo
		if state == "good" {
			expiresAt = time.Now().Add(time.Hour)
		}
		offerInvitation(t, r, invited[state], state, expiresAt)
	}
	if err := r.AlignPasswordHash(t.Context(), invited["accepted"].TenantID, invited["accepted"].InviteeID, "hash"); err != nil {
		t.Fatal(err)
	}
	suspended := invited["of a suspended church"].TenantID
	if _, err := pool.Exec(t.Context(), `UPDATE tenants SET status = 'suspended' WHERE id = $1`, suspended); err != nil {
		t.Fatal(err)
	}
	return invited
}

// The cleanup doesn't get invitations that it can't remove. It gets the rest page by page.
func TestExpiredInvitations(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	invited := inviteInEachState(t, r, pool)
	wantExpired := func(after registry.Invitation, want ...string) (last registry.Invitation) {
		t.Helper()
		expired, err := r.ExpiredInvitations(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		var got, ids []string
		for _, invitation := range expired {
			got, last = append(got, invitation.AdminID), invitation
		}
		for _, state := range want {
			ids = append(ids, invited[state].InviteeID)
		}
		slices.Sort(got)
		slices.Sort(ids)
		if !slices.Equal(got, ids) {
			t.Errorf("expired: %v, want %v: %v", got, ids, want)
		}
		return last
	}
	last := wantExpired(registry.Invitation{TokenHash: []byte{}}, "expired", "expired too")
	wantExpired(last)

	if err := r.DeleteAcceptedInvitations(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	row := pool.QueryRow(t.Context(), `SELECT count(*) FROM invitations`)
	if err := row.Scan(&left); err != nil || left != len(invited)-1 {
		t.Errorf("%d invitations are left (%v), want all except the accepted one", left, err)
	}
}

// An invitation is accepted and withdrawn while the founder removes themselves. One PRIMARY with a password is left, and
// there is no deadlock.
func TestAcceptancesAndRemovalsRace(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	for range 20 {
		owner := newOwner()
		enter(t, r, owner, owner.TenantID)
		var founder string
		if err := pool.QueryRow(t.Context(), `SELECT id FROM admins WHERE tenant_id = $1`, owner.TenantID).Scan(&founder); err != nil {
			t.Fatal(err)
		}
		invited := invite(t, r, owner.TenantID)
		offerInvitation(t, r, invited, owner.TenantID, time.Now().Add(time.Hour))
		results := make(chan error, 3)
		go func() { results <- r.AlignPasswordHash(t.Context(), owner.TenantID, invited.InviteeID, "hash") }()
		go func() { results <- r.RemoveAdmin(t.Context(), owner.TenantID, invited.InviteeID) }()
		go func() { results <- r.RemoveAdmin(t.Context(), owner.TenantID, founder) }()
		for range 3 {
			if err := <-results; err != nil && !errors.Is(err, registry.ErrLastPrimary) && !errors.Is(err, registry.ErrNotFound) {
				t.Error(err)
			}
		}
		var left int
		const countAble = `SELECT count(*) FROM admins WHERE tenant_id = $1 AND password_hash <> ''`
		if err := pool.QueryRow(t.Context(), countAble, owner.TenantID).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left != 1 {
			t.Errorf("%d admins with a password are left, want 1", left)
		}
		if _, err := pool.Exec(t.Context(), `DELETE FROM admin_email_index; DELETE FROM admins`); err != nil {
			t.Fatal(err)
		}
	}
}

// A login that runs while its admin is removed leaves no session.
func TestARemovedAdminHasNoSession(t *testing.T) {
	t.Parallel()
	r, pool := open(t)
	owner := newOwner()
	enter(t, r, owner, "hash")
	invited := invite(t, r, owner.TenantID)
	offerInvitation(t, r, invited, "token", time.Now().Add(time.Hour))
	if err := r.AlignPasswordHash(t.Context(), owner.TenantID, invited.InviteeID, "hash"); err != nil {
		t.Fatal(err)
	}
	login, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer login.Rollback(context.WithoutCancel(t.Context()))
	for _, sql := range []string{`SELECT FROM admins WHERE id = $1 FOR SHARE`,
		`INSERT INTO sessions (id, tenant_id, admin_id, role) SELECT 's', tenant_id, id, role FROM admins WHERE id = $1`} {
		if _, err := login.Exec(t.Context(), sql, invited.InviteeID); err != nil {
			t.Fatal(err)
		}
	}
	removed := make(chan error)
	go func() { removed <- r.RemoveAdmin(t.Context(), owner.TenantID, invited.InviteeID) }()
	waitForLock(t, pool, removed)
	if err := login.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	var open int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM sessions WHERE revoked_at IS NULL`).Scan(&open); err != nil || open != 0 {
		t.Errorf("%d sessions of the removed admin are open (%v), want none", open, err)
	}
}

// waitForLock waits until somebody waits for a lock in the pool's database, or done ends.
func waitForLock(t *testing.T, pool *pgxpool.Pool, done <-chan error) {
	t.Helper()
	const waiting = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		var waits bool
		if err := pool.QueryRow(t.Context(), waiting).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
	}
	t.Fatal("nobody waits for a lock")
}
