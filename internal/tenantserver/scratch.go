package tenantserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/schema"
)

// Scratch is a short-lived database in which something is inspected or tried out. Like a tenant's, it is owned by a role
// with its name, but that role cannot log in, except during a rehearsal: only Narthex's role can connect. The role's comment
// says when it expires.
type Scratch struct {
	Life  time.Duration // after this, others drop it if the process that made it didn't
	Empty bool          // otherwise it has the newest schema
}

const scratchDropLimit = 30 * time.Second // DROP DATABASE waits for a checkpoint

const (
	scratchPrefix = "scratch_"
	scratchMark   = "narthex scratch of %s until "

	// All processes use the server's clock.
	selectEnd     = `SELECT to_char((now() + $1) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
	selectExpired = `
		SELECT rolname FROM pg_roles, shobj_description(oid, 'pg_authid') AS mark
		WHERE starts_with(rolname, $1) AND starts_with(mark, $2)
			AND substr(mark, length($2) + 1) < to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') COLLATE "C"`
)

// InScratch makes a scratch database, calls do with its name, and drops it. Before that, it drops expired ones that were
// left behind.
func (s *Server) InScratch(ctx context.Context, scratch Scratch, do func(name string) error) error {
	_ = s.DropExpiredScratch(ctx) // the next call drops what can't be dropped now
	name := scratchPrefix + ids.New()
	err := s.makeScratch(ctx, name, scratch)
	if err == nil {
		err = do(name)
	}
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), scratchDropLimit)
	defer cancel()
	_ = s.dropWithRole(cleaning, name) // if this fails, it is dropped once it has expired
	return err
}

func (s *Server) makeScratch(ctx context.Context, name string, scratch Scratch) error {
	var end string
	if err := s.pool.QueryRow(ctx, selectEnd, scratch.Life).Scan(&end); err != nil {
		return fmt.Errorf("look when the scratch database ends: %w", err)
	}
	template, err := s.templateName()
	if err != nil {
		return err
	}
	copied := false
	if !scratch.Empty {
		copied, err = isTemplate(ctx, s.pool, template)
		if err != nil {
			return err
		}
	}
	create := fmt.Sprintf(createDatabase, name)
	if copied {
		create = fmt.Sprintf(copyDatabase, name, template)
	}
	mark := fmt.Sprintf(scratchMark, s.installation) + end
	if err := s.makeWithRole(ctx, name, mark, create); err != nil {
		return fmt.Errorf("make scratch database: %w", err)
	}
	switch {
	case copied:
		_, err = s.adopt(ctx, name, func(marker string) bool { return marker == mark })
	case !scratch.Empty:
		config := s.pool.Config().ConnConfig
		config.Database, config.RuntimeParams["role"] = name, name
		err = schema.Up(ctx, config, s.files, nil)
	}
	return err
}

// DropExpiredScratch drops this installation's expired scratch databases, which their processes failed to drop.
// Idempotent. A failure doesn't stop it.
func (s *Server) DropExpiredScratch(ctx context.Context) error {
	mark := fmt.Sprintf(scratchMark, s.installation)
	expired, err := postgres.All(ctx, s.pool, pgx.RowTo[string], selectExpired, scratchPrefix, mark)
	if err != nil {
		return fmt.Errorf("list expired scratch databases: %w", err)
	}
	var failed error
	for _, name := range expired {
		if err := s.dropWithRole(ctx, name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("drop expired scratch database: %w", err))
		}
	}
	return failed
}
