// Package ledger records in the registry database what runs over the fleet do with each church. It doesn't decide what a
// run does or in which order.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"narthex/internal/fleet"
	"narthex/internal/postgres"
	"narthex/internal/redact"
	"narthex/internal/sqlstate"
)

var (
	// ErrNotFound means that there is no such run.
	ErrNotFound = errors.New("no such run")
	// ErrLost means that a church is no longer claimed: a later attempt has it, or the run was settled.
	ErrLost = errors.New("the claim on the church was lost")
)

// Ledger is the ledger of all servers. It is safe for concurrent use.
type Ledger struct{ db *postgres.Pool }

// New returns the ledger in the registry database.
func New(registry *postgres.Pool) *Ledger { return &Ledger{registry} }

const (
	insertRun = `
		INSERT INTO fleet_runs (id, server, version, undoes, retries, stage, state)
		VALUES (@run, @server, @version, nullif(@undoes, ''), nullif(@retries, ''), 'preparing', 'running')
		ON CONFLICT (id) DO NOTHING`
	// Temporal runs only one of a server's runs at a time, and ids sort by time.
	endOlderRuns = `
		UPDATE fleet_runs SET state = 'cancelled', reason = 'its workflow was ended', updated_at = now()
		WHERE server = @server AND id < @run AND state IN ('running', 'paused', 'halted')`
	updateRun = `UPDATE fleet_runs SET stage = $2, state = $3, reason = $4, updated_at = now() WHERE id = $1`
	sayWhy    = `UPDATE fleet_runs SET reason = $2, updated_at = now() WHERE id = $1 AND state = 'running' AND reason <> $2`
	selectRun = `
		SELECT id, server, version, coalesce(undoes, '') AS undoes, coalesce(retries, '') AS retries, stage, state, reason, created_at, updated_at
		FROM fleet_runs`
	oneRun     = selectRun + ` WHERE id = $1`
	recentRuns = selectRun + ` ORDER BY created_at DESC LIMIT $1`

	// The churches of a run: those that are behind, or the changed or failed ones of another run.
	churchesBehind = `
		SELECT id, schema_version, @version::int AS to_version, last_accessed_at FROM tenants
		WHERE database_host = @host AND database_port = @port AND schema_version < @version AND status <> 'deleted'`
	churchesChanged = `
		SELECT t.id, t.schema_version, c.from_version AS to_version, t.last_accessed_at
		FROM fleet_changes c JOIN tenants t ON t.id = c.tenant_id
		WHERE c.run_id = @undoes AND c.reached <> c.from_version AND t.schema_version = c.reached`
	churchesFailed = `
		SELECT t.id, t.schema_version, @version::int AS to_version, t.last_accessed_at
		FROM fleet_changes c JOIN tenants t ON t.id = c.tenant_id
		WHERE c.run_id = @retries AND c.state = 'failed' AND t.schema_version < @version`
	// The canaries come first, then the least used churches.
	insertChanges = `
		WITH chosen AS (
			SELECT *, CASE WHEN @canaries::text[] = '{}' THEN row_number() OVER (ORDER BY last_accessed_at NULLS FIRST, id) <= @few
				ELSE id = ANY(@canaries) END AS canary FROM (%s) churches),
		ranked AS (
			SELECT *, row_number() OVER (PARTITION BY canary ORDER BY last_accessed_at NULLS FIRST, id) - 1 AS position,
				count(*) OVER (PARTITION BY canary) AS churches FROM chosen)
		INSERT INTO fleet_changes (run_id, tenant_id, from_version, to_version, wave, position)
		SELECT @run, id, schema_version, to_version,
			CASE WHEN canary THEN 0 ELSE 1 + (SELECT count(*) FROM unnest(@shares::float8[]) share WHERE position >= ceil(share * churches)) END,
			position
		FROM ranked ON CONFLICT DO NOTHING`
	insertLate = `
		INSERT INTO fleet_changes (run_id, tenant_id, from_version, to_version, wave, position)
		SELECT @run, id, schema_version, to_version, @last_wave, row_number() OVER (ORDER BY id) FROM (%s) churches ON CONFLICT DO NOTHING`

	// Makes a statement commit without waiting for the disk.
	withoutWaiting = `(SELECT set_config('synchronous_commit', 'off', true)) without_waiting`
	flush          = `UPDATE fleet_runs SET updated_at = now() WHERE id = $1`

	// Churches with waiting requests come first, whatever their wave, but not before the canaries are done.
	claim = `
		WITH wanted AS (
			SELECT tenant_id FROM fleet_changes WHERE run_id = @run AND state = 'waiting' AND wanted_at IS NOT NULL AND @wave > 0
			ORDER BY wanted_at LIMIT 1 FOR UPDATE SKIP LOCKED),
		next AS (
			SELECT tenant_id FROM fleet_changes WHERE run_id = @run AND state = 'waiting' AND wave <= @wave AND NOT EXISTS (SELECT FROM wanted)
			ORDER BY wave, position LIMIT 1 FOR UPDATE SKIP LOCKED),
		one AS (SELECT tenant_id FROM wanted UNION ALL SELECT tenant_id FROM next)
		UPDATE fleet_changes c SET state = 'changing', attempts = attempts + 1, updated_at = now()
		FROM one LEFT JOIN tenants t ON t.id = one.tenant_id CROSS JOIN ` + withoutWaiting + `
		WHERE c.run_id = @run AND c.tenant_id = one.tenant_id
		AND EXISTS (SELECT FROM fleet_runs WHERE id = @run AND state = 'running')
		AND (SELECT count(*) FROM fleet_changes WHERE run_id = @run AND state = 'failed') < @budget
		RETURNING c.run_id, c.tenant_id, c.from_version, c.to_version, c.attempts, c.updated_at AS at, coalesce(t.signup_id, '') AS signup_id`
	selectHeld = `
		SELECT t.database_url FROM fleet_changes c LEFT JOIN tenants t ON t.id = c.tenant_id WHERE ` + held
	// A late attempt must not overwrite what a later one has done. No two claims of a church have the same time.
	held = `c.run_id = @run AND c.tenant_id = @tenant AND c.state = 'changing' AND c.updated_at = @at`
	// The same statement updates the version in the registry, which notifies the routers. A change that failed because its
	// church was removed doesn't count as failed. The first attempt finds out from which version the church is changed.
	finish = `
		WITH done AS (
			UPDATE fleet_changes c SET sqlstate = @sqlstate, error = @error, updated_at = now(), attempts = attempts - @uncounted,
				state = CASE WHEN @state = 'failed' AND NOT EXISTS (SELECT FROM tenants WHERE id = @tenant) THEN 'gone' ELSE @state END,
				from_version = CASE WHEN attempts = 1 AND reached IS NULL THEN coalesce(@began, from_version) ELSE from_version END,
				reached = coalesce(@reached, reached)
			FROM ` + withoutWaiting + ` WHERE ` + held + ` RETURNING 1)
		UPDATE tenants SET schema_version = @reached, schema_serves = @serves, schema_changed_at = now(), updated_at = now() FROM done
		WHERE id = @tenant AND schema_version <> @reached`
	// Churches that a run was changing when it was ended, and that no later run has changed.
	selectInterrupted = `
		SELECT c.run_id, c.tenant_id, c.from_version, c.to_version, c.attempts, c.updated_at AS at, coalesce(t.signup_id, '') AS signup_id
		FROM fleet_runs r JOIN fleet_changes c ON c.run_id = r.id LEFT JOIN tenants t ON t.id = c.tenant_id
		WHERE r.id = $1 AND r.state IN ('completed', 'cancelled') AND c.state = 'changing' AND NOT EXISTS (
			SELECT FROM fleet_runs later JOIN fleet_changes l ON l.run_id = later.id
			WHERE later.created_at > r.created_at AND l.tenant_id = c.tenant_id AND l.reached <> l.from_version)`
	giveAllBack = `UPDATE fleet_changes SET state = 'waiting', updated_at = now() WHERE run_id = $1 AND state = 'changing'`
	requeue     = `UPDATE fleet_changes SET state = 'waiting', attempts = 0, updated_at = now() WHERE run_id = $1 AND state = 'failed'`
	want        = `UPDATE fleet_changes SET wanted_at = now() WHERE tenant_id = $1 AND state = 'waiting' AND wanted_at IS NULL`
	tally       = `
		SELECT count(*) FILTER (WHERE state IN ('waiting', 'changing')) AS waiting, count(*) FILTER (WHERE state = 'changed') AS changed,
			count(*) FILTER (WHERE state = 'failed') AS failed, count(*) FILTER (WHERE state = 'gone') AS gone
		FROM fleet_changes WHERE run_id = $1`
	selectSpan = `
		SELECT coalesce(max(reached), 0), coalesce(min(from_version), 0)
		FROM fleet_changes WHERE run_id = $1 AND reached <> from_version`
	leftOfWave   = `SELECT count(*) FROM fleet_changes WHERE run_id = $1 AND wave <= $2 AND state = 'waiting'`
	selectFailed = `
		SELECT tenant_id, attempts, sqlstate, error, updated_at FROM fleet_changes
		WHERE run_id = $1 AND state = 'failed' ORDER BY updated_at LIMIT $2`
	countVersions = `
		SELECT database_host, database_port, schema_version, count(*) AS churches, min(schema_changed_at) AS since
		FROM tenants WHERE status <> 'deleted' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`
)

