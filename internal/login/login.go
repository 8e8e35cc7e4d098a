// Package login finds out who logs in, by an email or by an invitation, and opens their session. The registry says which
// church they belong to, and that church's database has their password. It knows no HTTP, and makes no access tokens.
package login

import (
	"context"
	"errors"

	"narthex/internal/audit"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
)

// ErrRefused means that nobody is logged in. It does not say why.
var ErrRefused = errors.New("the login was refused")

// Service logs admins in. It is safe for concurrent use.
type Service struct {
	Registry  *registry.Registry
	Router    *tenantdb.Router
	Sessions  *sessions.Store
	Passwords *password.Hasher
}

// Login is an admin whose password was right, and their church. With an error, at most the church's id is known.
type Login struct {
	Admin  tenantdb.Admin
	Church tenantdb.Church
	event  audit.Kind // that the audit log records with the session; empty if one is recorded already
}

// ByPassword finds the email's tenant through the index, and compares the password there. It always compares exactly
// once. It records no refusal. Errors: ErrRefused, also if the tenant is not active; password.ErrBusy.
func (s *Service) ByPassword(ctx context.Context, email, password string) (Login, error) {
	tenant, found, err := s.find(ctx, email)
	defer tenant.Release()
	unproven := Login{Church: tenantdb.Church{ID: found.Church.ID}}
	if err != nil && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, tenantdb.ErrUnknown) &&
		!errors.Is(err, tenantdb.ErrNoAdmin) && !errors.Is(err, tenantdb.ErrInactive) {
		return unproven, err
	}
	same, err := s.Passwords.Matches(ctx, found.Admin.PasswordHash, password)
	if err != nil {
		return unproven, err
	}
	if !same {
		return unproven, ErrRefused
	}
	if err := tenant.TouchLogin(ctx, found.Admin.ID); err != nil {
		return unproven, err
	}
	return found, nil
}

// find returns the admin that an email belongs to. The tenant must be released, and is nil with an error.
func (s *Service) find(ctx context.Context, email string) (*tenantdb.Tenant, Login, error) {
	entry, err := s.Registry.ByEmail(ctx, email)
	if err != nil {
		return nil, Login{}, err
	}
	unproven := Login{Church: tenantdb.Church{ID: entry.TenantID}}
	tenant, err := s.Router.Acquire(ctx, entry.TenantID)
	if err != nil {
		return nil, unproven, err
	}
	admin, err := tenant.Admin(ctx, entry.AdminID)
	if err != nil {
		tenant.Release()
		return nil, unproven, err
	}
	admin.Role = entry.Role // tokens state the registry's role
	return tenant, Login{Admin: admin, Church: tenant.Church, event: audit.LoggedIn}, nil
}

// Open opens a session, unless the password has changed since it was compared. If a change has reached only one of
// registry and church, both get the church's hash first. Errors: ErrRefused.
func (s *Service) Open(ctx context.Context, l Login) (opened sessions.Session, refreshToken string, err error) {
	proven := sessions.Login{
		TenantID: l.Church.ID, AdminID: l.Admin.ID, Role: l.Admin.Role, PasswordHash: l.Admin.PasswordHash, Event: l.event,
	}
	opened, refreshToken, err = s.Sessions.Open(ctx, proven)
	if !errors.Is(err, sessions.ErrEnded) {
		return opened, refreshToken, err
	}
	tenant, err := s.Router.Acquire(ctx, l.Church.ID)
	if err != nil {
		return opened, "", err
	}
	defer tenant.Release()
	err = tenant.AlignPasswordHash(ctx, l.Admin.ID, l.Admin.PasswordHash)
	if err == nil {
		opened, refreshToken, err = s.Sessions.Open(ctx, proven)
	}
	if errors.Is(err, tenantdb.ErrNoAdmin) || errors.Is(err, sessions.ErrEnded) {
		err = ErrRefused
	}
	return opened, refreshToken, err
}

// Prove checks the password of an admin who is identified by a token, and records a refusal.
// Errors: ErrRefused; password.ErrBusy.
func (s *Service) Prove(ctx context.Context, tenantID string, admin tenantdb.Admin, password string) error {
	same, err := s.Passwords.Matches(ctx, admin.PasswordHash, password)
	if err != nil || same {
		return err
	}
	if err := s.Sessions.RecordRefusal(ctx, audit.Event{TenantID: tenantID, AdminID: admin.ID}); err != nil {
		return err // an outage is never reported as a wrong password
	}
	return ErrRefused
}
