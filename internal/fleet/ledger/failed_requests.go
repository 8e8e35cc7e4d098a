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
	// A canary is compared with what it was before its change for as long as its run goes on.
	deleteFailed = `
		DELETE FROM failed_requests f WHERE created_at < now() - interval '2 hours' AND NOT EXISTS (
			SELECT FROM fleet_runs r JOIN fleet_changes c ON c.run_id = r.id
			WHERE r.state IN ('running', 'paused', 'halted') AND c.tenant_id = f.tenant_id AND c.wave = 0)`
	// What was counted over the moment of the change is on neither side of it. At most an hour is compared: what is older is gone.
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

// Canary is a church of wave 0 that was changed.
type Canary struct {
	TenantID string
	SignupID string

	FailedSince  int // requests since its change,
	FailedBefore int // and in the same time before, at least in 5 minutes
}

// Canaries returns a run's canaries. If the run was resumed later than they were changed, what failed is compared with the time
// before that.
func (l *Ledger) Canaries(ctx context.Context, runID string, resumed time.Time) ([]Canary, error) {
	canaries, err := postgres.All(ctx, l.db, pgx.RowToStructByName[Canary], selectCanaries, pgx.NamedArgs{"run": runID, "resumed": resumed})
	if err != nil {
		return nil, fmt.Errorf("list canaries: %w", err)
	}
	return canaries, nil
}

// Sample returns one of a run's canaries, at random; none if they are gone.
func (l *Ledger) Sample(ctx context.Context, runID string) (canary Canary, err error) {
	err = l.db.QueryRow(ctx, selectSample, runID).Scan(&canary.TenantID, &canary.SignupID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Canary{}, fmt.Errorf("choose a canary: %w", err)
	}
	return canary, nil
}

// FailedRequests counts requests of churches that failed, and enters the counts in the registry every few seconds. It is safe for
// concurrent use.
type FailedRequests struct {
	db  *postgres.Pool
	log *slog.Logger

	mu     sync.Mutex
	since  time.Time
	counts map[string]int
}

// NewFailedRequests counts for the registry database. Keep enters what was counted.
func NewFailedRequests(registry *postgres.Pool, log *slog.Logger) *FailedRequests {
	return &FailedRequests{db: registry, log: log, since: time.Now(), counts: map[string]int{}}
}

const (
	reportPause  = 10 * time.Second
	reportLimit  = 3 * time.Second
	mostChurches = 10_000 // that a report names: if more fail at once, it isn't because of their schema
)

// Count counts a request of a church.
func (f *FailedRequests) Count(tenantID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts[tenantID] > 0 || len(f.counts) < mostChurches {
		f.counts[tenantID]++
	}
}

// Keep enters the counts until ctx ends.
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

// Report enters what was counted since the last time. What can't be entered is forgotten: while the registry is away, no church
// is served as usual.
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
		f.log.Warn("The registry did not hear of requests that failed", "error", redact.Error(err))
	}
}

// Tidy forgets what failed hours ago. Idempotent.
func (f *FailedRequests) Tidy(ctx context.Context) error {
	if _, err := f.db.Exec(ctx, deleteFailed); err != nil {
		return fmt.Errorf("tidy failed requests: %w", err)
	}
	return nil
}