// Open enters a run and its churches. Older runs over the server that are still active here have lost their workflow, and are
// ended. Idempotent. Errors: fleet.ErrBusy if a newer run is active.
func (l *Ledger) Open(ctx context.Context, in fleet.Input) error {
	args, err := arguments(in)
	if err != nil {
		return err
	}
	source := churchesBehind
	switch {
	case in.Undoes != "":
		source = churchesChanged
	case in.Retries != "":
		source = churchesFailed
	}
	err = l.db.InTx(ctx, func(tx pgx.Tx) error {
		for _, statement := range []string{endOlderRuns, insertRun} {
			if _, err := tx.Exec(ctx, statement, args); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(insertChanges, source), args)
		return err
	})
	if sqlstate.Of(err) == sqlstate.UniqueViolation {
		return fleet.ErrBusy
	}
	if err != nil {
		return fmt.Errorf("open fleet run: %w", err)
	}
	return nil
}

// Extend adds to the end of a run the churches that are now behind its version. Idempotent.
func (l *Ledger) Extend(ctx context.Context, in fleet.Input) error {
	args, err := arguments(in)
	if err != nil {
		return err
	}
	if _, err := l.db.Exec(ctx, fmt.Sprintf(insertLate, churchesBehind), args); err != nil {
		return fmt.Errorf("extend fleet run: %w", err)
	}
	return nil
}

