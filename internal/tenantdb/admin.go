package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/registry"
	"narthex/internal/secrets"
)

// ErrNoAdmin says that the tenant has no such admin.
var ErrNoAdmin = errors.New("no such admin")

// Admin is an admin as the church's own database knows it.
type Admin struct {
	ID               string
	Email            string // opened
	PasswordHash     string // bcrypt
	FirstName        string
	LastName         string
	Role             string
	WelcomeCompleted bool
}

type adminRow struct {
	ID               string
	EncryptedEmail   []byte
	PasswordHash     string
	FirstName        string
	LastName         string
	Role             string
	WelcomeCompleted bool
}

const (
	selectAdmin = `
		SELECT id, encrypted_email, password_hash, first_name, last_name, role, welcome_completed
		FROM admins WHERE id = $1`
	touchLogin  = `UPDATE admins SET last_login_at = now(), updated_at = now() WHERE id = $1`
	insertAdmin = `
		INSERT INTO admins (id, email, encrypted_email, email_hash, password_hash, first_name, last_name, role, created_at, updated_at)
		VALUES (@id, @email, @encrypted_email, @email_hash, @password_hash, @first_name, @last_name, 'PRIMARY', @created_at, @created_at)
		ON CONFLICT (id) DO NOTHING`
	updatePasswordHash = `UPDATE admins SET password_hash = $2, updated_at = now() WHERE id = $1`
	deleteAdmin        = `DELETE FROM admins WHERE id = $1`
)

// Admin returns the tenant's admin of this id. Errors: ErrNoAdmin.
func (t *Tenant) Admin(ctx context.Context, id string) (Admin, error) {
	row, err := One[adminRow](ctx, t, selectAdmin, id)
	if errors.Is(err, ErrNotFound) {
		return Admin{}, ErrNoAdmin
	}
	if err != nil {
		return Admin{}, fmt.Errorf("select admin: %w", err)
	}
	email, err := t.router.keys.Open(row.EncryptedEmail, adminEmailPlace("encrypted_email", t.ID))
	if err != nil {
		return Admin{}, err
	}
	return Admin{ID: row.ID, Email: string(email), PasswordHash: row.PasswordHash, FirstName: row.FirstName,
		LastName: row.LastName, Role: row.Role, WelcomeCompleted: row.WelcomeCompleted}, nil
}

// TouchLogin records that the admin has logged in now.
func (t *Tenant) TouchLogin(ctx context.Context, adminID string) error {
	if _, err := Exec(ctx, t, touchLogin, adminID); err != nil {
		return fmt.Errorf("update last login: %w", err)
	}
	return nil
}

// SetPasswordHash replaces the hash of an admin's password. Idempotent. Errors: ErrNoAdmin.
func (t *Tenant) SetPasswordHash(ctx context.Context, adminID, hash string) error {
	rows, err := Exec(ctx, t, updatePasswordHash, adminID, hash)
	if err != nil {
		return fmt.Errorf("update password hash: %w", err)
	}
	if rows == 0 {
		return ErrNoAdmin
	}
	return nil
}

// execer is what a connection and a transaction have in common.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// InsertFirstAdmin adds the PRIMARY admin to a tenant's database that is not live yet. Idempotent.
// Nothing is stored if sealing fails.
func InsertFirstAdmin(ctx context.Context, db execer, keys *secrets.Keys, tenantID string, admin registry.Admin) error {
	email, err := keys.Seal([]byte(admin.Email), adminEmailPlace("email", tenantID))
	if err != nil {
		return err
	}
	encrypted, err := keys.Seal([]byte(admin.Email), adminEmailPlace("encrypted_email", tenantID))
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, insertAdmin, pgx.NamedArgs{
		"id": admin.ID, "email": email, "encrypted_email": encrypted, "email_hash": admin.EmailHash,
		"password_hash": admin.PasswordHash, "first_name": admin.FirstName, "last_name": admin.LastName,
		"created_at": admin.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("insert tenant admin: %w", err)
	}
	return nil
}

// DeleteFirstAdmin removes that admin again. Idempotent; a database without the table has none.
func DeleteFirstAdmin(ctx context.Context, db execer, adminID string) error {
	_, err := db.Exec(ctx, deleteAdmin, adminID)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42P01" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete tenant admin: %w", err)
	}
	return nil
}

func adminEmailPlace(column, tenantID string) secrets.Place {
	return secrets.Place{Table: "tenant.admins", Column: column, Tenant: tenantID}
}
