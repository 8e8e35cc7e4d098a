package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/invitation"
	"narthex/internal/postgres"
	"narthex/internal/sessions"
)

// ErrLastPrimary means that a church would be left without a PRIMARY admin.
var ErrLastPrimary = errors.New("the last PRIMARY admin cannot be removed")

// Invitation is an offer to become an admin. It is kept until it expires, accepted or not, so that an acceptance can be
// retried for its answer. Its token is stored as a hash.
type Invitation struct {
	TokenHash []byte
	TenantID  string
	AdminID   string
	ExpiresAt time.Time
}

// Invitee is the person an invitation is for.
type Invitee struct {
	TenantID string
	AdminID  string
	Role     string
	Accepted bool
}

const (
	insertInvitation = `
		INSERT INTO invitations (id, tenant_id, admin_id, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT (admin_id) DO NOTHING`
	selectInvitee = `
		SELECT i.tenant_id, i.admin_id, a.role, a.password_hash <> '' AS accepted
		FROM invitations i JOIN admins a ON a.id = i.admin_id WHERE i.id = $1 AND i.expires_at > now()`
	deleteAccepted = `
		DELETE FROM invitations i USING admins a WHERE i.expires_at < now() AND a.id = i.admin_id AND a.password_hash <> ''`
	deleteExpired = `
		DELETE FROM invitations i USING admins a
		WHERE i.id = $1 AND i.expires_at < now() AND a.id = i.admin_id AND a.password_hash = ''`
	selectExpired = `
		SELECT i.id AS token_hash, i.tenant_id, i.admin_id, i.expires_at
		FROM invitations i JOIN tenants t ON t.id = i.tenant_id JOIN admins a ON a.id = i.admin_id
		WHERE t.status = 'active' AND a.password_hash = '' AND i.expires_at < now() AND (i.expires_at, i.id) > ($1, $2)
		ORDER BY i.expires_at, i.id LIMIT 100`

	// Everything that removes a church's admins takes this lock first. It does not block new sessions.
	lockTenantRow = `SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE`
	// Only admins with a password count, because only they can log in.
	otherPrimaries = `
		SELECT count(*) FILTER (WHERE id <> $2), count(*) FILTER (WHERE id = $2) > 0
		FROM admins WHERE tenant_id = $1 AND role = 'PRIMARY' AND password_hash <> ''`
	deleteIndexOf  = `DELETE FROM admin_email_index WHERE tenant_id = $1 AND admin_id = $2`
	deleteAdminRow = `DELETE FROM admins WHERE tenant_id = $1 AND id = $2`
	// A removed admin who signed the church up may sign up again.
	releaseEmail = `
		UPDATE churches c SET email_hash = NULL, updated_at = now() WHERE c.id = $1 AND c.email_hash IS NOT NULL
		AND NOT EXISTS (SELECT FROM admin_email_index i WHERE i.tenant_id = c.id AND i.email_hash = c.email_hash)`
)

// InsertInvitation makes an invitation's token valid. Idempotent for one owner. Errors: ErrUndone.
func (r *Registry) InsertInvitation(ctx context.Context, owner Owner, invitation Invitation) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRun, owner.RunID); err != nil {
			return err
		}
		if err := permit(ctx, tx, owner); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, insertInvitation, invitation.TokenHash, owner.TenantID, invitation.AdminID, invitation.ExpiresAt)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return audit.Write(ctx, tx, audit.Event{Kind: audit.AdminInvited, TenantID: owner.TenantID, AdminID: invitation.AdminID})
	})
	if err != nil {
		return fmt.Errorf("insert invitation: %w", err)
	}
	return nil
}

// Invitee returns the person that a token invites or has invited. Errors: ErrNotFound, also if it has expired or was withdrawn.
func (r *Registry) Invitee(ctx context.Context, token string) (Invitee, error) {
	invitee, err := postgres.One(ctx, r.pool, pgx.RowToStructByName[Invitee], selectInvitee, invitation.TokenHash(token))
	if errors.Is(err, pgx.ErrNoRows) {
		return Invitee{}, fmt.Errorf("invitation: %w", ErrNotFound)
	}
	if err != nil {
		return Invitee{}, fmt.Errorf("select invitation: %w", err)
	}
	return invitee, nil
}

// ExpiredInvitations lists the next invitations to active churches, after the given one, that were not accepted in
// time. Start with the zero Invitation.
func (r *Registry) ExpiredInvitations(ctx context.Context, after Invitation) ([]Invitation, error) {
	expired, err := postgres.All(ctx, r.pool, pgx.RowToStructByName[Invitation], selectExpired, after.ExpiresAt, after.TokenHash)
	if err != nil {
		return nil, fmt.Errorf("list expired invitations: %w", err)
	}
	return expired, nil
}

// DeleteAcceptedInvitations deletes invitations that were accepted and have expired. Idempotent.
func (r *Registry) DeleteAcceptedInvitations(ctx context.Context) error {
	if _, err := r.pool.Exec(ctx, deleteAccepted); err != nil {
		return fmt.Errorf("delete accepted invitations: %w", err)
	}
	return nil
}

// RemoveAdmin ends an admin's log-in, sessions and invitation. Idempotent. Errors: ErrLastPrimary.
func (r *Registry) RemoveAdmin(ctx context.Context, tenantID, adminID string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTenantRow, tenantID); err != nil { // so that two admins don't remove each other
			return err
		}
		var others int
		var primary bool
		if err := tx.QueryRow(ctx, otherPrimaries, tenantID, adminID).Scan(&others, &primary); err != nil {
			return err
		}
		if primary && others == 0 {
			return ErrLastPrimary
		}
		return removeAdmin(ctx, tx, tenantID, adminID)
	})
	if err != nil {
		return fmt.Errorf("remove admin: %w", err)
	}
	return nil
}

// RemoveInvited removes an admin whose invitation has expired, unless they have a password. Idempotent.
func (r *Registry) RemoveInvited(ctx context.Context, invitation Invitation) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTenantRow, invitation.TenantID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteExpired, invitation.TokenHash)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return removeAdmin(ctx, tx, invitation.TenantID, invitation.AdminID)
	})
	if err != nil {
		return fmt.Errorf("remove invited admin: %w", err)
	}
	return nil
}

// removeAdmin needs the lock of the tenant's row.
func removeAdmin(ctx context.Context, tx pgx.Tx, tenantID, adminID string) error {
	if _, err := tx.Exec(ctx, deleteIndexOf, tenantID, adminID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, releaseEmail, tenantID); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, deleteAdminRow, tenantID, adminID)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	// Not earlier: the deletion above has waited for logins in progress.
	if err := sessions.Revoke(ctx, tx, tenantID, adminID, ""); err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Event{Kind: audit.AdminRemoved, TenantID: tenantID, AdminID: adminID})
}
