package activities

import (
	"context"
	"errors"

	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
)

// RemoveOrphan takes the action that is due for an orphan, unless it no longer is one, and returns it. Idempotent.
func (a *Activities) RemoveOrphan(ctx context.Context, o orphan.Orphan) (orphan.Action, error) {
	due := o.Due(a.Now())
	err := a.removeOrphan(ctx, o, due)
	for _, owned := range []error{errSpared, registry.ErrCommitted, tenantserver.ErrNotOwned, tenantserver.ErrInUse} {
		if errors.Is(err, owned) {
			return orphan.Spare, nil
		}
	}
	return due, undo(string(due)+" orphan", err)
}

var errSpared = errors.New("it is no longer an orphan, or it is kept")

func (a *Activities) removeOrphan(ctx context.Context, o orphan.Orphan, due orphan.Action) error {
	switch {
	case due == orphan.Rename || due == orphan.Drop:
		return a.removeDatabase(ctx, o, due)
	case due != orphan.Delete:
		return errSpared
	}
	if err := a.secondLook(ctx, o); err != nil {
		return err
	}
	remove := func() error { return a.removeEntry(ctx, o) }
	if o.Kind == orphan.Rows {
		remove = func() error {
			return a.Registry.DeleteRows(ctx, registry.Owner{RunID: o.SignupID, TenantID: o.TenantID})
		}
	}
	if err := remove(); err != nil {
		return err
	}
	return a.Registry.ForgetOrphan(ctx, o)
}

// removeEntry removes an entry of the email index without an admin, or all that a terminated invitation has made.
func (a *Activities) removeEntry(ctx context.Context, o orphan.Orphan) error {
	in := invitation.StepInput{InvitationID: o.SignupID, Input: invitation.Input{TenantID: o.TenantID, AdminID: o.ID}}
	owner := invitationOwner(in)
	invited, err := a.Registry.HasAdmin(ctx, owner)
	if err != nil {
		return err
	}
	if !invited {
		return a.Registry.DeleteEntry(ctx, o.ID)
	}
	if err := a.Registry.Tombstone(ctx, owner); err != nil { // ErrCommitted: it has been offered in the meantime
		return err
	}
	for _, remove := range []func(context.Context, invitation.StepInput) error{
		a.DeleteInvitedTenantAdmin, a.UnindexInvitedEmail, a.DeleteInvitedAdmin,
	} {
		if err := remove(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

// removeDatabase renames a database or drops it. Before that, under the tenant's lock, it checks the orphan again and
// writes a tombstone, so that its signup makes nothing more.
func (a *Activities) removeDatabase(ctx context.Context, o orphan.Orphan, due orphan.Action) error {
	server, database := a.serverNamed(o.Server), tenantserver.Database{TenantID: o.TenantID, SignupID: o.SignupID}
	if server == nil {
		return errSpared
	}
	permit := func(ctx context.Context) error {
		if err := a.secondLook(ctx, o); err != nil {
			return err
		}
		return a.Registry.TombstoneOrphan(ctx, registry.Owner{RunID: o.SignupID, TenantID: o.TenantID})
	}
	if due == orphan.Rename {
		if err := server.Rename(ctx, database, permit); err != nil {
			return err
		}
		return a.Registry.OrphanRenamed(ctx, o, a.Now())
	}
	if err := server.DropRenamed(ctx, database, permit); err != nil {
		return err
	}
	return a.Registry.ForgetOrphan(ctx, o)
}

// secondLook returns errSpared if, since the orphan was found, an operator has said to keep it or a saga has started.
func (a *Activities) secondLook(ctx context.Context, o orphan.Orphan) error {
	kept, err := a.Registry.OrphanKept(ctx, o)
	if err != nil {
		return err
	}
	running, err := a.isRunning(ctx, o)
	if err != nil {
		return err
	}
	if kept || running {
		return errSpared
	}
	return nil
}
