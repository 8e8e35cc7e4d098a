package activities

import (
	"context"

	"narthex/internal/signup"
)

// MigrateDatabase fills the tenant's database with the 24 tables.
func (a *Activities) MigrateDatabase(ctx context.Context, in signup.StepInput) error {
	return forward("migrate database", a.migrateDatabase(ctx, in))
}

func (a *Activities) migrateDatabase(ctx context.Context, in signup.StepInput) error {
	database, err := a.database(in)
	if err != nil {
		return err
	}
	if err := a.Registry.Permit(ctx, owner(in)); err != nil {
		return err
	}
	return a.Server.Migrate(ctx, database)
}

// RevertDatabase removes the tables again.
func (a *Activities) RevertDatabase(ctx context.Context, in signup.StepInput) error {
	return undo("revert database", nothingThere(a.revertDatabase(ctx, in)))
}

func (a *Activities) revertDatabase(ctx context.Context, in signup.StepInput) error {
	if err := a.Registry.Tombstone(ctx, owner(in)); err != nil {
		return err
	}
	database, err := a.database(in)
	if err != nil {
		return err
	}
	return a.Server.Revert(ctx, database)
}
