package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PooledDatabase is a database that is ready to be claimed by a signup.
type PooledDatabase struct {
	ID            string // ULID
	Server        string // host:port
	Template      string // that it is a copy of
	SchemaVersion int
}

// Stock is how many databases of one kind are ready.
type Stock struct {
	Server        string    `json:"server"` // host:port
	Template      string    `json:"template"`
	SchemaVersion int       `json:"schemaVersion"`
	Ready         int       `json:"ready"`
	OldestAt      time.Time `json:"oldestAt"`
}

const (
	insertPooled = `INSERT INTO database_pool (id, server, template, schema_version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	claimPooled  = `
		DELETE FROM database_pool WHERE id = (
			SELECT id FROM database_pool WHERE server = $1 AND template = $2 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id`
	deletePooled = `DELETE FROM database_pool WHERE id = $1`
	countPooled  = `SELECT count(*) FROM database_pool WHERE server = $1 AND template = $2`
	selectPooled = `SELECT id, server, template, schema_version FROM database_pool`
	selectStock  = `
		SELECT server, template, schema_version, count(*) AS ready, min(created_at) AS oldest_at
		FROM database_pool GROUP BY server, template, schema_version ORDER BY server, schema_version DESC, template`
)

// AddPooled offers a database that is ready. Idempotent.
func (r *Registry) AddPooled(ctx context.Context, d PooledDatabase) error {
	if _, err := r.pool.Exec(ctx, insertPooled, d.ID, d.Server, d.Template, d.SchemaVersion); err != nil {
		return fmt.Errorf("add to the pool: %w", err)
	}
	return nil
}

// ClaimPooled takes a copy of a template on a server out of the pool, and returns its id, "" where there is
// none. No other gets the same, and who does not use it leaves it to KeepPool to be dropped.
func (r *Registry) ClaimPooled(ctx context.Context, server, template string) (id string, err error) {
	err = r.pool.QueryRow(ctx, claimPooled, server, template).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("claim from the pool: %w", err)
	}
	return id, nil
}

// RemovePooled takes a database out of the pool, and reports whether it was in it.
func (r *Registry) RemovePooled(ctx context.Context, id string) (bool, error) {
	tag, err := r.pool.Exec(ctx, deletePooled, id)
	if err != nil {
		return false, fmt.Errorf("remove from the pool: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// CountPooled returns how many copies of a template are ready on a server.
func (r *Registry) CountPooled(ctx context.Context, server, template string) (n int, err error) {
	if err := r.pool.QueryRow(ctx, countPooled, server, template).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the pool: %w", err)
	}
	return n, nil
}

// Pooled returns what is in the pool, of all servers and templates.
func (r *Registry) Pooled(ctx context.Context) ([]PooledDatabase, error) {
	rows, _ := r.pool.Query(ctx, selectPooled)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[PooledDatabase])
	if err != nil {
		return nil, fmt.Errorf("list the pool: %w", err)
	}
	return all, nil
}

// Stock returns how many databases are ready, by server and template.
func (r *Registry) Stock(ctx context.Context) ([]Stock, error) {
	rows, _ := r.pool.Query(ctx, selectStock)
	stock, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stock])
	if err != nil {
		return nil, fmt.Errorf("count the pool: %w", err)
	}
	return stock, nil
}
