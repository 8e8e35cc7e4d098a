package activities

import (
	"context"

	"narthex/internal/registry"
	"narthex/internal/signup"
)

// IndexAdminEmail makes the admin's email log in to the tenant.
func (a *Activities) IndexAdminEmail(ctx context.Context, in signup.StepInput) error {
	return forward("index admin email", a.indexAdminEmail(ctx, in))
}

func (a *Activities) indexAdminEmail(ctx context.Context, in signup.StepInput) error {
	who, err := a.applicant(in)
	if err != nil {
		return err
	}
	return a.Registry.InsertEmailEntry(ctx, owner(in), registry.EmailEntry{
		Email: who.Email, EmailHash: in.EmailHash, AdminID: in.AdminID, CreatedAt: in.RequestedAt,
	})
}

// UnindexAdminEmail frees the email.
func (a *Activities) UnindexAdminEmail(ctx context.Context, in signup.StepInput) error {
	return undo("unindex admin email", a.Registry.DeleteEmailEntry(ctx, owner(in)))
}
