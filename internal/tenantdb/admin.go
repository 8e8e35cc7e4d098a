package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/sqlstate"
)

// ErrNoAdmin means that the tenant has no such admin.
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

// scanAdmin reads adminColumns by position. By name would be slower, and no query runs more often.
func scanAdmin(row pgx.CollectableRow) (a adminRow, err error) {
	err = row.Scan(&a.ID, &a.EncryptedEmail, &a.PasswordHash, &a.FirstName, &a.LastName, &a.Role, &a.WelcomeCompleted)
	return a, err
}

const (
	adminColumns = ` id, encrypted_email, password_hash, first_name, last_name, role, welcome_completed `
	selectAdmin  = `SELECT` + adminColumns + `FROM admins WHERE id = $1`
	selectAdmins = `SELECT` + adminColumns + `FROM admins WHERE id > $1 ORDER BY id LIMIT $2`
	touchLogin   = `UPDATE admins SET last_login_at = now(), updated_at = now() WHERE id = $1`
	insertAdmin  = `
		INSERT INTO admins (id, email, encrypted_email, email_hash, password_hash, first_name, last_name, role, created_at, updated_at)
		VALUES (@id, @email, @encrypted_email, @email_hash, @password_hash, @first_name, @last_name, @role, @created_at, @created_at)
		ON CONFLICT (id) DO NOTHING`
	// The registry has assigned the email to this admin. Another admin that still has it was removed there.
	deleteNamesake = `DELETE FROM admins WHERE email_hash = $1 AND id <> $2`
	deleteAdmin    = `DELETE FROM admins WHERE id = $1`
	deleteInvited  = `DELETE FROM admins WHERE id = $1 AND password_hash = ''`
)

// Admin returns the tenant's admin with this id. Errors: ErrNoAdmin.
func (t *Tenant) Admin(ctx context.Context, id string) (Admin, error) {
	row, err := one(ctx, t, scanAdmin, selectAdmin, id)
	if errors.Is(err, ErrNotFound) || err == nil && row.ID != id { // the church's database may return anything
		return Admin{}, ErrNoAdmin
	}
	if err != nil {
		return Admin{}, fmt.Errorf("select admin: %w", err)
	}
	return t.open(row)
}

// Admins returns the tenant's admins with ids after after, at most limit, ordered by id.
func (t *Tenant) Admins(ctx context.Context, after string, limit int) ([]Admin, error) {
	rows, err := All[adminRow](ctx, t, selectAdmins, after, limit)
	if err != nil {
		return nil, fmt.Errorf("select admins: %w", err)
	}
	admins := make([]Admin, len(rows))
	for i, row := range rows {
		admins[i], err = t.open(row)
		if err != nil {
			return nil, err
		}
	}
	return admins, nil
}

func (t *Tenant) open(row adminRow) (Admin, error) {
	email, err := t.Open("admins", "encrypted_email", row.EncryptedEmail)
	if err != nil {
		return Admin{}, err
	}
	return Admin{ID: row.ID, Email: email, PasswordHash: row.PasswordHash, FirstName: row.FirstName,
		LastName: row.LastName, Role: row.Role, WelcomeCompleted: row.WelcomeCompleted}, nil
}

// TouchLogin records that the admin has logged in now.
func (t *Tenant) TouchLogin(ctx context.Context, adminID string) error {
	if _, err := Exec(ctx, t, touchLogin, adminID); err != nil {
		return fmt.Errorf("update last login: %w", err)
	}
	return nil
}

// InsertAdmin adds the first admin to a tenant's database, with the email that the registry has for them.
// Idempotent. Nothing is stored if sealing fails.
func InsertAdmin(ctx context.Context, conn *pgx.Conn, keys *secrets.Keys, tenantID string, admin registry.Admin) error {
	var batch pgx.Batch
	if err := queueAdmin(&batch, keys, tenantID, admin); err != nil {
		return err
	}
	return sendAdmin(ctx, conn, &batch)
}

// InsertInvitedAdmin adds another admin, as InsertAdmin does.
func InsertInvitedAdmin(ctx context.Context, conn *pgx.Conn, keys *secrets.Keys, tenantID string, admin registry.Admin) error {
	var batch pgx.Batch
	batch.Queue(deleteNamesake, admin.EmailHash, admin.ID)
	if err := queueAdmin(&batch, keys, tenantID, admin); err != nil {
		return err
	}
	return sendAdmin(ctx, conn, &batch)
}

func queueAdmin(batch *pgx.Batch, keys *secrets.Keys, tenantID string, admin registry.Admin) error {
	email, err := keys.Seal([]byte(admin.Email), adminEmailPlace("email", tenantID))
	if err != nil {
		return err
	}
	encrypted, err := keys.Seal([]byte(admin.Email), adminEmailPlace("encrypted_email", tenantID))
	if err != nil {
		return err
	}
	batch.Queue(insertAdmin, pgx.NamedArgs{
		"id": admin.ID, "email": email, "encrypted_email": encrypted, "email_hash": admin.EmailHash,
		"password_hash": admin.PasswordHash, "first_name": admin.FirstName, "last_name": admin.LastName,
		"role": admin.Role, "created_at": admin.CreatedAt,
	})
	return nil
}

// sendAdmin runs the batch as one transaction.
func sendAdmin(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) error {
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("insert tenant admin: %w", err)
	}
	return nil
}

// DeleteAdmin removes an admin. Idempotent. There is none to remove if the table is missing, or if the database is a
// copy of a template whose tables don't belong to the tenant's role yet.
func DeleteAdmin(ctx context.Context, conn *pgx.Conn, adminID string) error {
	_, err := conn.Exec(ctx, deleteAdmin, adminID)
	if state := sqlstate.Of(err); state == sqlstate.UndefinedTable || state == sqlstate.InsufficientPrivilege {
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
