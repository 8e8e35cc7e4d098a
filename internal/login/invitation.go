package login

import (
	"context"
	"errors"

	"narthex/internal/audit"
	"narthex/internal/registry"
	"narthex/internal/tenantdb"
)

// ByInvitation sets the password of the admin whom an invitation's token invites, or compares it if it is set.
// Errors: ErrRefused, also if the invitation is unknown or has expired; password.ErrBusy.
func (s *Service) ByInvitation(ctx context.Context, token, password string) (Login, error) {
	invitee, err := s.Registry.Invitee(ctx, token)
	if errors.Is(err, registry.ErrNotFound) {
		return Login{}, ErrRefused
	}
	if err != nil {
		return Login{}, err
	}
	l, err := s.accept(ctx, invitee, password)
	if errors.Is(err, tenantdb.ErrNoAdmin) {
		err = ErrRefused
	}
	if err != nil {
		return Login{Church: tenantdb.Church{ID: invitee.TenantID}}, err
	}
	return l, nil
}

func (s *Service) accept(ctx context.Context, invitee registry.Invitee, password string) (Login, error) {
	tenant, err := s.Router.Acquire(ctx, invitee.TenantID)
	if errors.Is(err, tenantdb.ErrInactive) && invitee.Accepted {
		return Login{}, ErrRefused // as with an email
	}
	if err != nil {
		return Login{}, err
	}
	defer tenant.Release()
	admin, err := tenant.Admin(ctx, invitee.AdminID)
	if err != nil {
		return Login{}, err
	}
	var event audit.Kind // joining is recorded already
	if admin.PasswordHash == "" {
		admin, err = s.join(ctx, tenant, admin, password)
	} else {
		event, err = audit.LoggedIn, s.Prove(ctx, tenant.ID, admin, password)
	}
	admin.Role = invitee.Role // tokens state the registry's role
	return Login{Admin: admin, Church: tenant.Church, event: event}, err
}

// join sets an invited admin's password. If another request has set one first, the passwords must be equal.
func (s *Service) join(ctx context.Context, tenant *tenantdb.Tenant, admin tenantdb.Admin, password string) (tenantdb.Admin, error) {
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return admin, err
	}
	err = tenant.AcceptInvitation(ctx, admin.ID, string(hash))
	if err == nil {
		admin.PasswordHash = string(hash)
		return admin, nil
	}
	if !errors.Is(err, tenantdb.ErrNoAdmin) {
		return admin, err
	}
	admin, err = tenant.Admin(ctx, admin.ID)
	if err != nil {
		return admin, err
	}
	return admin, s.Prove(ctx, tenant.ID, admin, password)
}
