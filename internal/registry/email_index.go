package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EmailEntry is a row of admin_email_index: whom an email logs in as, and where.
type EmailEntry struct {
	Email     string // normalised; stored sealed
	EmailHash string // its blind index
	AdminID   string
	CreatedAt time.Time
}

const (
	insertEmailEntry = `
		INSERT INTO admin_email_index (id, email_hash, email, tenant_id, admin_id, signup_id, created_at, updated_at)
		VALUES (@admin_id, @email_hash, @email, @tenant_id, @admin_id, @signup_id, @created_at, @created_at)
		ON CONFLICT (id) DO NOTHING`
	ownerOfEmailEntry = `SELECT signup_id FROM admin_email_index WHERE id = @admin_id`
	deleteEmailEntry  = `DELETE FROM admin_email_index WHERE tenant_id = @tenant_id AND signup_id = @signup_id`
	selectEmailEntry  = `SELECT tenant_id, admin_id FROM admin_email_index WHERE email_hash = $1`
)

// InsertEmailEntry makes the email log in to owner's tenant. Idempotent for one owner.
// Errors: ErrEmailTaken, ErrUndone, ErrNotOwned.
func (r *Registry) InsertEmailEntry(ctx context.Context, owner Owner, entry EmailEntry) error {
	sealed, err := r.sealEmail("admin_email_index", owner, entry.Email)
	if err != nil {
		return err
	}
	err = r.insert(ctx, owner, insertEmailEntry, ownerOfEmailEntry, pgx.NamedArgs{
		"admin_id": entry.AdminID, "email": sealed, "email_hash": entry.EmailHash, "created_at": entry.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("insert email index entry: %w", err)
	}
	return nil
}

// DeleteEmailEntry frees the email that owner's signup indexed. Idempotent.
func (r *Registry) DeleteEmailEntry(ctx context.Context, owner Owner) error {
	if err := r.remove(ctx, owner, deleteEmailEntry); err != nil {
		return fmt.Errorf("delete email index entry: %w", err)
	}
	return nil
}

// ByEmail returns the tenant and the admin that an email's blind index leads to. Errors: ErrNotFound.
func (r *Registry) ByEmail(ctx context.Context, emailHash string) (tenantID, adminID string, err error) {
	err = r.pool.QueryRow(ctx, selectEmailEntry, emailHash).Scan(&tenantID, &adminID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("email: %w", ErrNotFound)
	}
	if err != nil {
		return "", "", fmt.Errorf("select email index entry: %w", err)
	}
	return tenantID, adminID, nil
}
