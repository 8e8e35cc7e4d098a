package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Limit is a leaky bucket: it takes Burst requests at once, and one more each time that Every has gone
// by.
type Limit struct {
	Burst int
	Every time.Duration
}

const (
	// fill adds one request to a bucket, unless it would overflow: then there is no row.
	fill = `
		INSERT INTO throttles AS t (id, level) VALUES ($1, 1)
		ON CONFLICT (id) DO UPDATE SET updated_at = clock_timestamp(),
			level = greatest(0, t.level - extract(epoch FROM clock_timestamp() - t.updated_at) / $3) + 1
		WHERE greatest(0, t.level - extract(epoch FROM clock_timestamp() - t.updated_at) / $3) + 1 <= $2
		RETURNING level`
	untilRoom = `
		SELECT greatest(0, level - extract(epoch FROM clock_timestamp() - updated_at) / $3 + 1 - $2) * $3
		FROM throttles WHERE id = $1`
)

// Throttle counts a request for key, shared by all processes, and returns 0 when the limit allows it, or
// else how long to wait.
func (r *Registry) Throttle(ctx context.Context, key []byte, limit Limit) (wait time.Duration, err error) {
	var level, seconds float64
	err = r.pool.QueryRow(ctx, fill, key, float64(limit.Burst), limit.Every.Seconds()).Scan(&level)
	if errors.Is(err, pgx.ErrNoRows) {
		err = r.pool.QueryRow(ctx, untilRoom, key, float64(limit.Burst), limit.Every.Seconds()).Scan(&seconds)
		return max(time.Second, time.Duration(seconds*float64(time.Second))), err
	}
	if err != nil {
		return 0, fmt.Errorf("throttle: %w", err)
	}
	return 0, nil
}
