package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/redact"
)

const (
	insertFailed = `
		INSERT INTO failed_requests (tenant_id, since, requests)
		SELECT tenant_id, now() - @over::interval, requests FROM unnest(@tenants::text[], @requests::int[]) AS failed (tenant_id, requests)
		ON CONFLICT ON CONSTRAINT failed_requests_pkey DO UPDATE
		SET requests = failed_requests.requests + excluded.requests, updated_at = now()`
	// While a run is active, its canaries' failures are compared with those before the change, so these are kept.
	deleteFailed = `
		DELETE FROM failed_requests f WHERE created_at < now() - interval '2 hours' AND NOT EXISTS (
			SELECT FROM fleet_runs r JOIN fleet_changes c ON c.run_id = r.id
			WHERE r.state IN ('running', 'paused', 'halted') AND c.tenant_id = f.tenant_id AND c.wave = 0)`
	// A count that spans the moment of the change is left out. At most an hour is compared, because older counts may be
	// deleted.
	selectCanaries = `
		SELECT t.id AS tenant_id, t.signup_id,
			(SELECT coalesce(sum(requests), 0) FROM failed_requests f
				WHERE f.tenant_id = t.id AND f.since >= change.at AND f.created_at > now() - span) AS failed_since,
			(SELECT coalesce(sum(requests), 0) FROM failed_requests f
				WHERE f.tenant_id = t.id AND f.created_at <= change.at AND f.created_at > change.at - span) AS failed_before
		FROM fleet_changes c JOIN tenants t ON t.id = c.tenant_id
		CROSS JOIN LATERAL (SELECT greatest(c.updated_at, @resumed) AS at) change
		CROSS JOIN LATERAL (SELECT least(greatest(now() - change.at, interval '5 minutes'), interval '1 hour') AS span) compared
		WHERE c.run_id = @run AND c.wave = 0 AND c.state = 'changed' ORDER BY t.id`
	selectSample = `
		SELECT t.id, t.signup_id FROM fleet_changes c JOIN tenants t ON t.id = c.tenant_id
		WHERE c.run_id = $1 AND c.wave = 0 ORDER BY random() LIMIT 1`
)

// Canary is a changed church of wave 0.
type Canary struct {
	TenantID string
	SignupID string

	FailedSince  int // requests since its change,
	FailedBefore int // and in the same time before it, at least 5 minutes
}

// Canaries returns a run's canaries. If the run was resumed after their change, failures are compared before and after the
// resume.
func (l *Ledger) Canaries(ctx context.Context, runID string, resumed time.Time) ([]Canary, error) {
	canaries, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Canary], selectCanaries, pgx.NamedArgs{"run": runID, "resumed": resumed})
	if err != nil {
		return nil, fmt.Errorf("list canaries: %w", err)
	}
	return canaries, nil
}

// Sample returns a random canary of a run, or the zero Canary if all are gone.
func (l *Ledger) Sample(ctx context.Context, runID string) (canary Canary, err error) {
	err = l.db.QueryRow(ctx, selectSample, runID).Scan(&canary.TenantID, &canary.SignupID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Canary{}, fmt.Errorf("choose a canary: %w", err)
	}
	return canary, nil
}

// FailedRequests counts churches' failed requests, and writes the counts to the registry every few seconds. It is safe for
// concurrent use.
type FailedRequests struct {
	db  *postgres.Pool
	log *slog.Logger

	mu     sync.Mutex
	since  time.Time
	counts map[string]int
}

// NewFailedRequests counts for the registry database. Keep writes the counts.
func NewFailedRequests(registry *postgres.Pool, log *slog.Logger) *FailedRequests {
	return &FailedRequests{db: registry, log: log, since: time.Now(), counts: map[string]int{}}
}

const (
	reportPause  = 10 * time.Second
	reportLimit  = 3 * time.Second
	mostChurches = 10_000 // in a report: if more fail at once, their schema isn't the cause
)

// Count counts a church's failed request.
func (f *FailedRequests) Count(tenantID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts[tenantID] > 0 || len(f.counts) < mostChurches {
		f.counts[tenantID]++
	}
}

// Keep writes the counts until ctx ends.
func (f *FailedRequests) Keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(reportPause):
			f.Report(ctx)
		}
	}
}

// Report writes what was counted since the last report. Counts that can't be written are dropped: while the registry is
// down, no church is served normally anyway.
func (f *FailedRequests) Report(ctx context.Context) {
	f.mu.Lock()
	counts, over := f.counts, time.Since(f.since)
	f.counts, f.since = map[string]int{}, time.Now()
	f.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	var tenants []string
	var requests []int
	for id, n := range counts {
		tenants, requests = append(tenants, id), append(requests, n)
	}
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	_, err := f.db.Exec(ctx, insertFailed, pgx.NamedArgs{"over": over, "tenants": tenants, "requests": requests})
	if err != nil {
		f.log.Warn("Failed requests could not be recorded in the registry", "error", redact.Error(err))
	}
}

// Tidy deletes counts that are hours old. Idempotent.
func (f *FailedRequests) Tidy(ctx context.Context) error {
	if _, err := f.db.Exec(ctx, deleteFailed); err != nil {
		return fmt.Errorf("tidy failed requests: %w", err)
	}
	return nil
}
