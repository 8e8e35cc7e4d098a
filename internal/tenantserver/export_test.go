package tenantserver

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// HoldTemplateLock runs do on a session that holds the template's lock and has the given limit.
func (s *Server) HoldTemplateLock(ctx context.Context, limit string, do func(*pgx.Conn) error) error {
	return s.locked(ctx, lock{name: templateLock.name, idle: limit, statement: "'" + limit + "'"}, do)
}