func arguments(in fleet.Input) (pgx.NamedArgs, error) {
	host, port, err := postgres.ParseServerName(in.Server)
	if err != nil {
		return nil, err
	}
	canaries := in.Options.Canaries
	if canaries == nil {
		canaries = []string{}
	}
	return pgx.NamedArgs{
		"run": in.RunID, "server": in.Server, "host": host, "port": port, "version": in.Version, "undoes": in.Undoes, "retries": in.Retries,
		"canaries": canaries, "few": fleet.DefaultCanaries, "shares": fleet.Shares, "last_wave": fleet.LastWave,
	}, nil
}

// Enter records a run's position. Idempotent.
func (l *Ledger) Enter(ctx context.Context, at fleet.Progress) error {
	if _, err := l.db.Exec(ctx, updateRun, at.RunID, at.Stage, at.State, at.Reason); err != nil {
		return fmt.Errorf("record fleet run: %w", err)
	}
	return nil
}

// Say records why a running run is slowed; an empty reason means that it isn't. Idempotent.
func (l *Ledger) Say(ctx context.Context, runID, reason string) error {
	if _, err := l.db.Exec(ctx, sayWhy, runID, reason); err != nil {
		return fmt.Errorf("say why a run is slow: %w", err)
	}
	return nil
}

// Claimed is a church whose turn it is.
type Claimed struct {
	RunID       string
	TenantID    string
	SignupID    string // empty if the church is gone
	FromVersion int
	ToVersion   int
	Attempts    int
	At          time.Time // of the claim
}

