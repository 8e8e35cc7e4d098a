// Package audit writes the audit log, which records in the registry database who did what. Entries are never changed
// or removed.
package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
)

// Kind is the kind of an entry.
type Kind string

// The kinds. The database itself records changes of a tenant's status.
const (
	SignedUp            Kind = "signed_up"
	SignupFailed        Kind = "signup_failed"
	LoggedIn            Kind = "logged_in"
	LoginFailed         Kind = "login_failed"
	LoggedOut           Kind = "logged_out"
	LoggedOutEverywhere Kind = "logged_out_everywhere"
	PasswordChanged     Kind = "password_changed"
	TokenReused         Kind = "token_reused"
	KeysResealed        Kind = "keys_resealed"
	AdminInvited        Kind = "admin_invited"
	InvitationFailed    Kind = "invitation_failed"
	AdminJoined         Kind = "admin_joined"
	AdminRemoved        Kind = "admin_removed"
)

// Event is an entry of the audit log. It holds no personal data in clear; empty fields are unknown.
type Event struct {
	Kind      Kind
	TenantID  string
	AdminID   string
	EmailHash string // blind index
	Detail    string // no personal data
}

const insertEvent = `
	INSERT INTO audit_log (event, tenant_id, admin_id, email_hash, detail)
	VALUES (@event, nullif(@tenant_id, ''), nullif(@admin_id, ''), nullif(@email_hash, ''), nullif(@detail, ''))`

// Write adds an entry. Call it in the transaction that makes the recorded change.
func Write(ctx context.Context, db postgres.DB, event Event) error {
	_, err := db.Exec(ctx, insertEvent, pgx.NamedArgs{
		"event": string(event.Kind), "tenant_id": event.TenantID, "admin_id": event.AdminID,
		"email_hash": event.EmailHash, "detail": event.Detail,
	})
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
