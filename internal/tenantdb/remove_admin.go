package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"narthex/internal/registry"
)

// RemoveAdmin removes an admin of the church on both sides. The registry goes first, so that the admin can
// no longer log in. Idempotent. Errors: registry.ErrLastPrimary, ErrNoAdmin.
func (t *Tenant) RemoveAdmin(ctx context.Context, adminID string) error {
	if err := t.router.registry.RemoveAdmin(ctx, t.ID, adminID); err != nil {
		return err
	}
	rows, err := Exec(ctx, t, deleteAdmin, adminID)
	if err != nil {
		return fmt.Errorf("remove tenant admin: %w", err)
	}
	if rows == 0 {
		return ErrNoAdmin
	}
	return nil
}

// RemoveExpired removes the admins who haven't accepted their invitation in time. An admin who has chosen a password
// stays, even if the registry doesn't know it yet. Idempotent; several may run it at once.
// An error in one church doesn't stop the others.
func (r *Router) RemoveExpired(ctx context.Context) error {
	if err := r.registry.DeleteAcceptedInvitations(ctx); err != nil {
		return err
	}
	var first error
	failed := 0
	silent := map[string]bool{} // churches whose database doesn't answer
	after := registry.Invitation{TokenHash: []byte{}}
	for {
		expired, err := r.registry.ExpiredInvitations(ctx, after)
		if err != nil {
			return err
		}
		if len(expired) == 0 {
			break
		}
		after = expired[len(expired)-1]
		for _, invitation := range expired {
			if silent[invitation.TenantID] {
				continue
			}
			err := r.removeExpired(ctx, invitation)
			if err == nil || isNotServed(err) {
				continue
			}
			silent[invitation.TenantID] = errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDown)
			failed++
			first = cmp.Or(first, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("remove expired invitations: %d failed, the first because: %w", failed, first)
	}
	return nil
}

// isNotServed reports whether an error says why requests to the church are currently refused.
func isNotServed(err error) bool {
	return errors.Is(err, ErrInactive) || errors.Is(err, ErrUnknown) ||
		errors.Is(err, ErrSchemaAhead) || errors.Is(err, ErrSchemaBehind)
}

// removeLimit bounds the removal of one expired invitation.
const removeLimit = 5 * time.Second

// removeExpired lets the church's own database decide: an admin either gets a password there or is deleted.
func (r *Router) removeExpired(ctx context.Context, invitation registry.Invitation) error {
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	tenant, err := r.Acquire(ctx, invitation.TenantID)
	if err != nil {
		return err
	}
	defer tenant.Release()
	admin, err := tenant.Admin(ctx, invitation.AdminID)
	switch {
	case errors.Is(err, ErrNoAdmin):
		return r.registry.RemoveInvited(ctx, invitation)
	case err != nil:
		return err // they may have a password
	case admin.PasswordHash != "":
		return tenant.AlignPasswordHash(ctx, admin.ID, admin.PasswordHash)
	}
	rows, err := Exec(ctx, tenant, deleteInvited, invitation.AdminID)
	if err != nil {
		return fmt.Errorf("remove invited tenant admin: %w", err)
	}
	if rows == 0 { // it was accepted in the meantime
		return nil
	}
	return r.registry.RemoveInvited(ctx, invitation)
}
