package activities

import (
	"context"

	"narthex/internal/signup"
)

// CreateAdmin enters the church's PRIMARY admin in the registry.
func (a *Activities) CreateAdmin(ctx context.Context, in signup.StepInput) error {
	return forward("create admin", a.createAdmin(ctx, in))
}

func (a *Activities) createAdmin(ctx context.Context, in signup.StepInput) error {
	admin, err := a.admin(in)
	if err != nil {
		return err
	}
	return a.Registry.InsertAdmin(ctx, owner(in), admin)
}

// DeleteAdmin removes the admin from the registry.
func (a *Activities) DeleteAdmin(ctx context.Context, in signup.StepInput) error {
	return undo("delete admin", a.Registry.DeleteAdmin(ctx, owner(in)))
}
