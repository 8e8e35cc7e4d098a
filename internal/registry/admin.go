package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/sessions"
)

// The roles of admins. Whoever signed the church up is PRIMARY.
const (
	RolePrimary = "PRIMARY"
	RoleCoAdmin = "CO_ADMIN"
)

// Admin is a row of admins as a signup or an invitation creates it.
type Admin struct {
	ID           string
	Email        string // normalised; stored sealed
	EmailHash    string // its blind index
	PasswordHash string // bcrypt; empty until an invitation is accepted
	FirstName    string
	LastName     string
	Role         string
	CreatedAt    time.Time
}

const (
	insertAdmin = `
		INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id, created_at, updated_at)
		SELECT @id, @tenant_id, @email, @email_hash, @password_hash, @first_name, @last_name, @role, @signup_id,
			@created_at, @created_at` + permitted + `
		ON CONFLICT (id) DO NOTHING`
	ownerOfAdmin       = `SELECT signup_id FROM admins WHERE id = @id`
	lockPasswordHash   = `SELECT password_hash FROM admins WHERE id = $1 AND tenant_id = $2 FOR NO KEY UPDATE`
	updatePasswordHash = `UPDATE admins SET password_hash = $3, updated_at = now() WHERE id = $1 AND tenant_id = $2`
	deleteAdmin        = `DELETE FROM admins WHERE tenant_id = @tenant_id AND signup_id = @signup_id`
)

// InsertAdmin adds an admin of the church. Idempotent for one owner.
// Errors: ErrEmailTaken, ErrUndone, ErrNotOwned.
func (r *Registry) InsertAdmin(ctx context.Context, owner Owner, admin Admin) error {
	sealed, err := r.sealEmail("admins", owner, admin.Email)
	if err != nil {
		return err
	}
	err = r.insert(ctx, owner, ownedRow{insertAdmin, ownerOfAdmin}, pgx.NamedArgs{
		"id": admin.ID, "email": sealed, "email_hash": admin.EmailHash, "password_hash": admin.PasswordHash,
		"first_name": admin.FirstName, "last_name": admin.LastName, "role": admin.Role, "created_at": admin.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("insert admin: %w", err)
	}
	return nil
}

// HasAdmin reports whether the registry has the admin of owner's invitation.
func (r *Registry) HasAdmin(ctx context.Context, owner Owner) (bool, error) {
	var runID string
	err := r.pool.QueryRow(ctx, ownerOfAdmin, pgx.NamedArgs{"id": owner.InviteeID}).Scan(&runID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("look for the invited admin: %w", err)
	}
	return err == nil && runID == owner.RunID, nil
}

// PermitInvitee returns nil if owner's invitation has created its admin, or if there is no such admin. Errors: ErrNotOwned.
func (r *Registry) PermitInvitee(ctx context.Context, owner Owner) error {
	var runID string
	err := r.pool.QueryRow(ctx, ownerOfAdmin, pgx.NamedArgs{"id": owner.InviteeID}).Scan(&runID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("check the admin's owner: %w", err)
	case runID != owner.RunID:
		return ErrNotOwned
	}
	return nil
}

// ChangePassword replaces the hash of an admin's password and revokes their sessions, except the one of this id.
// Idempotent. Errors: ErrNotFound.
func (r *Registry) ChangePassword(ctx context.Context, tenantID, adminID, hash, except string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, updatePasswordHash, adminID, tenantID, hash)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if err := sessions.Revoke(ctx, tx, tenantID, adminID, except); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Event{Kind: audit.PasswordChanged, TenantID: tenantID, AdminID: adminID})
	})
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	return nil
}

// AlignPasswordHash sets the hash to the one in the church's own database. An admin who had none has thereby joined.
// Idempotent. Errors: ErrNotFound.
func (r *Registry) AlignPasswordHash(ctx context.Context, tenantID, adminID, hash string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		var had string
		err := tx.QueryRow(ctx, lockPasswordHash, adminID, tenantID).Scan(&had)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, updatePasswordHash, adminID, tenantID, hash); err != nil || had != "" {
			return err
		}
		return audit.Write(ctx, tx, audit.Event{Kind: audit.AdminJoined, TenantID: tenantID, AdminID: adminID})
	})
	if err != nil {
		return fmt.Errorf("align password hash: %w", err)
	}
	return nil
}

// DeleteAdmin removes the admin that owner's signup created. Idempotent.
func (r *Registry) DeleteAdmin(ctx context.Context, owner Owner) error {
	if err := r.remove(ctx, owner, deleteAdmin); err != nil {
		return fmt.Errorf("delete admin: %w", err)
	}
	return nil
}
