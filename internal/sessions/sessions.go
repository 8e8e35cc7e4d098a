// Package sessions records in the registry database who is logged in: sessions and their refresh tokens. All processes
// share them. Passwords are checked, and access tokens made, elsewhere.
package sessions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/ids"
	"narthex/internal/postgres"
)

// ErrEnded means that a refresh token is unknown, expired, revoked or used up. It does not say which.
var ErrEnded = errors.New("the session has ended")

// Session is one login. It continues from refresh token to refresh token, each valid for 30 days and for one exchange,
// until a token is used twice or the session is revoked.
type Session struct {
	ID       string
	TenantID string
	AdminID  string
	Role     string
}

const (
	// FOR SHARE waits for a password change in progress, and then checks the hash again.
	openSession = `
		WITH proven AS (SELECT FROM admins WHERE id = @admin_id AND tenant_id = @tenant_id AND password_hash = @password_hash FOR SHARE),
		opened AS (
			INSERT INTO sessions (id, tenant_id, admin_id, role)
			SELECT @id, @tenant_id, @admin_id, @role FROM proven RETURNING id),
		token AS (
			INSERT INTO refresh_tokens (id, session_id, expires_at, created_at)
			SELECT @token::bytea, id, clock_timestamp() + interval '30 days', clock_timestamp() FROM opened),
		logged AS (
			INSERT INTO audit_log (event, tenant_id, admin_id)
			SELECT @event, @tenant_id, @admin_id FROM opened WHERE @event <> '')
		SELECT FROM opened`
	insertRefreshToken = `
		INSERT INTO refresh_tokens (id, session_id, expires_at, created_at)
		VALUES ($1, $2, clock_timestamp() + interval '30 days', clock_timestamp())`

	// A used token that is sent again within 10 seconds is accepted, because the answer may have been lost. If its successor
	// has been used, the answer did arrive.
	selectRefreshToken = `
		SELECT s.id, s.tenant_id, s.admin_id, s.role,
			s.revoked_at IS NULL AND r.expires_at > now() AND t.status = 'active' AS good,
			r.used_at IS NOT NULL AND (r.used_at < clock_timestamp() - interval '10 seconds' OR EXISTS (
				SELECT FROM refresh_tokens n WHERE n.session_id = s.id AND n.created_at > r.created_at AND n.used_at IS NOT NULL)) AS reused
		FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id JOIN tenants t ON t.id = s.tenant_id
		WHERE r.id = $1 FOR UPDATE OF s`
	selectTokenAdmin = `SELECT s.admin_id FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id WHERE r.id = $1`
	useRefreshToken  = `UPDATE refresh_tokens SET used_at = coalesce(used_at, clock_timestamp()), updated_at = now() WHERE id = $1`
	// If both successors of a token are used, the second use comes from a copy.
	supersedeSiblings = `
		UPDATE refresh_tokens SET used_at = clock_timestamp() - interval '1 minute', updated_at = now()
		WHERE session_id = $2 AND id <> $1 AND used_at IS NULL AND (SELECT used_at IS NULL FROM refresh_tokens WHERE id = $1)`
	revokeSession = `UPDATE sessions SET revoked_at = now(), updated_at = now() WHERE id = $1 AND revoked_at IS NULL`
	revokeByToken = `
		UPDATE sessions s SET revoked_at = now(), updated_at = now() FROM refresh_tokens r
		WHERE r.id = $1 AND s.id = r.session_id AND s.revoked_at IS NULL
		RETURNING s.id, s.tenant_id, s.admin_id, s.role`
	revokeOthers = `
		UPDATE sessions SET revoked_at = now(), updated_at = now()
		WHERE tenant_id = $1 AND admin_id = $2 AND id <> $3 AND revoked_at IS NULL`
	deleteExpired = `
		DELETE FROM refresh_tokens WHERE expires_at < now();
		DELETE FROM sessions s WHERE created_at < now() - interval '1 day'
			AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id)`
)

// Store keeps sessions. It is safe for concurrent use.
type Store struct{ db *postgres.Pool }

// New returns a store in the registry database.
func New(db *postgres.Pool) *Store { return &Store{db} }

// Login is a session to open for an admin whose password matched PasswordHash.
type Login struct {
	TenantID     string
	AdminID      string
	Role         string
	PasswordHash string
	Event        audit.Kind // for the audit log; empty if it is recorded already
}

