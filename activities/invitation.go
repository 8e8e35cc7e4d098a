package activities

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"narthex/internal/invitation"
	"narthex/internal/registry"
	"narthex/internal/tenantdb"
)

// This file has all steps of a co-admin's invitation: each is a thin wrapper around what signup steps do.

func invitationOwner(in invitation.StepInput) registry.Owner {
	return registry.Owner{RunID: in.InvitationID, TenantID: in.TenantID, InviteeID: in.AdminID}
}

// invited opens the sealed part of the input.
func (a *Activities) invited(in invitation.StepInput) (registry.Admin, error) {
	who, err := invitation.OpenInvitee(a.Keys, in.Input)
	if err != nil {
		return registry.Admin{}, err
	}
	emailHash, err := a.Keys.EmailIndex(who.Email) // not in.EmailHash: the index key may have been replaced since
	if err != nil {
		return registry.Admin{}, err
	}
	return registry.Admin{ID: in.AdminID, Email: who.Email, EmailHash: emailHash, FirstName: who.FirstName, LastName: who.LastName,
		Role: who.Role, CreatedAt: in.InvitedAt}, nil
}

// CreateInvitedAdmin enters the admin in the registry, without a password.
func (a *Activities) CreateInvitedAdmin(ctx context.Context, in invitation.StepInput) error {
	admin, err := a.invited(in)
	if err == nil {
		err = a.Registry.InsertAdmin(ctx, invitationOwner(in), admin)
	}
	return forward("create invited admin", err)
}

// DeleteInvitedAdmin removes the admin from the registry.
func (a *Activities) DeleteInvitedAdmin(ctx context.Context, in invitation.StepInput) error {
	return undo("delete invited admin", a.Registry.DeleteAdmin(ctx, invitationOwner(in)))
}

// IndexInvitedEmail indexes the email, so that it leads to the tenant.
func (a *Activities) IndexInvitedEmail(ctx context.Context, in invitation.StepInput) error {
	admin, err := a.invited(in)
	if err == nil {
		err = a.Registry.InsertEmailEntry(ctx, invitationOwner(in), registry.EmailEntry{
			Email: admin.Email, EmailHash: admin.EmailHash, AdminID: admin.ID, CreatedAt: admin.CreatedAt,
		})
	}
	return forward("index invited email", err)
}

// UnindexInvitedEmail frees the email.
func (a *Activities) UnindexInvitedEmail(ctx context.Context, in invitation.StepInput) error {
	return undo("unindex invited email", a.Registry.DeleteEmailEntry(ctx, invitationOwner(in)))
}

// CreateInvitedTenantAdmin adds the admin, under the same id, to the tenant's own database.
func (a *Activities) CreateInvitedTenantAdmin(ctx context.Context, in invitation.StepInput) error {
	admin, err := a.invited(in)
	if err == nil {
		err = a.Registry.Permit(ctx, invitationOwner(in))
	}
	if err == nil {
		err = a.Registry.PermitInvitee(ctx, invitationOwner(in))
	}
	if err == nil {
		err = a.inTenant(ctx, in.TenantID, func(conn *pgx.Conn) error {
			return tenantdb.InsertInvitedAdmin(ctx, conn, a.Keys, in.TenantID, admin)
		})
	}
	return forward("create invited tenant admin", err)
}

// DeleteInvitedTenantAdmin removes the admin from the tenant's own database. That row does not say which invitation
// made it, but the registry's row does: a replay makes the same admin, and begins with the registry's row.
func (a *Activities) DeleteInvitedTenantAdmin(ctx context.Context, in invitation.StepInput) error {
	err := a.Registry.Tombstone(ctx, invitationOwner(in))
	if err == nil {
		err = a.Registry.PermitInvitee(ctx, invitationOwner(in))
	}
	if errors.Is(err, registry.ErrNotOwned) {
		return nil
	}
	if err == nil {
		err = a.inTenant(ctx, in.TenantID, func(conn *pgx.Conn) error {
			return tenantdb.DeleteAdmin(ctx, conn, in.AdminID)
		})
	}
	return undo("delete invited tenant admin", err)
}

// inTenant runs do in a tenant's database.
func (a *Activities) inTenant(ctx context.Context, tenantID string, do func(*pgx.Conn) error) error {
	conn, err := tenantdb.Connect(ctx, a.Registry, tenantID)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

// OfferInvitation makes the token valid: the commit point of the invitation.
func (a *Activities) OfferInvitation(ctx context.Context, in invitation.StepInput) error {
	return forward("offer invitation", a.Registry.InsertInvitation(ctx, invitationOwner(in), registry.Invitation{
		TokenHash: in.TokenHash, TenantID: in.TenantID, AdminID: in.AdminID, ExpiresAt: in.EndsAt(a.Now()),
	}))
}

// IsInvitationOffered reports whether this invitation has made its token valid. If not, it never will.
func (a *Activities) IsInvitationOffered(ctx context.Context, in invitation.StepInput) (bool, error) {
	err := a.Registry.Tombstone(ctx, invitationOwner(in))
	return errors.Is(err, registry.ErrCommitted), undo("check whether the invitation was offered", err)
}
