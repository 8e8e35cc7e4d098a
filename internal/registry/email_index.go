package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EmailEntry is a row of admin_email_index. It maps an email to an admin and their tenant.
type EmailEntry struct {
	Email     string // normalised; stored sealed
	EmailHash string // its blind index
	AdminID   string
	CreatedAt time.Time
}

const (
	// While the index keys change, an email may be indexed under any of them. The unique constraint alone would
	// not notice that.
	insertEmailEntry = `
		INSERT INTO admin_email_index (id, email_hash, email, tenant_id, admin_id, signup_id, created_at, updated_at)
		SELECT @admin_id, @email_hash, @email, @tenant_id, @admin_id, @signup_id, @created_at, @created_at` + permitted + `
		AND NOT EXISTS (SELECT FROM admin_email_index WHERE email_hash = ANY(@email_hashes) AND id <> @admin_id)
		ON CONFLICT (id) DO NOTHING`
	ownerOfEmailEntry = `SELECT signup_id FROM admin_email_index WHERE id = @admin_id`
	deleteEmailEntry  = `DELETE FROM admin_email_index WHERE tenant_id = @tenant_id AND signup_id = @signup_id`
	selectEmailEntry  = `
		SELECT i.tenant_id, i.admin_id, coalesce(a.role, '') FROM admin_email_index i LEFT JOIN admins a ON a.id = i.admin_id
		WHERE i.email_hash = ANY($1)`
)

// InsertEmailEntry indexes the email, so that it logs in to owner's tenant. Idempotent for one owner.
// Errors: ErrEmailTaken, ErrUndone, ErrNotOwned.
func (r *Registry) InsertEmailEntry(ctx context.Context, owner Owner, entry EmailEntry) error {
	sealed, err := r.sealEmail("admin_email_index", owner, entry.Email)
	if err != nil {
		return err
	}
	lock, err := r.keys.EmailLock(entry.Email)
	if err != nil {
		return err
	}
	hashes, err := r.keys.EmailIndexes(entry.Email)
	if err != nil {
		return err
	}
	err = r.insert(ctx, owner, ownedRow{insertEmailEntry, ownerOfEmailEntry}, pgx.NamedArgs{
		"admin_id": entry.AdminID, "email": sealed, "email_hash": entry.EmailHash, "email_hashes": hashes, "created_at": entry.CreatedAt,
	}, lock)
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

// Login is the admin that an email logs in as.
type Login struct {
	TenantID string
	AdminID  string
	Role     string
}

// ByEmail returns the admin that a normalised email logs in as. Errors: ErrNotFound.
func (r *Registry) ByEmail(ctx context.Context, email string) (login Login, err error) {
	hashes, err := r.keys.EmailIndexes(email)
	if err != nil {
		return login, err
	}
	err = r.pool.QueryRow(ctx, selectEmailEntry, hashes).Scan(&login.TenantID, &login.AdminID, &login.Role)
	if errors.Is(err, pgx.ErrNoRows) {
		return login, fmt.Errorf("email: %w", ErrNotFound)
	}
	if err != nil {
		return login, fmt.Errorf("select email index entry: %w", err)
	}
	return login, nil
}
