package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/audit"
	"narthex/internal/postgres"
	"narthex/internal/secrets"
)

// A tenant's status before and after its signup has succeeded.
const (
	StatusProvisioning = "provisioning"
	StatusActive       = "active"
)

// NewTenant is a row of tenants as a signup creates it, in status provisioning.
type NewTenant struct {
	Name          string
	Email         string // normalised; stored sealed
	DatabaseURL   string // stored sealed
	DatabaseHost  string
	DatabasePort  int
	DatabaseName  string
	SchemaVersion int
	SchemaServes  int // the oldest version whose release works with this one
	CreatedAt     time.Time
}

// Tenant is what a request needs to know about a church.
type Tenant struct {
	ID                 string
	Name               string
	Email              string // opened
	Status             string
	SubscriptionStatus string
	TrialEndsAt        time.Time
	SchemaVersion      int
	SchemaServes       int    // the oldest version whose release works with it
	DatabaseURL        string // opened; never to be logged
}

type tenantRow struct {
	ID                 string
	Name               string
	Email              []byte
	Status             string
	SubscriptionStatus string
	TrialEndsAt        time.Time
	SchemaVersion      int
	SchemaServes       int
	DatabaseURL        []byte
}

const (
	insertTenant = `
		INSERT INTO tenants (id, church_id, name, email, database_url, database_host, database_port, database_name,
			subscription_status, subscription_plan, status, schema_version, schema_serves, signup_id, created_at, updated_at)
		SELECT @tenant_id, @tenant_id, @name, @email, @database_url, @database_host, @database_port, @database_name,
			'trial', 'starter', 'provisioning', @schema_version, @schema_serves, @signup_id, @created_at, @created_at` + permitted + `
		ON CONFLICT (id) DO NOTHING`
	ownerOfTenant  = `SELECT signup_id FROM tenants WHERE id = @tenant_id`
	deleteTenant   = `DELETE FROM tenants WHERE id = @tenant_id AND signup_id = @signup_id`
	activateTenant = `
		WITH activated AS (
			UPDATE tenants t SET status = 'active', updated_at = now() FROM tenants was
			WHERE t.id = @tenant_id AND was.id = t.id AND t.signup_id = @signup_id AND t.status IN ('provisioning', 'active')
			AND NOT ` + isUndone + ` RETURNING was.status
		), trial AS ( -- if the church opens late, its trial begins then: a signup may be replayed weeks after it was requested
			UPDATE churches SET trial_ends_at = trial_ends_at + (now() - created_at) WHERE id = @tenant_id
			AND created_at < now() - interval '1 day' AND EXISTS (SELECT FROM activated WHERE status = 'provisioning')
		), audited AS (
			INSERT INTO audit_log (event, tenant_id, admin_id)
			SELECT '` + string(audit.SignedUp) + `', @tenant_id, @admin_id FROM activated WHERE status = 'provisioning'
		)
		SELECT status FROM activated`
	selectOneAServer = `
		SELECT DISTINCT ON (database_host, database_port) id FROM tenants WHERE status = 'active' ORDER BY database_host, database_port, id`
	selectTenant = `
		SELECT t.id, t.name, t.email, t.status, c.subscription_status, c.trial_ends_at, t.schema_version,
			coalesce(t.schema_serves, t.schema_version) AS schema_serves, t.database_url
		FROM tenants t JOIN churches c ON c.id = t.church_id WHERE t.id = $1`
	// Processes must not wait here for each other or for changes of a tenant, nor repeat what another has just written.
	touchTenants = `
		WITH used AS (
			SELECT id FROM tenants WHERE id = ANY($1) AND (last_accessed_at IS NULL OR last_accessed_at < now() - interval '4 minutes')
			FOR NO KEY UPDATE SKIP LOCKED)
		UPDATE tenants t SET last_accessed_at = now() FROM used WHERE t.id = used.id`
)

// TouchTenants records that these tenants were used within the last few minutes. It notifies nobody.
func (r *Registry) TouchTenants(ctx context.Context, tenantIDs []string) error {
	if _, err := r.pool.Exec(ctx, touchTenants, tenantIDs); err != nil {
		return fmt.Errorf("record which tenants were used: %w", err)
	}
	return nil
}

