package devstack

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/registry"
	"narthex/internal/secrets"
)

const (
	selectElsewhere = `SELECT id, database_url FROM tenants WHERE (database_host, database_port) <> ($1, $2) FOR UPDATE`
	relocateReady   = `UPDATE database_pool SET server = $1, updated_at = now() WHERE server <> $1`
	updateLocation  = `UPDATE tenants SET database_url = $2, database_host = $3, database_port = $4, updated_at = now() WHERE id = $1`
)

// Relocate points every tenant of a registry, and every ready database, to the address where the stack's only server
// listens now. Idempotent; either all move or none. It returns how many tenants moved.
func Relocate(ctx context.Context, registryURL string, keys *secrets.Keys, host string, port int) (moved int, err error) {
	conn, err := pgx.Connect(ctx, registryURL)
	if err != nil {
		return 0, fmt.Errorf("connect to the registry: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		server := postgres.ServerName(host, port)
		if _, err := tx.Exec(ctx, relocateReady, server); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, selectElsewhere, host, port)
		elsewhere, err := pgx.CollectRows(rows, pgx.RowToStructByName[tenant])
		if err != nil {
			return err
		}
		moved = len(elsewhere)
		for _, t := range elsewhere {
			sealed, err := t.urlAt(keys, server)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, updateLocation, t.ID, sealed, host, port); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("relocate tenants: %w", err)
	}
	return moved, nil
}

type tenant struct {
	ID          string
	DatabaseURL []byte // sealed
}

// urlAt returns the tenant's database URL on another server, sealed.
func (t tenant) urlAt(keys *secrets.Keys, server string) ([]byte, error) {
	place := registry.DatabaseURLPlace(t.ID)
	plain, err := keys.Open(t.DatabaseURL, place)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(string(plain))
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", t.ID, secrets.ErrSealed) // not err: it may quote the URL
	}
	u.Host = server
	return keys.Seal([]byte(u.String()), place)
}