// Open begins a session, and returns it with its first refresh token. Errors: ErrEnded, if the password has changed since.
func (s *Store) Open(ctx context.Context, login Login) (session Session, token string, err error) {
	session = Session{ID: ids.New(), TenantID: login.TenantID, AdminID: login.AdminID, Role: login.Role}
	token, err = newRefreshToken()
	if err != nil {
		return Session{}, "", err
	}
	opened, err := s.db.Exec(ctx, openSession, pgx.NamedArgs{
		"id": session.ID, "tenant_id": login.TenantID, "admin_id": login.AdminID, "role": login.Role, "password_hash": login.PasswordHash,
		"token": tokenID(token), "event": string(login.Event),
	})
	if err == nil && opened.RowsAffected() == 0 {
		err = ErrEnded
	}
	if err != nil {
		return Session{}, "", fmt.Errorf("open session: %w", err)
	}
	return session, token, nil
}

// Refresh exchanges a refresh token for its successor. A second use of a token ends the whole session, because somebody
// has a copy. Errors: ErrEnded.
func (s *Store) Refresh(ctx context.Context, token string) (session Session, next string, err error) {
	var ended bool
	err = s.db.InTx(ctx, func(tx pgx.Tx) error {
		ended = false
		var good, reused bool
		err := tx.QueryRow(ctx, selectRefreshToken, tokenID(token)).
			Scan(&session.ID, &session.TenantID, &session.AdminID, &session.Role, &good, &reused)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrEnded
		case err != nil:
			return err
		case reused:
			ended = true
			return endReused(ctx, tx, session)
		case !good:
			return ErrEnded
		}
		if _, err := tx.Exec(ctx, supersedeSiblings, tokenID(token), session.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, useRefreshToken, tokenID(token)); err != nil {
			return err
		}
		next, err = addRefreshToken(ctx, tx, session.ID)
		return err
	})
	if err == nil && ended {
		err = ErrEnded
	}
	if err != nil {
		return Session{}, "", fmt.Errorf("refresh session: %w", err)
	}
	return session, next, nil
}

func endReused(ctx context.Context, tx pgx.Tx, session Session) error {
	tag, err := tx.Exec(ctx, revokeSession, session.ID)
	if err != nil || tag.RowsAffected() == 0 { // it had ended already
		return err
	}
	return audit.Write(ctx, tx, audit.Event{Kind: audit.TokenReused, TenantID: session.TenantID, AdminID: session.AdminID})
}

// AdminOf returns the admin of a refresh token, valid or not, or "" if the token is unknown.
func (s *Store) AdminOf(ctx context.Context, token string) (adminID string, err error) {
	err = s.db.QueryRow(ctx, selectTokenAdmin, tokenID(token)).Scan(&adminID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up refresh token: %w", err)
	}
	return adminID, nil
}

// End revokes the session of a refresh token. Idempotent: an unknown token is no error.
func (s *Store) End(ctx context.Context, token string) error {
	err := s.db.InTx(ctx, func(tx pgx.Tx) error {
		var session Session
		err := tx.QueryRow(ctx, revokeByToken, tokenID(token)).Scan(&session.ID, &session.TenantID, &session.AdminID, &session.Role)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Event{Kind: audit.LoggedOut, TenantID: session.TenantID, AdminID: session.AdminID})
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndAll revokes all of an admin's sessions. Idempotent.
func (s *Store) EndAll(ctx context.Context, tenantID, adminID string) error {
	err := s.db.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, revokeOthers, tenantID, adminID, "")
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return audit.Write(ctx, tx, audit.Event{Kind: audit.LoggedOutEverywhere, TenantID: tenantID, AdminID: adminID})
	})
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

// Revoke revokes an admin's sessions, except the one with id except. Call it in the transaction that changes the admin.
func Revoke(ctx context.Context, db postgres.DB, tenantID, adminID, except string) error {
	if _, err := db.Exec(ctx, revokeOthers, tenantID, adminID, except); err != nil {
		return fmt.Errorf("revoke sessions: %w", err)
	}
	return nil
}

// RecordRefusal records that a login was refused, and what is known about who tried.
func (s *Store) RecordRefusal(ctx context.Context, who audit.Event) error {
	who.Kind = audit.LoginFailed
	return audit.Write(ctx, s.db, who)
}

// Tidy removes what has expired. Idempotent; several may run it at once.
func (s *Store) Tidy(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, deleteExpired); err != nil {
		return fmt.Errorf("tidy sessions: %w", err)
	}
	return nil
}

func newRefreshToken() (string, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make refresh token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(random), nil
}

func addRefreshToken(ctx context.Context, tx pgx.Tx, sessionID string) (token string, err error) {
	token, err = newRefreshToken()
	if err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, insertRefreshToken, tokenID(token), sessionID)
	return token, err
}

// tokenID returns the hash under which a refresh token is stored: enough to recognise it, but not to use it.
func tokenID(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}
