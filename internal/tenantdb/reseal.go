package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/registry"
	"narthex/internal/reseal"
	"narthex/internal/secrets"
	"narthex/internal/sqltrace"
)

var sealedTables = []reseal.Table{
	{Scope: "tenant", Name: "admins", Sealed: []string{"email", "encrypted_email"},
		Indexes: map[string]reseal.Index{"email_hash": {Column: "encrypted_email", Kind: secrets.Email.Kind}}},
	{Scope: "tenant", Name: "members", Sealed: []string{"phone", "encrypted_email"},
		Indexes: map[string]reseal.Index{
			"phone_hash": {Column: "phone", Kind: MemberPhone, PerTenant: true},
			"email_hash": {Column: "encrypted_email", Kind: MemberEmail, PerTenant: true},
		}},
}

// Reseal brings everything in a tenant's database under the primary keys, even if the tenant is not active,
// and returns the number of resealed rows. It can be interrupted and run again. Errors: secrets.ErrSealed.
func Reseal(ctx context.Context, reg *registry.Registry, keys *secrets.Keys, tenantID string) (rows int, err error) {
	conn, err := Connect(ctx, reg, tenantID)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, table := range sealedTables {
		count := func(_ pgx.Tx, tenants []string) error {
			rows += len(tenants)
			return nil
		}
		err := reseal.Run(ctx, conn, keys, reseal.Job{Table: table, TenantID: tenantID, Done: count})
		if err != nil {
			return rows, err
		}
	}
	if rows == 0 {
		return 0, nil
	}
	return rows, reg.AuditReseal(ctx, tenantID, "tenant database")
}

// Connect opens a separate connection to a tenant's database, even if the tenant is not active.
func Connect(ctx context.Context, reg *registry.Registry, tenantID string) (*pgx.Conn, error) {
	record, err := reg.Tenant(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(record.DatabaseURL)
	if err != nil {
		return nil, errors.New("the tenant's database URL is malformed") // not err: it may quote the URL
	}
	postgres.Distrust(config)
	config.Tracer = sqltrace.Tracer{}
	config.RuntimeParams["search_path"] = "public"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to tenant database: %w", err)
	}
	return conn, nil
}
