package activities

import (
	"context"
	"errors"

	"go.temporal.io/sdk/activity"

	"narthex/internal/secrets"
	"narthex/internal/signup"
	"narthex/internal/tenantserver"
)

// CreateDatabase makes the tenant's role and its database, tenant_{tenantId}. It uses a ready database if there is
// one, otherwise a copy of the template, otherwise an empty database.
func (a *Activities) CreateDatabase(ctx context.Context, in signup.StepInput) error {
	return forward("create database", a.createDatabase(ctx, in))
}

func (a *Activities) createDatabase(ctx context.Context, in signup.StepInput) error {
	database, err := a.database(in)
	if err != nil {
		return err
	}
	source, err := a.Server.Create(ctx, database, func(ctx context.Context) error { return a.Registry.Permit(ctx, owner(in)) }, a.take())
	if source != "" {
		activity.GetMetricsHandler(ctx).WithTags(map[string]string{"source": string(source)}).Counter("signup_databases").Inc(1)
	}
	return err
}

// DropDatabase removes the database and the role, and leaves a tombstone, so that a late attempt of
// CreateDatabase makes nothing.
func (a *Activities) DropDatabase(ctx context.Context, in signup.StepInput) error {
	// Dropping needs no password, so a signup whose sealed input no longer opens can still be undone.
	database := tenantserver.Database{TenantID: in.TenantID, SignupID: in.SignupID}
	return undo("drop database", a.Server.Drop(ctx, database, func(ctx context.Context) error {
		return a.Registry.Tombstone(ctx, owner(in))
	}))
}

// nothingThere turns the errors that mean "this signup has nothing to undo in its database" into success.
// If the sealed input does not open, there may be something, but DropDatabase removes it without the input.
func nothingThere(err error) error {
	if errors.Is(err, tenantserver.ErrGone) || errors.Is(err, tenantserver.ErrNotOwned) || errors.Is(err, secrets.ErrSealed) {
		return nil
	}
	return err
}
