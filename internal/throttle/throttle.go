// Package throttle counts requests in the registry database, where all processes share the counts. It knows neither
// HTTP nor the meaning of a key.
package throttle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
)

// Limit is a leaky bucket: it allows Burst requests at once, and one more whenever Every has passed.
type Limit struct {
	Burst int
	Every time.Duration
}

const (
	// fill adds one request to a bucket. If the bucket would overflow, it returns no row.
	fill = `
		INSERT INTO throttles AS t (id, level) VALUES ($1, 1)
		ON CONFLICT (id) DO UPDATE SET updated_at = clock_timestamp(),
			level = greatest(0, t.level - extract(epoch FROM clock_timestamp() - t.updated_at) / $3) + 1
		WHERE greatest(0, t.level - extract(epoch FROM clock_timestamp() - t.updated_at) / $3) + 1 <= $2
		RETURNING level`
	untilRoom = `
		SELECT greatest(0, level - extract(epoch FROM clock_timestamp() - updated_at) / $3 + 1 - $2) * $3
		FROM throttles WHERE id = $1`
	deleteUnused = `DELETE FROM throttles WHERE updated_at < now() - interval '1 hour'`
)

// Counter counts requests. It is safe for concurrent use.
type Counter struct{ db *postgres.Pool }

// New returns a counter on the registry database.
func New(db *postgres.Pool) *Counter { return &Counter{db} }

// Count counts a request for key and returns 0 if the limit allows it, otherwise how long to wait, at least a second.
// A request that is not allowed is not counted.
func (c *Counter) Count(ctx context.Context, key []byte, limit Limit) (wait time.Duration, err error) {
	var level, seconds float64
	err = c.db.QueryRow(ctx, fill, key, float64(limit.Burst), limit.Every.Seconds()).Scan(&level)
	if err == nil {
		return 0, nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = c.db.QueryRow(ctx, untilRoom, key, float64(limit.Burst), limit.Every.Seconds()).Scan(&seconds)
	}
	if err != nil {
		return 0, fmt.Errorf("throttle: %w", err)
	}
	return max(time.Second, time.Duration(seconds*float64(time.Second))), nil
}

// Tidy deletes buckets that nobody has used for an hour. Idempotent.
func (c *Counter) Tidy(ctx context.Context) error {
	if _, err := c.db.Exec(ctx, deleteUnused); err != nil {
		return fmt.Errorf("tidy throttles: %w", err)
	}
	return nil
}
