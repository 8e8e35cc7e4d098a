package registry

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"

	"narthex/internal/secrets"
)

const (
	selectElsewhere = `SELECT id, database_url FROM tenants WHERE (database_host, database_port) <> ($1, $2) FOR UPDATE`
	relocatePool    = `UPDATE database_pool SET server = $1, updated_at = now() WHERE server <> $1`
	updateLocation  = `UPDATE tenants SET database_url = $2, database_host = $3, database_port = $4, updated_at = now() WHERE id = $1`
)

// Relocate points every tenant, and the pool, to host and port: all of them live on one server, which has moved there.
// Idempotent; all move or none. Returns how many tenants moved.
func (r *Registry) Relocate(ctx context.Context, host string, port int) (moved int, err error) {
	hostPort := net.JoinHostPort(host, strconv.Itoa(port))
	err = r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, relocatePool, hostPort); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, selectElsewhere, host, port)
		type tenant struct {
			ID          string
			DatabaseURL []byte
		}
		elsewhere, err := pgx.CollectRows(rows, pgx.RowToStructByName[tenant])
		if err != nil {
			return err
		}
		moved = len(elsewhere)
		for _, t := range elsewhere {
			sealed, err := r.resealAt(t.ID, t.DatabaseURL, hostPort)
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

// resealAt returns a sealed database URL with another host and port.
func (r *Registry) resealAt(tenantID string, sealed []byte, hostPort string) ([]byte, error) {
	plain, err := r.keys.Open(sealed, databaseURLPlace(tenantID))
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(string(plain))
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", tenantID, secrets.ErrSealed)
	}
	u.Host = hostPort
	return r.keys.Seal([]byte(u.String()), databaseURLPlace(tenantID))
}