// ServerURLs returns a database URL for each PostgreSQL server that holds an active tenant's database, or
// the registry's own URL if there is no tenant.
func (r *Registry) ServerURLs(ctx context.Context) (urls []string, err error) {
	tenants, err := postgres.All(ctx, r.pool, pgx.RowTo[string], selectOneAServer)
	if err != nil {
		return nil, fmt.Errorf("list tenants' servers: %w", err)
	}
	for _, id := range tenants {
		tenant, err := r.Tenant(ctx, id)
		if err != nil {
			return nil, err
		}
		urls = append(urls, tenant.DatabaseURL)
	}
	if len(urls) == 0 {
		urls = append(urls, r.pool.Config().ConnString())
	}
	return urls, nil
}

// InsertTenant adds the tenant, in status provisioning. Idempotent for one owner.
// Errors: ErrUndone, ErrNotOwned. Nothing is stored if sealing fails.
func (r *Registry) InsertTenant(ctx context.Context, owner Owner, tenant NewTenant) error {
	email, err := r.sealEmail("tenants", owner, tenant.Email)
	if err != nil {
		return err
	}
	url, err := r.keys.Seal([]byte(tenant.DatabaseURL), DatabaseURLPlace(owner.TenantID))
	if err != nil {
		return err
	}
	err = r.insert(ctx, owner, ownedRow{insertTenant, ownerOfTenant}, pgx.NamedArgs{
		"name": tenant.Name, "email": email, "database_url": url,
		"database_host": tenant.DatabaseHost, "database_port": tenant.DatabasePort, "database_name": tenant.DatabaseName,
		"schema_version": tenant.SchemaVersion, "schema_serves": tenant.SchemaServes, "created_at": tenant.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("insert tenant: %w", err)
	}
	return nil
}

// DeleteTenant removes owner's tenant. Idempotent.
func (r *Registry) DeleteTenant(ctx context.Context, owner Owner) error {
	if err := r.remove(ctx, owner, deleteTenant); err != nil {
		return fmt.Errorf("delete tenant: %w", err)
	}
	return nil
}

// ActivateTenant opens the tenant for requests, and records that its admin has signed up. Idempotent.
// Errors: ErrUndone, if the signup was rolled back or its tenant does not exist.
func (r *Registry) ActivateTenant(ctx context.Context, owner Owner, adminID string) error {
	var batch pgx.Batch
	batch.Queue(lockRun, owner.RunID)
	batch.Queue(activateTenant, owner.args(pgx.NamedArgs{"admin_id": adminID})).QueryRow(func(row pgx.Row) error {
		var was string
		if err := row.Scan(&was); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return ErrUndone
	})
	err := r.pool.SendBatch(ctx, &batch)
	if err != nil {
		return fmt.Errorf("activate tenant: %w", err)
	}
	return nil
}

// Tenant returns the tenant with its database URL opened. Errors: ErrNotFound, secrets.ErrSealed.
func (r *Registry) Tenant(ctx context.Context, tenantID string) (Tenant, error) {
	row, err := postgres.One(ctx, r.pool, pgx.RowToStructByName[tenantRow], selectTenant, tenantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Tenant{}, fmt.Errorf("tenant: %w", ErrNotFound)
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("select tenant: %w", err)
	}
	url, err := r.keys.Open(row.DatabaseURL, DatabaseURLPlace(tenantID))
	if err != nil {
		return Tenant{}, err
	}
	email, err := r.keys.Open(row.Email, emailPlace("tenants", tenantID))
	if err != nil {
		return Tenant{}, err
	}
	return Tenant{ID: row.ID, Name: row.Name, Email: string(email), Status: row.Status, SubscriptionStatus: row.SubscriptionStatus,
		TrialEndsAt: row.TrialEndsAt, SchemaVersion: row.SchemaVersion, SchemaServes: row.SchemaServes, DatabaseURL: string(url)}, nil
}

// DatabaseURLPlace is the place for which a tenant's database URL is sealed.
func DatabaseURLPlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "registry.tenants", Column: "database_url", Tenant: tenantID}
}
