package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"narthex/internal/registry"
)

// RemoveAdmin removes an admin of the church on both sides; the registry's goes first, so that nobody can
// log in any more. Idempotent. Errors: registry.ErrLastPrimary, ErrNoAdmin.
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

// RemoveExpired removes the admins who have not accepted their invitation in time. One who has, and was cut
// off half-way, stays. Idempotent; several may run it at once.
func (r *Router) RemoveExpired(ctx context.Context) error {
	expired, err := r.registry.ExpiredInvitations(ctx)
	if err != nil {
		return err
	}
	for _, invitation := range expired {
		err := r.removeExpired(ctx, invitation)
		if err != nil && !errors.Is(err, ErrNoAdmin) && !errors.Is(err, ErrInactive) && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrSchemaAhead) {
			return fmt.Errorf("remove expired invitation: %w", err)
		}
	}
	return nil
}

func (r *Router) removeExpired(ctx context.Context, invitation registry.Invitation) error {
	tenant, err := r.Acquire(ctx, invitation.TenantID)
	if err != nil {
		return err
	}
	defer tenant.Release()
	admin, err := tenant.Admin(ctx, invitation.AdminID)
	if err == nil && admin.PasswordHash != "" {
		return r.registry.ConcludeInvitation(ctx, invitation, admin.PasswordHash)
	}
	return tenant.RemoveAdmin(ctx, invitation.AdminID)
}
