package tenantserver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Health is how a server copes with its load.
type Health struct {
	Lag         time.Duration // of the standby that is furthest behind; 0 without pg_read_all_stats
	Connections float64       // share of max_connections in use
	Vacuums     int           // autovacuums that prevent wraparound, which nothing interrupts; 0 without pg_read_all_stats
	Read        time.Duration // p95 of trivial reads in a church's database
}

const (
	selectHealth = `
		SELECT coalesce((SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication), 0)::float8 AS lag,
			(SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) / current_setting('max_connections')::float8 AS connections,
			(SELECT count(*) FROM pg_stat_activity
				WHERE backend_type = 'autovacuum worker' AND query LIKE 'autovacuum: %(to prevent wraparound)') AS vacuums`
	trivialRead = `SELECT count(*) FROM pg_class WHERE relname = 'admins'` // uses an index
	reads       = 20
	healthLimit = 10 * time.Second
)

// Health measures the server's health on new connections, because those of the pool may all be in use. It times reads in
// d's database, if that exists. Errors: why the server could not be asked.
func (s *Server) Health(ctx context.Context, d Database) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return Health{}, fmt.Errorf("connect to tenant server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var h Health
	var lag float64
	if err := conn.QueryRow(ctx, selectHealth).Scan(&lag, &h.Connections, &h.Vacuums); err != nil {
		return Health{}, fmt.Errorf("look at the server's health: %w", err)
	}
	h.Lag = time.Duration(lag * float64(time.Second))
	h.Read, err = s.timeReads(ctx, conn, d)
	if err != nil { // it is a problem of the database, and not of the server, if the server still answers
		_, err = conn.Exec(ctx, `SELECT`)
	}
	return h, err
}

func (s *Server) timeReads(ctx context.Context, admin *pgx.Conn, d Database) (time.Duration, error) {
	found, err := readState(ctx, admin, d)
	if err != nil || found.standing(d) != nil {
		return 0, err
	}
	conn, err := s.connect(ctx, d.Name(), probeLimits.settings())
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	took := make([]time.Duration, reads)
	for i := range took {
		began := time.Now()
		if _, err := conn.Exec(ctx, trivialRead); err != nil {
			return 0, fmt.Errorf("read in a church's database: %w", err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[reads*95/100-1], nil
}
