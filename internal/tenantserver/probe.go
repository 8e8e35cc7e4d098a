package tenantserver

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Statements are the SQL statements that a release runs on a church's database.
type Statements struct {
	SQL   map[string]string // by name
	Lists map[string][]any  // by name, arguments with which some of them read a few rows
}

// probeLimits are the limits of a probe's statements, which must not delay anybody. What a church has made can lift them in its
// session, so the whole probe has a limit too.
var probeLimits = Limits{Lock: time.Second, Statement: 10 * time.Second}

const probeLimit = 20 * time.Second

// Probe has d's database parse the statements and run those that read, and returns the refused ones with the reasons. It
// changes nothing. Errors: ErrGone, ErrNotOwned, or why the database could not be asked.
func (s *Server) Probe(ctx context.Context, d Database, statements Statements) (refused map[string]error, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if _, err := s.look(ctx, d); err != nil {
		return nil, err
	}
	conn, err := s.connectAsChurch(ctx, d.Name(), d.Password, probeLimits)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SET default_transaction_read_only = on`); err != nil {
		return nil, fmt.Errorf("begin the probe: %w", err)
	}
	refused = map[string]error{}
	for name, sql := range statements.SQL {
		err := probe(ctx, conn, name, sql)
		if args, reads := statements.Lists[name]; err == nil && reads {
			_, err = conn.Exec(ctx, name, args...)
		}
		if err != nil && conn.IsClosed() {
			return nil, fmt.Errorf("probe the database: %w", err)
		}
		if err != nil {
			refused[name] = fmt.Errorf("%s: %w", name, err)
		}
	}
	return refused, nil
}

// probe has a statement parsed under its name. It replaces named arguments by numbered ones, as pgx does when it runs it.
func probe(ctx context.Context, conn *pgx.Conn, name, sql string) error {
	numbered, _, err := pgx.NamedArgs{}.RewriteQuery(ctx, conn, sql, nil)
	if err == nil {
		_, err = conn.Prepare(ctx, name, numbered)
	}
	return err
}
