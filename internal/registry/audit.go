package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
)

// EventKind says what an entry of the audit log is about.
type EventKind string

// What the audit log records. Changes of a tenant's status are recorded by the database itself.
const (
	EventSignedUp            EventKind = "signed_up"
	EventSignupFailed        EventKind = "signup_failed"
	EventLoggedIn            EventKind = "logged_in"
	EventLoginFailed         EventKind = "login_failed"
	EventLoggedOut           EventKind = "logged_out"
	EventLoggedOutEverywhere EventKind = "logged_out_everywhere"
	EventPasswordChanged     EventKind = "password_changed"
	EventTokenReused         EventKind = "token_reused"
	EventKeysResealed        EventKind = "keys_resealed"
	EventAdminInvited        EventKind = "admin_invited"
	EventInvitationFailed    EventKind = "invitation_failed"
	EventAdminJoined         EventKind = "admin_joined"
	EventAdminRemoved        EventKind = "admin_removed"
)

// Event is an entry of the audit log. It holds no personal data in clear; empty fields are unknown.
type Event struct {
	Kind      EventKind
	TenantID  string
	AdminID   string
	EmailHash string // blind index
	Detail    string // nothing personal
}

const insertEvent = `
	INSERT INTO audit_log (event, tenant_id, admin_id, email_hash, detail)
	VALUES (@event, nullif(@tenant_id, ''), nullif(@admin_id, ''), nullif(@email_hash, ''), nullif(@detail, ''))`

// Audit adds an entry to the audit log.
func (r *Registry) Audit(ctx context.Context, event Event) error { return audit(ctx, r.pool, event) }

func audit(ctx context.Context, db postgres.DB, event Event) error {
	_, err := db.Exec(ctx, insertEvent, pgx.NamedArgs{
		"event": string(event.Kind), "tenant_id": event.TenantID, "admin_id": event.AdminID, "email_hash": event.EmailHash, "detail": event.Detail,
	})
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
