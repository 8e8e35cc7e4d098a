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
	insertSession      = `INSERT INTO sessions (id, tenant_id, admin_id, role) VALUES ($1, $2, $3, $4)`
	insertRefreshToken = `INSERT INTO refresh_tokens (id, session_id, expires_at) VALUES ($1, $2, now() + interval '30 days')`

	// An old token that comes again within 10 seconds is taken: its answer may have been lost.
	selectRefreshToken = `
		SELECT s.id, s.tenant_id, s.admin_id, s.role,
			s.revoked_at IS NULL AND r.expires_at > now() AND t.status = 'active' AS good,
			coalesce(r.used_at < clock_timestamp() - interval '10 seconds', false) AS reused
		FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id JOIN tenants t ON t.id = s.tenant_id
		WHERE r.id = $1 FOR UPDATE OF s`
	selectTokenAdmin = `
		SELECT s.admin_id FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id WHERE r.id = $1`
	useRefreshToken = `
		UPDATE refresh_tokens SET used_at = coalesce(used_at, clock_timestamp()), updated_at = now() WHERE id = $1`
	revokeSession = `UPDATE sessions SET revoked_at = now(), updated_at = now() WHERE id = $1 AND revoked_at IS NULL`
	revokeByToken = `
		UPDATE sessions s SET revoked_at = now(), updated_at = now() FROM refresh_tokens r
		WHERE r.id = $1 AND s.id = r.session_id AND s.revoked_at IS NULL
		RETURNING s.id, s.tenant_id, s.admin_id, s.role`
	revokeOthers = `
		UPDATE sessions SET revoked_at = now(), updated_at = now()
		WHERE tenant_id = $1 AND admin_id = $2 AND id <> $3 AND revoked_at IS NULL`
)

// OpenSession begins a session of an admin, and returns it with its first refresh token.
func (r *Registry) OpenSession(ctx context.Context, tenantID, adminID, role string) (session Session, token string, err error) {
	session = Session{ID: ids.New(), TenantID: tenantID, AdminID: adminID, Role: role}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertSession, session.ID, tenantID, adminID, role); err != nil {
			return err
		}
		token, err = addRefreshToken(ctx, tx, session.ID)
		return err
	})
	if err != nil {
		return Session{}, "", fmt.Errorf("open session: %w", err)
	}
	return session, token, nil
}

// Refresh exchanges a refresh token for its successor. Using one again ends the whole session: somebody
// has a copy. Errors: ErrSession.
func (r *Registry) Refresh(ctx context.Context, token string) (session Session, next string, err error) {
	ended := false
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		var good, reused bool
		err := tx.QueryRow(ctx, selectRefreshToken, tokenID(token)).
			Scan(&session.ID, &session.TenantID, &session.AdminID, &session.Role, &good, &reused)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && !good:
			return ErrSession
		case err != nil:
			return err
		case reused:
			ended = true
			return endReusedSession(ctx, tx, session)
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
	if _, err := tx.Exec(ctx, revokeSession, session.ID); err != nil {
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
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
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

// EndSessions revokes an admin's sessions, but for the one of id except, and records why. Idempotent.
func (r *Registry) EndSessions(ctx context.Context, tenantID, adminID, except string, why EventKind) error {
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, revokeOthers, tenantID, adminID, except); err != nil {
			return err
		}
		return audit(ctx, tx, Event{Kind: why, TenantID: tenantID, AdminID: adminID})
	})
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

func addRefreshToken(ctx context.Context, tx pgx.Tx, sessionID string) (token string, err error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	token = base64.RawURLEncoding.EncodeToString(random)
	_, err = tx.Exec(ctx, insertRefreshToken, tokenID(token), sessionID)
	return token, err
}

// tokenID is under what a refresh token is kept: enough to know it again, not to use it.
func tokenID(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}
