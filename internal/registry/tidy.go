package registry

import (
	"context"
	"fmt"
)

const tidy = `
	DELETE FROM refresh_tokens WHERE expires_at < now();
	DELETE FROM sessions s WHERE created_at < now() - interval '1 day'
		AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id)`

// Tidy removes what has expired. Idempotent; several may run it at once.
func (r *Registry) Tidy(ctx context.Context) error {
	if _, err := r.pool.Exec(ctx, tidy); err != nil {
		return fmt.Errorf("tidy registry: %w", err)
	}
	return nil
}
