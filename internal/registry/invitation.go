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

// ErrLastPrimary says that a church would be left without a PRIMARY admin.
var ErrLastPrimary = errors.New("the last PRIMARY admin cannot be removed")

// Invitation is the offer to become an admin, until it is accepted. Its token is kept hashed.
type Invitation struct {
	TokenHash []byte
	TenantID  string
	AdminID   string
	ExpiresAt time.Time
}

const (
	insertInvitation = `
		INSERT INTO invitations (id, tenant_id, admin_id, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT (admin_id) DO NOTHING`
	selectInvitation = `SELECT tenant_id, admin_id, expires_at FROM invitations WHERE id = $1 AND expires_at > now()`
	lockInvitation   = selectInvitation + ` FOR UPDATE`
	deleteInvitation = `DELETE FROM invitations WHERE id = $1`
	deleteExpired    = `
		DELETE FROM invitations i USING admins a
		WHERE i.id = $1 AND i.expires_at < now() AND a.id = i.admin_id AND a.password_hash = ''`
	selectExpired = `
		SELECT i.id AS token_hash, i.tenant_id, i.admin_id, i.expires_at FROM invitations i JOIN tenants t ON t.id = i.tenant_id
		WHERE t.status = 'active' AND i.expires_at < now() AND (i.expires_at, i.id) > ($1, $2) ORDER BY i.expires_at, i.id LIMIT 100`

	// All that changes who a church's admins are takes this lock first. Sessions can be opened meanwhile.
	lockTenantRow = `SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE`
	// Only an admin with a password can log in, so only they count.
	otherPrimaries = `
		SELECT count(*) FILTER (WHERE id <> $2), count(*) FILTER (WHERE id = $2) > 0
		FROM admins WHERE tenant_id = $1 AND role = 'PRIMARY' AND password_hash <> ''`
	deleteIndexOf  = `DELETE FROM admin_email_index WHERE tenant_id = $1 AND admin_id = $2`
	deleteAdminRow = `DELETE FROM admins WHERE tenant_id = $1 AND id = $2`
	// Whoever signed the church up and was removed may sign up again.
	releaseEmail = `
		UPDATE churches c SET email_hash = NULL, updated_at = now() WHERE c.id = $1 AND c.email_hash IS NOT NULL
		AND NOT EXISTS (SELECT FROM admin_email_index i WHERE i.tenant_id = c.id AND i.email_hash = c.email_hash)`
)

// InsertInvitation makes an invitation's token good. Idempotent for one owner. Errors: ErrUndone.
func (r *Registry) InsertInvitation(ctx context.Context, owner Owner, invitation Invitation) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSignup, owner.RunID); err != nil {
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

// Invitation returns what a token invites to. Errors: ErrNotFound, also where it has expired or was used.
func (r *Registry) Invitation(ctx context.Context, token string) (Invitation, error) {
	return readInvitation(r.pool.QueryRow(ctx, selectInvitation, invitation.TokenHash(token)), token)
}

func readInvitation(row pgx.Row, token string) (Invitation, error) {
	found := Invitation{TokenHash: invitation.TokenHash(token)}
	err := row.Scan(&found.TenantID, &found.AdminID, &found.ExpiresAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return found, fmt.Errorf("invitation: %w", ErrNotFound)
	}
	if err != nil {
		return found, fmt.Errorf("select invitation: %w", err)
	}
	return found, nil
}

// AcceptInvitation uses a token up: join, which must be idempotent, gives the admin the password of this
// hash in the tenant's own database, and the registry follows. Errors: ErrNotFound, join's.
func (r *Registry) AcceptInvitation(ctx context.Context, token, passwordHash string, join func() error) error {
	joined := false
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		found, err := readInvitation(tx.QueryRow(ctx, lockInvitation, invitation.TokenHash(token)), token)
		if err != nil {
			return err
		}
		if !joined { // by a transaction that lost its connection
			if err := join(); err != nil {
				return err
			}
			joined = true
		}
		return conclude(ctx, tx, found, passwordHash)
	})
	if err != nil {
		return fmt.Errorf("accept invitation: %w", err)
	}
	return nil
}

// ConcludeInvitation does the registry's part of an acceptance that was cut off after the tenant's. Idempotent.
func (r *Registry) ConcludeInvitation(ctx context.Context, invitation Invitation, passwordHash string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTenantRow, invitation.TenantID); err != nil {
			return err
		}
		return conclude(ctx, tx, invitation, passwordHash)
	})
	if err != nil {
		return fmt.Errorf("conclude invitation: %w", err)
	}
	return nil
}

func conclude(ctx context.Context, tx pgx.Tx, invitation Invitation, passwordHash string) error {
	tag, err := tx.Exec(ctx, deleteInvitation, invitation.TokenHash)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, updatePasswordHash, invitation.AdminID, invitation.TenantID, passwordHash); err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Event{Kind: audit.AdminJoined, TenantID: invitation.TenantID, AdminID: invitation.AdminID})
}

// ExpiredInvitations lists invitations to active churches that nobody has accepted in time: the first of them that
// come after one. After the zero Invitation come all.
func (r *Registry) ExpiredInvitations(ctx context.Context, after Invitation) ([]Invitation, error) {
	expired, err := postgres.All(ctx, r.pool, pgx.RowToStructByName[Invitation], selectExpired, after.ExpiresAt, after.TokenHash)
	if err != nil {
		return nil, fmt.Errorf("list expired invitations: %w", err)
	}
	return expired, nil
}

// RemoveAdmin ends an admin's log-in, sessions and invitation. Idempotent. Errors: ErrLastPrimary.
func (r *Registry) RemoveAdmin(ctx context.Context, tenantID, adminID string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTenantRow, tenantID); err != nil { // so that two don't remove each other
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
	// Only now: the deletion has waited for logins that are under way.
	if err := sessions.Revoke(ctx, tx, tenantID, adminID, ""); err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Event{Kind: audit.AdminRemoved, TenantID: tenantID, AdminID: adminID})
}
