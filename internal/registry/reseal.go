package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/postgres"
	"narthex/internal/reseal"
	"narthex/internal/secrets"
)

var emailHash = map[string]reseal.Index{"email_hash": {Column: "email", Kind: secrets.Email.Kind}}

var sealedTables = []reseal.Table{
	{Scope: "registry", Name: "churches", Tenant: "id", Sealed: []string{"email"}, Indexes: emailHash},
	{Scope: "registry", Name: "tenants", Tenant: "id", Sealed: []string{"email", "database_url"}},
	{Scope: "registry", Name: "admins", Tenant: "tenant_id", Sealed: []string{"email"}, Indexes: emailHash},
	{Scope: "registry", Name: "admin_email_index", Tenant: "tenant_id", Sealed: []string{"email"}, Indexes: emailHash},
	{Scope: "registry", Name: "idempotency_keys", Tenant: "tenant_id", Sealed: []string{"input"}},
}

const (
	selectTenantIDs = `SELECT id FROM tenants WHERE ` + hasDatabase + ` ORDER BY id`
	updateKeyCheck  = `UPDATE key_checks SET sealed = $2, indexed = $3, updated_at = now() WHERE id = $1`
)

// Reseal brings everything in the registry under the primary keys. After each batch it calls progress with
// the number of resealed rows of a table. It can be interrupted and run again. Errors: secrets.ErrSealed.
func (r *Registry) Reseal(ctx context.Context, progress func(table string, rows int)) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to reseal: %w", err)
	}
	defer conn.Release()
	for _, table := range sealedTables {
		done := func(tx pgx.Tx, tenants []string) error {
			progress(table.Name, len(tenants))
			return auditReseal(ctx, tx, tenants, "registry "+table.Name)
		}
		err := reseal.Run(ctx, conn, r.keys, reseal.Job{Table: table, Done: done})
		if err != nil {
			return err
		}
	}
	return r.renewKeyCheck(ctx)
}

// AuditReseal records that a tenant's database has been resealed.
func (r *Registry) AuditReseal(ctx context.Context, tenantID, detail string) error {
	return auditReseal(ctx, r.pool, []string{tenantID}, detail)
}

func auditReseal(ctx context.Context, db postgres.DB, tenants []string, detail string) error {
	seen := map[string]bool{}
	for _, tenant := range tenants {
		if seen[tenant] {
			continue
		}
		seen[tenant] = true
		if err := audit.Write(ctx, db, audit.Event{Kind: audit.KeysResealed, TenantID: tenant, Detail: detail}); err != nil {
			return err
		}
	}
	return nil
}

// TenantIDs lists the tenants that have a database.
func (r *Registry) TenantIDs(ctx context.Context) ([]string, error) {
	ids, err := postgres.All(ctx, r.pool, pgx.RowTo[string], selectTenantIDs)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	return ids, nil
}

func (r *Registry) renewKeyCheck(ctx context.Context) error {
	sealed, err := r.keys.Seal([]byte(keyCheck), keyCheckPlace)
	if err != nil {
		return err
	}
	index, err := r.keys.EmailIndex(keyCheck)
	if err != nil {
		return err
	}
	if _, err := r.pool.Exec(ctx, updateKeyCheck, keyCheck, sealed, index); err != nil {
		return fmt.Errorf("renew key check: %w", err)
	}
	return nil
}
