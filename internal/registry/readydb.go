package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
)

// ReadyDatabase is a database that a signup can claim.
type ReadyDatabase struct {
	ID            string // ULID
	Server        string // host:port
	Template      string // from which it was copied
	SchemaVersion int
}

// ReadyStock is how many databases of one kind are ready.
type ReadyStock struct {
	Server        string    `json:"server"` // host:port
	Template      string    `json:"template"`
	SchemaVersion int       `json:"schemaVersion"`
	Ready         int       `json:"ready"`
	OldestAt      time.Time `json:"oldestAt"`
}

// The table keeps its old name: during a rollout, the older release's workers claim from it too.
const (
	insertReady = `INSERT INTO database_pool (id, server, template, schema_version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	claimReady  = `
		DELETE FROM database_pool WHERE id = (
			SELECT id FROM database_pool WHERE server = $1 AND template = $2 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id`
	deleteReady      = `DELETE FROM database_pool WHERE id = $1`
	countReady       = `SELECT count(*) FROM database_pool WHERE server = $1 AND template = $2`
	selectReady      = `SELECT id, server, template, schema_version FROM database_pool`
	selectReadyStock = `
		SELECT server, template, schema_version, count(*) AS ready, min(created_at) AS oldest_at
		FROM database_pool GROUP BY server, template, schema_version ORDER BY server, schema_version DESC, template`
)

// AddReadyDatabase offers a ready database. Idempotent.
func (r *Registry) AddReadyDatabase(ctx context.Context, d ReadyDatabase) error {
	if _, err := r.pool.Exec(ctx, insertReady, d.ID, d.Server, d.Template, d.SchemaVersion); err != nil {
		return fmt.Errorf("offer ready database: %w", err)
	}
	return nil
}

// ClaimReadyDatabase claims a copy of a template on a server, and returns its id, or "" if there is none. No other claim
// gets the same copy. If it isn't used, KeepPool drops it.
func (r *Registry) ClaimReadyDatabase(ctx context.Context, server, template string) (id string, err error) {
	err = r.pool.QueryRow(ctx, claimReady, server, template).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("claim ready database: %w", err)
	}
	return id, nil
}

// RemoveReadyDatabase withdraws the offer of a database, and reports whether there was one.
func (r *Registry) RemoveReadyDatabase(ctx context.Context, id string) (bool, error) {
	tag, err := r.pool.Exec(ctx, deleteReady, id)
	if err != nil {
		return false, fmt.Errorf("withdraw ready database: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// CountReadyDatabases returns how many copies of a template are ready on a server.
func (r *Registry) CountReadyDatabases(ctx context.Context, server, template string) (n int, err error) {
	if err := r.pool.QueryRow(ctx, countReady, server, template).Scan(&n); err != nil {
		return 0, fmt.Errorf("count ready databases: %w", err)
	}
	return n, nil
}

// ReadyDatabases returns the ready databases of all servers and templates.
func (r *Registry) ReadyDatabases(ctx context.Context) ([]ReadyDatabase, error) {
	all, err := postgres.All(ctx, r.pool, pgx.RowToStructByName[ReadyDatabase], selectReady)
	if err != nil {
		return nil, fmt.Errorf("list ready databases: %w", err)
	}
	return all, nil
}

// ReadyStock returns how many databases are ready, by server and template.
func (r *Registry) ReadyStock(ctx context.Context) ([]ReadyStock, error) {
	stock, err := postgres.All(ctx, r.pool, pgx.RowToStructByName[ReadyStock], selectReadyStock)
	if err != nil {
		return nil, fmt.Errorf("count ready databases: %w", err)
	}
	return stock, nil
}
