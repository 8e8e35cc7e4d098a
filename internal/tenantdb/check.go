package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrBudget means that the router may open more connections than a server accepts.
var ErrBudget = errors.New("the PostgreSQL server allows fewer connections")

const (
	// The last setting is newer than the oldest PostgreSQL that we support.
	selectCapacity = `
		SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- coalesce(current_setting('reserved_connections', true)::int, 0)`
	checkLimit = 5 * time.Second
)

// CheckBudget compares the budget with what each tenants' server accepts or, if there is no tenant yet, the
// registry's server. Errors: ErrBudget, or why a server did not answer.
func (r *Router) CheckBudget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	urls, err := r.registry.ServerURLs(ctx)
	if err != nil {
		return err
	}
	for _, url := range urls {
		capacity, err := capacity(ctx, url)
		if err != nil {
			return fmt.Errorf("ask how many connections a tenants' server takes: %w", err)
		}
		if r.budget.size > capacity {
			return fmt.Errorf("%w: %d instead of %d", ErrBudget, capacity, r.budget.size)
		}
	}
	return nil
}

func capacity(ctx context.Context, url string) (connections int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, selectCapacity).Scan(&connections)
	return connections, err
}
