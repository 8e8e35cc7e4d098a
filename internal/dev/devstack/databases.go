package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"narthex/internal/hardening"
)

// Databases says where Narthex's databases are.
type Databases struct {
	AdminURL        string // of the given or started server
	RegistryURL     string
	TenantServerURL string // of the role that makes tenants' databases
}

const (
	serviceRole  = "narthex"
	registryName = "narthex_registry"

	roleExists     = `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`
	databaseExists = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
)

// PrepareOwn creates, on the stack's own server, the role that Narthex works as (not a superuser: it may
// only create databases and roles) and its registry database. Idempotent.
func PrepareOwn(ctx context.Context, adminURL string, keys Keys) (Databases, error) {
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return Databases{}, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := admin.QueryRow(ctx, roleExists, serviceRole).Scan(&exists); err != nil {
		return Databases{}, fmt.Errorf("look for role: %w", err)
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	statement := fmt.Sprintf(`%s ROLE %s LOGIN CREATEDB CREATEROLE NOSUPERUSER PASSWORD '%s'`, verb, serviceRole, keys[servicePassword])
	if _, err := admin.Exec(ctx, statement); err != nil {
		return Databases{}, fmt.Errorf("create role %s: %w", serviceRole, err)
	}
	for _, statement := range append(hardening.Statements(serviceRole, "postgres", "template1"), hardening.Statistics(serviceRole)) {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return Databases{}, fmt.Errorf("grant role %s its rights, and close databases to tenants: %w", serviceRole, err)
		}
	}
	service, err := url.Parse(adminURL)
	if err != nil {
		return Databases{}, errors.New("PostgreSQL's URL is malformed")
	}
	service.User = url.UserPassword(serviceRole, keys[servicePassword])
	return prepareRegistry(ctx, admin, adminURL, *service, serviceRole)
}

// PrepareGiven creates the registry database on an existing server, as the role in the server's URL.
// Idempotent.
func PrepareGiven(ctx context.Context, adminURL string) (Databases, error) {
	service, err := url.Parse(adminURL)
	if err != nil || service.Host == "" {
		return Databases{}, errors.New("DATABASE_URL is not a URL like postgres://user:password@host:5432/postgres")
	}
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return Databases{}, fmt.Errorf(
			"no connection to the PostgreSQL server of DATABASE_URL (%s): start it, or unset DATABASE_URL",
			service.Redacted(),
		)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	return prepareRegistry(ctx, admin, adminURL, *service, "DEFAULT")
}

func prepareRegistry(ctx context.Context, admin *pgx.Conn, adminURL string, service url.URL, owner string) (Databases, error) {
	var exists bool
	if err := admin.QueryRow(ctx, databaseExists, registryName).Scan(&exists); err != nil {
		return Databases{}, fmt.Errorf("look for registry: %w", err)
	}
	if !exists {
		if _, err := admin.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, registryName, owner)); err != nil {
			return Databases{}, fmt.Errorf("create registry database: %w", err)
		}
	}
	registry := service
	registry.Path = "/" + registryName
	return Databases{AdminURL: adminURL, RegistryURL: registry.String(), TenantServerURL: service.String()}, nil
}
