package activities

import (
	"context"

	"narthex/internal/registry"
	"narthex/internal/signup"
)

// IndexAdminEmail indexes the admin's email, so that it logs in to the tenant.
func (a *Activities) IndexAdminEmail(ctx context.Context, in signup.StepInput) error {
	return forward("index admin email", a.indexAdminEmail(ctx, in))
}

func (a *Activities) indexAdminEmail(ctx context.Context, in signup.StepInput) error {
	admin, err := a.admin(in)
	if err != nil {
		return err
	}
	return a.Registry.InsertEmailEntry(ctx, owner(in), registry.EmailEntry{
		Email: admin.Email, EmailHash: admin.EmailHash, AdminID: admin.ID, CreatedAt: admin.CreatedAt,
	})
}

// UnindexAdminEmail frees the email.
func (a *Activities) UnindexAdminEmail(ctx context.Context, in signup.StepInput) error {
	return undo("unindex admin email", a.Registry.DeleteEmailEntry(ctx, owner(in)))
}
