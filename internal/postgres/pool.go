// Package postgres is a connection pool that survives a failover. It adds to pgxpool what to do with connections that
// the server has made useless, and when a statement may be retried. It knows no table and no statement.
package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is the interface that a Pool, a connection and a transaction have in common.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Pool is a pool of connections to one database. It is safe for concurrent use.
//
// If a connection reports that its server is read-only or going away, the pool closes it and all connections that were
// opened before it failed. A standby's sessions accept writes once it is promoted. But a session that was opened while a
// database or a role was set to default_transaction_read_only stays read-only, and a session on a server that has become
// a standby stays on that server. What ran on the connection is retried once, on a new one, if it can't have been
// committed.
type Pool struct {
	mu         sync.Mutex
	pool       *pgxpool.Pool
	generation int // how often all connections were closed
	resetAt    time.Time
}

// readOnlyPause is the minimum time between two closings because of a read-only server. While the server stays read-only,
// not every write may close the connections that reads use.
const readOnlyPause = 250 * time.Millisecond

// Open returns a pool that connects when it is first used. Its config must come from pgxpool.ParseConfig.
func Open(ctx context.Context, config *pgxpool.Config) (*Pool, error) {
	p := &Pool{}
	closeOnFatal := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if endsConnection(err.Code) {
			pause := time.Duration(0)
			if err.Code == readOnly {
				pause = readOnlyPause
			}
			p.suspect(conn, pause)
			return false // pgx closes the connection
		}
		return closeOnFatal(conn, err)
	}
	config.AfterConnect = p.stamp
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool = pool
	return p, nil
}

const generationName = "narthex generation"

// stamp notes which generation a new connection belongs to.
func (p *Pool) stamp(_ context.Context, conn *pgx.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn.PgConn().CustomData()[generationName] = p.generation
	return nil
}

// suspect closes all connections because one of them is useless: idle ones now, others when they are released.
// It does so once per event, however many connections report it, and not again within pause of the last time.
func (p *Pool) suspect(conn *pgconn.PgConn, pause time.Duration) {
	p.mu.Lock()
	born, pooled := conn.CustomData()[generationName].(int)
	due := pooled && born == p.generation && p.pool != nil && time.Since(p.resetAt) >= pause
	if due {
		p.generation++
		p.resetAt = time.Now()
	}
	p.mu.Unlock()
	if due {
		p.pool.Reset()
	}
}

// Acquire lends a connection, which must be released. What runs on it is not retried.
func (p *Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) { return p.pool.Acquire(ctx) }

// Config returns a copy of the pool's configuration.
func (p *Pool) Config() *pgxpool.Config { return p.pool.Config() }

// Stat returns the pool's counters.
func (p *Pool) Stat() *pgxpool.Stat { return p.pool.Stat() }

// Reset closes all connections: idle ones now, others when they are released.
func (p *Pool) Reset() { p.pool.Reset() }

// Close closes the pool once all connections have been released.
func (p *Pool) Close() { p.pool.Close() }
