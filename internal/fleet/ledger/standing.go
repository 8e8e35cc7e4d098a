package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/fleet"
	"narthex/internal/postgres"
)

const (
	// A church is behind from the time at which it got its version or the next version became known, whichever is later. A
	// version is known from the first church or the first run that has it, or from @known.
	standOfVersions = `
		WITH versions AS (
			SELECT schema_version AS version, count(*) AS churches, min(schema_changed_at) AS since
			FROM tenants WHERE status <> 'deleted' GROUP BY 1)
		SELECT version, churches, CASE WHEN version >= @newest THEN 0 ELSE greatest(0, extract(epoch FROM now() - greatest(since, least(
			@known::timestamptz,
			(SELECT min(newer.since) FROM versions newer WHERE newer.version > v.version),
			(SELECT min(created_at) FROM fleet_runs r WHERE r.version > v.version AND undoes IS NULL)))))::float8 END AS behind
		FROM versions v`
	// Of each server, the newest run knows all churches that are behind.
	standOfRuns = `
		WITH newest AS (SELECT DISTINCT ON (server) id FROM fleet_runs ORDER BY server, created_at DESC)
		SELECT count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'paused') AS paused,
			count(*) FILTER (WHERE state = 'halted') AS halted,
			(SELECT count(*) FROM fleet_changes c JOIN newest ON newest.id = c.run_id JOIN tenants t ON t.id = c.tenant_id
				WHERE c.state = 'failed' AND t.schema_version <> c.to_version) AS failed
		FROM fleet_runs`
	existsBehind = `SELECT EXISTS (SELECT FROM tenants WHERE schema_version < $1 AND status <> 'deleted')`
)

// Standing returns how the fleet stands as seen by a release whose newest schema version is newest, and that was known at
// the latest at known.
func (l *Ledger) Standing(ctx context.Context, newest int, known time.Time) (fleet.Standing, error) {
	standing := fleet.Standing{Churches: map[int]int{}, Runs: map[fleet.State]int{}}
	type versionRow struct {
		Version, Churches int
		Behind            float64 // seconds
	}
	args := pgx.NamedArgs{"newest": newest, "known": known}
	versions, err := postgres.All(ctx, l.db, pgx.RowToStructByName[versionRow], standOfVersions, args)
	if err != nil {
		return standing, fmt.Errorf("count churches by version: %w", err)
	}
	for _, v := range versions {
		standing.Churches[v.Version] = v.Churches
		standing.Behind = max(standing.Behind, time.Duration(v.Behind*float64(time.Second)))
	}
	type runsRow struct{ Running, Paused, Halted, Failed int }
	runs, err := postgres.One(ctx, l.db, pgx.RowToStructByName[runsRow], standOfRuns)
	if err != nil {
		return standing, fmt.Errorf("count runs: %w", err)
	}
	standing.Runs[fleet.Running], standing.Runs[fleet.Paused], standing.Runs[fleet.Halted] = runs.Running, runs.Paused, runs.Halted
	standing.Failed = runs.Failed
	return standing, nil
}

// Behind reports whether a church is behind a schema version.
func (l *Ledger) Behind(ctx context.Context, version int) (behind bool, err error) {
	if err := l.db.QueryRow(ctx, existsBehind, version).Scan(&behind); err != nil {
		return false, fmt.Errorf("look for churches that are behind: %w", err)
	}
	return behind, nil
}
