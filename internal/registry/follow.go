package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	listenTenants = `LISTEN tenant_changed` // triggers notify with the tenant's id
	heartbeat     = 250 * time.Millisecond
)

// FollowTenants calls changed with the id of each tenant whose record changes, until ctx ends or the
// registry is out of reach. It calls heard each time that the registry answers, at least every 250 ms:
// changed has then been called for everything that had changed by the time asked.
func (r *Registry) FollowTenants(ctx context.Context, changed func(tenantID string), heard func(asked time.Time)) error {
	acquired, err := r.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to follow tenants: %w", err)
	}
	conn := acquired.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, listenTenants); err != nil {
		return fmt.Errorf("follow tenants: %w", err)
	}
	for {
		asked := time.Now()
		if err := answer(ctx, conn); err != nil {
			return fmt.Errorf("follow tenants: %w", err)
		}
		if err := receive(ctx, conn, changed); err != nil {
			return fmt.Errorf("follow tenants: %w", err)
		}
		heard(asked)
	}
}

func answer(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 2*heartbeat)
	defer cancel()
	return conn.Ping(ctx)
}

// receive waits for changes until the next heartbeat.
func receive(ctx context.Context, conn *pgx.Conn, changed func(tenantID string)) error {
	beat, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	for {
		notification, err := conn.WaitForNotification(beat)
		switch {
		case err == nil:
			changed(notification.Payload)
		case ctx.Err() == nil && pgconn.Timeout(err):
			return nil
		default:
			return err
		}
	}
}
