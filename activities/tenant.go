package activities

import (
	"context"
	"errors"

	"narthex/internal/registry"
	"narthex/internal/signup"
)

// CreateTenant enters the tenant in the registry, with the sealed URL of its database, in status
// provisioning.
func (a *Activities) CreateTenant(ctx context.Context, in signup.StepInput) error {
	return forward("create tenant", a.createTenant(ctx, in))
}

func (a *Activities) createTenant(ctx context.Context, in signup.StepInput) error {
	who, err := signup.OpenApplicant(a.Keys, in.Input)
	if err != nil {
		return err
	}
	database, err := a.database(in)
	if err != nil {
		return err
	}
	serves, err := a.Server.Serves(a.Server.SchemaVersion())
	if err != nil {
		return err
	}
	url, host, port, name := a.Server.Location(database)
	return a.Registry.InsertTenant(ctx, owner(in), registry.NewTenant{
		Name: who.ChurchName, Email: who.Email,
		DatabaseURL: url, DatabaseHost: host, DatabasePort: port, DatabaseName: name,
		SchemaVersion: a.Server.SchemaVersion(), SchemaServes: serves, CreatedAt: in.RequestedAt,
	})
}

// DeleteTenant removes the tenant from the registry.
func (a *Activities) DeleteTenant(ctx context.Context, in signup.StepInput) error {
	return undo("delete tenant", a.Registry.DeleteTenant(ctx, owner(in)))
}

// ActivateTenant opens the tenant for requests: the commit point of the signup.
func (a *Activities) ActivateTenant(ctx context.Context, in signup.StepInput) error {
	return forward("activate tenant", a.Registry.ActivateTenant(ctx, owner(in), in.AdminID))
}

// IsTenantOpen reports whether this signup has opened its church. If not, it never will: late attempts of its
// steps make nothing from then on.
func (a *Activities) IsTenantOpen(ctx context.Context, in signup.StepInput) (bool, error) {
	err := a.Registry.Tombstone(ctx, owner(in))
	return errors.Is(err, registry.ErrCommitted), undo("check whether the church is open", err)
}
