package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
)

// ErrSession means that a refresh token is unknown, expired, revoked or used up. It does not say which.
var ErrSession = errors.New("the session has ended")

// Session is one login. It lives on from refresh token to refresh token, each good for 30 days and for
// one exchange, until one is used twice or the session is revoked.
type Session struct {
	ID       string
	TenantID string
	AdminID  string
	Role     string
}

const (
	// FOR SHARE waits for a change of the password that is under way, and looks at the hash again.
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
	insertRefreshToken = `INSERT INTO refresh_tokens (id, session_id, expires_at, created_at) VALUES ($1, $2, clock_timestamp() + interval '30 days', clock_timestamp())`

	// An old token that comes again within 10 seconds is taken: its answer may have been lost. Not so where
	// its successor was used, which shows that it was not.
	selectRefreshToken = `
		SELECT s.id, s.tenant_id, s.admin_id, s.role,
			s.revoked_at IS NULL AND r.expires_at > now() AND t.status = 'active' AS good,
			r.used_at IS NOT NULL AND (r.used_at < clock_timestamp() - interval '10 seconds' OR EXISTS (
				SELECT FROM refresh_tokens n WHERE n.session_id = s.id AND n.created_at > r.created_at AND n.used_at IS NOT NULL)) AS reused
		FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id JOIN tenants t ON t.id = s.tenant_id
		WHERE r.id = $1 FOR UPDATE OF s`
	selectTokenAdmin = `
		SELECT s.admin_id FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id WHERE r.id = $1`
	useRefreshToken = `
		UPDATE refresh_tokens SET used_at = coalesce(used_at, clock_timestamp()), updated_at = now() WHERE id = $1`
	// Of two successors of one token, the second to be used is a copy's.
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
)

// NewSession is a session to open, of an admin whose password was found to be of PasswordHash.
type NewSession struct {
	TenantID     string
	AdminID      string
	Role         string
	PasswordHash string
	Event        EventKind // for the audit log; empty for one that has its entry already
}

// OpenSession begins a session, and returns it with its first refresh token. Errors: ErrSession where the
// password is another by now.
func (r *Registry) OpenSession(ctx context.Context, s NewSession) (session Session, token string, err error) {
	session = Session{ID: ids.New(), TenantID: s.TenantID, AdminID: s.AdminID, Role: s.Role}
	if token, err = newRefreshToken(); err != nil {
		return Session{}, "", err
	}
	opened, err := r.pool.Exec(ctx, openSession, pgx.NamedArgs{
		"id": session.ID, "tenant_id": s.TenantID, "admin_id": s.AdminID, "role": s.Role, "password_hash": s.PasswordHash,
		"token": tokenID(token), "event": string(s.Event),
	})
	if err == nil && opened.RowsAffected() == 0 {
		err = ErrSession
	}
	if err != nil {
		return Session{}, "", fmt.Errorf("open session: %w", err)
	}
	return session, token, nil
}

// Refresh exchanges a refresh token for its successor. Using one again ends the whole session: somebody
// has a copy. Errors: ErrSession.
func (r *Registry) Refresh(ctx context.Context, token string) (session Session, next string, err error) {
	var ended bool
	err = r.pool.InTx(ctx, func(tx pgx.Tx) error {
		ended = false
		var good, reused bool
		err := tx.QueryRow(ctx, selectRefreshToken, tokenID(token)).
			Scan(&session.ID, &session.TenantID, &session.AdminID, &session.Role, &good, &reused)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrSession
		case err != nil:
			return err
		case reused:
			ended = true
			return endReusedSession(ctx, tx, session)
		case !good:
			return ErrSession
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
		err = ErrSession
	}
	if err != nil {
		return Session{}, "", fmt.Errorf("refresh session: %w", err)
	}
	return session, next, nil
}

func endReusedSession(ctx context.Context, tx pgx.Tx, session Session) error {
	tag, err := tx.Exec(ctx, revokeSession, session.ID)
	if err != nil || tag.RowsAffected() == 0 { // it had ended before
		return err
	}
	return audit(ctx, tx, Event{Kind: EventTokenReused, TenantID: session.TenantID, AdminID: session.AdminID})
}

// AdminOf returns whose a refresh token is, good or not, or "" for one that is unknown.
func (r *Registry) AdminOf(ctx context.Context, token string) (adminID string, err error) {
	err = r.pool.QueryRow(ctx, selectTokenAdmin, tokenID(token)).Scan(&adminID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up refresh token: %w", err)
	}
	return adminID, nil
}

// EndSession revokes the session of a refresh token. Idempotent: an unknown token is no error.
func (r *Registry) EndSession(ctx context.Context, token string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		var session Session
		err := tx.QueryRow(ctx, revokeByToken, tokenID(token)).Scan(&session.ID, &session.TenantID, &session.AdminID, &session.Role)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, Event{Kind: EventLoggedOut, TenantID: session.TenantID, AdminID: session.AdminID})
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndSessions revokes all of an admin's sessions. Idempotent.
func (r *Registry) EndSessions(ctx context.Context, tenantID, adminID string) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, revokeOthers, tenantID, adminID, "")
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return audit(ctx, tx, Event{Kind: EventLoggedOutEverywhere, TenantID: tenantID, AdminID: adminID})
	})
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

// ChangePassword replaces the hash of an admin's password and revokes their sessions, but for the one of id
// except. change does the same in the tenant's own database, while no session can be opened. Errors:
// ErrNotFound, change's: then nothing is changed here.
func (r *Registry) ChangePassword(ctx context.Context, tenantID, adminID, passwordHash, except string, change func() error) error {
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, updatePasswordHash, adminID, tenantID, passwordHash)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, revokeOthers, tenantID, adminID, except); err != nil {
			return err
		}
		if err := audit(ctx, tx, Event{Kind: EventPasswordChanged, TenantID: tenantID, AdminID: adminID}); err != nil {
			return err
		}
		return change()
	})
	if err != nil {
		return fmt.Errorf("change password: %w", err)
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
	if token, err = newRefreshToken(); err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, insertRefreshToken, tokenID(token), sessionID)
	return token, err
}

// tokenID is under what a refresh token is kept: enough to know it again, not to use it.
func tokenID(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}
