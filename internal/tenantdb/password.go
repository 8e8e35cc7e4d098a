package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"narthex/internal/registry"
)

// An admin's password hash is stored in two places. The church's own database decides which password is right. The
// registry opens a session only for the hash that it has, and counts an admin once it has a hash. A church's database
// may hang, so nothing here waits for it while holding a connection to the registry.

const updatePasswordHash = `UPDATE admins SET password_hash = $3, updated_at = now() WHERE id = $1 AND password_hash = $2`

// AcceptInvitation sets the password hash of an admin who has none. The church's database goes first: if the registry
// doesn't follow, AlignPasswordHash repairs that at the next login or when the invitation expires.
// Errors: ErrNoAdmin, also if they have a password.
func (t *Tenant) AcceptInvitation(ctx context.Context, adminID, hash string) error {
	if err := replaceHash(ctx, t, adminID, "", hash); err != nil {
		return err
	}
	return t.AlignPasswordHash(ctx, adminID, hash)
}

// ChangePassword replaces an admin's password hash, and revokes their sessions except the one with id except. If only the
// registry has committed, the old password stays valid until the change is retried, but the sessions are revoked.
// Errors: ErrNoAdmin, also if the hash is not old.
func (t *Tenant) ChangePassword(ctx context.Context, adminID, old, hash, except string) error {
	return t.followed(ctx, adminID, old, hash, func() error {
		return t.router.registry.ChangePassword(ctx, t.ID, adminID, hash, except)
	})
}

// AlignPasswordHash copies an admin's hash from here to the registry, after a change that has reached only one of
// them. Idempotent. Errors: ErrNoAdmin, also if the admin has another hash.
func (t *Tenant) AlignPasswordHash(ctx context.Context, adminID, hash string) error {
	return t.followed(ctx, adminID, hash, hash, func() error {
		return t.router.registry.AlignPasswordHash(ctx, t.ID, adminID, hash)
	})
}

// errNotFollowed stands for the registry's error, which must not be mistaken for an error of the church's database.
var errNotFollowed = errors.New("the registry was not updated")

// followed replaces a hash, and commits if follow succeeds. The admin's row is locked until then, so changes of an admin's
// password reach the registry in the same order. Errors: ErrNoAdmin, follow's.
func (t *Tenant) followed(ctx context.Context, adminID, old, hash string, follow func() error) error {
	var failed error
	err := t.InTx(ctx, func(tx *Tx) error {
		failed = nil
		if err := replaceHash(ctx, tx, adminID, old, hash); err != nil {
			return err
		}
		failed = follow()
		if failed != nil {
			return errNotFollowed
		}
		return nil
	})
	switch {
	case errors.Is(failed, registry.ErrNotFound): // removed in the meantime
		return ErrNoAdmin
	case failed != nil:
		return failed
	case err != nil:
		return fmt.Errorf("replace password hash: %w", err)
	}
	return nil
}

func replaceHash(ctx context.Context, db DB, adminID, old, hash string) error {
	rows, err := Exec(ctx, db, updatePasswordHash, adminID, old, hash)
	if err != nil {
		return fmt.Errorf("update password hash: %w", err)
	}
	if rows == 0 {
		return ErrNoAdmin
	}
	return nil
}