// Claim takes the next church of a wave. It reports false if none is left, if the run is not running, or if the
// budget of failures is used up.
func (l *Ledger) Claim(ctx context.Context, slice fleet.Slice) (claimed Claimed, ok bool, err error) {
	claimed, err = postgres.One(ctx, l.db, pgx.RowToStructByName[Claimed], claim, pgx.NamedArgs{
		"run": slice.RunID, "wave": slice.Wave, "budget": slice.Budget,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Claimed{}, false, nil
	}
	if err != nil {
		return Claimed{}, false, fmt.Errorf("claim church: %w", err)
	}
	return claimed, true, nil
}

// Hold returns the sealed URL of a claimed church's database; nil if the church is gone. Errors: ErrLost.
func (l *Ledger) Hold(ctx context.Context, c Claimed) (sealedURL []byte, err error) {
	err = l.db.QueryRow(ctx, selectHeld, c.arguments()).Scan(&sealedURL)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("check the claim on the church: %w", err)
	}
	return sealedURL, nil
}

func (c Claimed) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{"run": c.RunID, "tenant": c.TenantID, "at": c.At}
}

// Outcome is what an attempt has done with a church. Unknown versions are 0.
type Outcome struct {
	Began   int // the version that it found
	Reached int // the version at which it left the church
	Serves  int // the oldest version whose release works with Reached
}

// Changed records that a church has its new version. These methods also write to the registry the version that the church
// has. They do nothing if the claim was lost.
func (l *Ledger) Changed(ctx context.Context, c Claimed, o Outcome) error {
	return l.finish(ctx, c, o, pgx.NamedArgs{"state": "changed", "sqlstate": "", "error": "", "uncounted": 0})
}

// Failed records why a church could not be changed, unless it was removed.
func (l *Ledger) Failed(ctx context.Context, c Claimed, o Outcome, cause error) error {
	return l.finish(ctx, c, o, pgx.NamedArgs{
		"state": "failed", "sqlstate": sqlstate.Of(cause), "error": redact.Error(cause), "uncounted": 0,
	})
}

// GiveBack puts a church back in the queue.
func (l *Ledger) GiveBack(ctx context.Context, c Claimed, o Outcome) error {
	return l.finish(ctx, c, o, pgx.NamedArgs{"state": "waiting", "sqlstate": "", "error": "", "uncounted": 0})
}

// Postpone puts a church back in the queue whose change is not done when a slice ends. The attempt doesn't count.
func (l *Ledger) Postpone(ctx context.Context, c Claimed, o Outcome) error {
	return l.finish(ctx, c, o, pgx.NamedArgs{"state": "waiting", "sqlstate": "", "error": "", "uncounted": 1})
}

func (l *Ledger) finish(ctx context.Context, c Claimed, o Outcome, args pgx.NamedArgs) error {
	maps.Copy(args, c.arguments())
	for name, version := range map[string]int{"began": o.Began, "reached": o.Reached, "serves": o.Serves} {
		args[name] = pgtype.Int4{Int32: int32(version), Valid: version > 0} //nolint:gosec // versions are small
	}
	if _, err := l.db.Exec(ctx, finish, args); err != nil {
		return fmt.Errorf("record church as %s: %w", args["state"], err)
	}
	return nil
}

// Flush waits until everything that was recorded for a run is on disk. Claim, Changed and Failed don't wait for that. If
// the registry crashes, the newest records are lost, and the slice's next attempt changes these churches again, which does
// nothing.
func (l *Ledger) Flush(ctx context.Context, runID string) error {
	if _, err := l.db.Exec(ctx, flush, runID); err != nil {
		return fmt.Errorf("wait for the registry's disk: %w", err)
	}
	return nil
}

// GiveAllBack puts the churches that an interrupted attempt had claimed back in the queue.
func (l *Ledger) GiveAllBack(ctx context.Context, runID string) error {
	if _, err := l.db.Exec(ctx, giveAllBack, runID); err != nil {
		return fmt.Errorf("release churches: %w", err)
	}
	return nil
}

// Interrupted returns the churches that a run was changing when it was ended.
func (l *Ledger) Interrupted(ctx context.Context, runID string) ([]Claimed, error) {
	interrupted, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Claimed], selectInterrupted, runID)
	if err != nil {
		return nil, fmt.Errorf("list what a run was changing when it was ended: %w", err)
	}
	return interrupted, nil
}

