package activities

import (
	"context"

	"github.com/jackc/pgx/v5"

	"narthex/internal/signup"
	"narthex/internal/tenantdb"
)

// CreateTenantAdmin adds the admin, under the same id, to the tenant's own database.
func (a *Activities) CreateTenantAdmin(ctx context.Context, in signup.StepInput) error {
	return forward("create tenant admin", a.createTenantAdmin(ctx, in))
}

func (a *Activities) createTenantAdmin(ctx context.Context, in signup.StepInput) error {
	admin, err := a.admin(in)
	if err != nil {
		return err
	}
	if err := a.Registry.Permit(ctx, owner(in)); err != nil {
		return err
	}
	return a.inTenantDatabase(ctx, in, func(conn *pgx.Conn) error {
		return tenantdb.InsertAdmin(ctx, conn, a.Keys, in.TenantID, admin)
	})
}

// DeleteTenantAdmin removes the admin from the tenant's own database.
func (a *Activities) DeleteTenantAdmin(ctx context.Context, in signup.StepInput) error {
	err := a.Registry.Tombstone(ctx, owner(in))
	if err == nil {
		err = a.inTenantDatabase(ctx, in, func(conn *pgx.Conn) error {
			return tenantdb.DeleteAdmin(ctx, conn, in.AdminID)
		})
	}
	return undo("delete tenant admin", nothingThere(err))
}

func (a *Activities) inTenantDatabase(ctx context.Context, in signup.StepInput, do func(*pgx.Conn) error) error {
	database, err := a.database(in)
	if err != nil {
		return err
	}
	conn, err := a.Server.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}
