package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/fleet"
	"narthex/internal/postgres"
)

// Sample is a church whose copy is used to rehearse a run.
type Sample struct {
	TenantID      string
	SignupID      string
	SchemaVersion int
	Why           string
}

// Each church gets only one reason.
const selectSamples = `
	WITH behind AS (
		SELECT t.id AS tenant_id, t.signup_id, t.schema_version, t.created_at FROM tenants t JOIN (` + churchesBehind + `) b ON b.id = t.id),
	chosen AS (
		(SELECT *, 'largest' AS why, 1 AS rank FROM behind WHERE tenant_id = ANY(@largest)
			ORDER BY array_position(@largest::text[], tenant_id) LIMIT 1)
		UNION ALL (SELECT *, 'oldest', 2 FROM behind ORDER BY created_at, tenant_id LIMIT 1)
		UNION ALL (SELECT *, 'random', 3 FROM behind ORDER BY random() LIMIT 1))
	SELECT DISTINCT ON (tenant_id) tenant_id, signup_id, schema_version, why FROM chosen ORDER BY tenant_id, rank`

// Samples chooses churches for a rehearsal: the first of largest that is behind, the oldest and a random one. It also
// returns how many churches are behind. If no church is behind, there are no samples.
func (l *Ledger) Samples(ctx context.Context, in fleet.Input, largest []string) (samples []Sample, behind int, err error) {
	args, err := arguments(in)
	if err != nil {
		return nil, 0, err
	}
	args["largest"] = largest
	if err := l.db.QueryRow(ctx, `SELECT count(*) FROM (`+churchesBehind+`) churches`, args).Scan(&behind); err != nil {
		return nil, 0, fmt.Errorf("count churches that are behind: %w", err)
	}
	samples, err = postgres.All(ctx, l.db, pgx.RowToStructByName[Sample], selectSamples, args)
	if err != nil {
		return nil, 0, fmt.Errorf("choose churches to rehearse on: %w", err)
	}
	return samples, behind, nil
}