// Requeue puts a run's failed churches back in the queue.
func (l *Ledger) Requeue(ctx context.Context, runID string) error {
	if _, err := l.db.Exec(ctx, requeue, runID); err != nil {
		return fmt.Errorf("requeue failed churches: %w", err)
	}
	return nil
}

// Want moves a church to the head of the queue, if it is in a run's queue. Idempotent.
func (l *Ledger) Want(ctx context.Context, tenantID string) error {
	if _, err := l.db.Exec(ctx, want, tenantID); err != nil {
		return fmt.Errorf("move church to the front of the queue: %w", err)
	}
	return nil
}

// Tally counts a run's churches.
func (l *Ledger) Tally(ctx context.Context, runID string) (fleet.Tally, error) {
	counted, err := postgres.One(ctx, l.db, pgx.RowToStructByName[fleet.Tally], tally, runID)
	if err != nil {
		return fleet.Tally{}, fmt.Errorf("count a run's churches: %w", err)
	}
	return counted, nil
}

// Span returns the versions that an undo of a run starts from and ends at.
func (l *Ledger) Span(ctx context.Context, runID string) (from, to int, err error) {
	if err := l.db.QueryRow(ctx, selectSpan, runID).Scan(&from, &to); err != nil {
		return 0, 0, fmt.Errorf("look up a run's versions: %w", err)
	}
	return from, to, nil
}

// Left returns how many churches of a wave and of earlier ones are still waiting.
func (l *Ledger) Left(ctx context.Context, runID string, wave int) (left int, err error) {
	if err := l.db.QueryRow(ctx, leftOfWave, runID, wave).Scan(&left); err != nil {
		return 0, fmt.Errorf("count what is left of a wave: %w", err)
	}
	return left, nil
}

// Run is a run as recorded in the ledger.
type Run struct {
	ID        string      `json:"id"`
	Server    string      `json:"server"`
	Version   int         `json:"version"`
	Undoes    string      `json:"undoes,omitempty"`
	Retries   string      `json:"retries,omitempty"`
	Stage     fleet.Stage `json:"stage"`
	State     fleet.State `json:"state"`
	Reason    string      `json:"reason,omitempty"`
	CreatedAt time.Time   `json:"createdAt"`
	UpdatedAt time.Time   `json:"updatedAt"`
}

// Run returns a run. Errors: ErrNotFound.
func (l *Ledger) Run(ctx context.Context, id string) (Run, error) {
	run, err := postgres.One(ctx, l.db, pgx.RowToStructByName[Run], oneRun, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Run{}, ErrNotFound
	}
	if err != nil {
		return Run{}, fmt.Errorf("select fleet run: %w", err)
	}
	return run, nil
}

// Runs returns the newest runs, newest first, up to most of them.
func (l *Ledger) Runs(ctx context.Context, most int) ([]Run, error) {
	runs, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Run], recentRuns, most)
	if err != nil {
		return nil, fmt.Errorf("list fleet runs: %w", err)
	}
	return runs, nil
}

// Failure is a church that could not be changed.
type Failure struct {
	TenantID  string    `json:"tenantId"`
	Attempts  int       `json:"attempts"`
	SQLState  string    `json:"sqlstate,omitempty" db:"sqlstate"`
	Error     string    `json:"error"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Failures returns a run's failed churches, at most most.
func (l *Ledger) Failures(ctx context.Context, runID string, most int) ([]Failure, error) {
	failures, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Failure], selectFailed, runID, most)
	if err != nil {
		return nil, fmt.Errorf("list a run's failures: %w", err)
	}
	return failures, nil
}

// Versions is how many churches of a server have a version.
type Versions struct {
	DatabaseHost  string
	DatabasePort  int
	SchemaVersion int
	Churches      int
	Since         time.Time // when the first of them got this version
}

// Server returns the server's name.
func (v Versions) Server() string { return postgres.ServerName(v.DatabaseHost, v.DatabasePort) }

// Versions counts the churches on each version, server by server.
func (l *Ledger) Versions(ctx context.Context) ([]Versions, error) {
	versions, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Versions], countVersions)
	if err != nil {
		return nil, fmt.Errorf("count churches by version: %w", err)
	}
	return versions, nil
}
