package registry

import (
	"context"
	"fmt"
)

// Temporal keeps closed signups for 30 days: an idempotency key goes before the signup it leads to.
const tidy = `
	DELETE FROM refresh_tokens WHERE expires_at < now();
	DELETE FROM sessions s WHERE created_at < now() - interval '1 day'
		AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id);
	DELETE FROM idempotency_keys WHERE created_at < now() - interval '29 days'`

// Tidy removes what has expired. Idempotent; several may run it at once.
func (r *Registry) Tidy(ctx context.Context) error {
	if _, err := r.pool.Exec(ctx, tidy); err != nil {
		return fmt.Errorf("tidy registry: %w", err)
	}
	return nil
}
