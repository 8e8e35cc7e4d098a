package activities

import (
	"context"

	"narthex/internal/registry"
	"narthex/internal/signup"
)

// CreateChurch enters the church in the registry, in trial.
func (a *Activities) CreateChurch(ctx context.Context, in signup.StepInput) error {
	return forward("create church", a.createChurch(ctx, in))
}

func (a *Activities) createChurch(ctx context.Context, in signup.StepInput) error {
	who, err := signup.OpenApplicant(a.Keys, in.Input)
	if err != nil {
		return err
	}
	return a.Registry.InsertChurch(ctx, owner(in), registry.Church{
		Name: who.ChurchName, Email: who.Email, EmailHash: in.EmailHash,
		TrialEndsAt: in.TrialEndsAt, CreatedAt: in.RequestedAt,
	})
}

// DeleteChurch removes the church from the registry.
func (a *Activities) DeleteChurch(ctx context.Context, in signup.StepInput) error {
	return undo("delete church", a.Registry.DeleteChurch(ctx, owner(in)))
}
