// Package reseal rewrites sealed values and blind indexes under the primary keys. The values themselves
// show what is left to do, because they begin with their key's id, so an interrupted run can simply be
// started again. It knows no table by name.
package reseal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/secrets"
)

// Table says which columns of a table are sealed. Its rows have an id.
type Table struct {
	Scope   string           // the prefix of the place for which its values are sealed: Scope.Name
	Name    string           // its name in SQL
	Tenant  string           // the column with the tenant's id; empty if the whole database belongs to one tenant
	Sealed  []string         // bytea columns
	Indexes map[string]Index // columns with a blind index
}

// Index describes a blind index.
type Index struct {
	Column    string // the sealed column that is indexed
	Kind      string // of the purpose
	PerTenant bool
}

// DB is a connection or a pool.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const (
	batchSize   = 100
	lockedPause = 100 * time.Millisecond
)

// Job is a table to reseal.
type Job struct {
	Table
	TenantID string // the tenant of all rows if the table has no tenant column
	// Done is called after each batch, in its transaction, with the tenant of each of its rows.
	Done func(tx pgx.Tx, tenants []string) error
}

// Run reseals a table's rows while others use them, with a transaction for each batch. Idempotent. Errors: Done's, and
// secrets.ErrSealed for a value whose key is missing.
func Run(ctx context.Context, db DB, keys *secrets.Keys, job Job) error {
	for {
		var resealed int
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			tenants, err := job.batch(ctx, tx, keys, job.TenantID)
			resealed = len(tenants)
			if err == nil && resealed > 0 {
				err = job.Done(tx, tenants)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("reseal %s: %w", job.Name, err)
		}
		if resealed > 0 {
			continue
		}
		left, err := Count(ctx, db, keys, job.Table)
		if err != nil || left == 0 {
			return err
		}
		select { // the remaining rows are locked by others
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockedPause):
		}
	}
}

// Count returns how many of a table's rows are to be resealed.
func Count(ctx context.Context, db DB, keys *secrets.Keys, table Table) (n int, err error) {
	query := fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s`, table.Name, table.stale())
	if err := db.QueryRow(ctx, query, keys.SealPrefix(), keys.IndexPrefix()).Scan(&n); err != nil {
		return 0, fmt.Errorf("count what to reseal in %s: %w", table.Name, err)
	}
	return n, nil
}

// stale returns the condition that a row has a value under another key than $1 (seal) or $2 (index).
func (t Table) stale() string {
	conditions := []string{"$2::text IS NULL"} // never true; it makes sure that both parameters are used
	for _, column := range t.Sealed {
		conditions = append(conditions, fmt.Sprintf("substring(%s FROM 1 FOR 5) <> $1", column))
	}
	for _, column := range t.indexColumns() {
		conditions = append(conditions, fmt.Sprintf("left(%s, length($2)) <> $2", column))
	}
	return strings.Join(conditions, " OR ")
}

func (t Table) indexColumns() []string { return slices.Sorted(maps.Keys(t.Indexes)) }

// batch reseals some rows that are not locked, and returns their tenants.
func (t Table) batch(ctx context.Context, tx pgx.Tx, keys *secrets.Keys, tenantID string) (tenants []string, err error) {
	tenant := "$3::text"
	if t.Tenant != "" {
		tenant = "coalesce(" + t.Tenant + ", $3)"
	}
	query := fmt.Sprintf(`SELECT id, %s, %s FROM %s WHERE %s ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED`,
		tenant, strings.Join(t.Sealed, ", "), t.Name, t.stale(), batchSize)
	rows, _ := tx.Query(ctx, query, keys.SealPrefix(), keys.IndexPrefix(), tenantID)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return nil, err
	}
	updates := &pgx.Batch{}
	for _, row := range found {
		owner := row[1].(string)
		values, err := t.fresh(keys, owner, row[2:])
		if err != nil {
			return nil, fmt.Errorf("row %v: %w", row[0], err)
		}
		updates.Queue(t.update(), append([]any{row[0]}, values...)...)
		tenants = append(tenants, owner)
	}
	return tenants, tx.SendBatch(ctx, updates).Close()
}

// update returns the SQL that sets the sealed columns and then the indexes, in order, from $2 on. NULL indexes stay NULL.
func (t Table) update() string {
	var set []string
	for i, column := range t.Sealed {
		set = append(set, fmt.Sprintf("%s = $%d", column, i+2))
	}
	for i, column := range t.indexColumns() {
		set = append(set, fmt.Sprintf("%[1]s = CASE WHEN %[1]s IS NOT NULL THEN $%[2]d END", column, i+2+len(t.Sealed)))
	}
	return fmt.Sprintf(`UPDATE %s SET %s WHERE id = $1`, t.Name, strings.Join(set, ", "))
}

// fresh returns the arguments for update.
func (t Table) fresh(keys *secrets.Keys, tenantID string, sealed []any) (values []any, err error) {
	plain := map[string]string{}
	for i, column := range t.Sealed {
		old, ok := sealed[i].([]byte)
		if !ok {
			values = append(values, nil) // NULL stays NULL
			continue
		}
		place := secrets.Place{Table: t.Scope + "." + t.Name, Column: column, Tenant: tenantID}
		opened, err := keys.Open(old, place)
		if err != nil {
			return nil, err
		}
		resealed, err := keys.Seal(opened, place)
		if err != nil {
			return nil, err
		}
		plain[column] = string(opened)
		values = append(values, resealed)
	}
	for _, column := range t.indexColumns() {
		of := t.Indexes[column]
		value, ok := plain[of.Column]
		if !ok {
			values = append(values, nil)
			continue
		}
		purpose := secrets.Purpose{Kind: of.Kind}
		if of.PerTenant {
			purpose.Tenant = tenantID
		}
		index, err := keys.Index(purpose, value)
		if err != nil {
			return nil, err
		}
		values = append(values, index)
	}
	return values, nil
}
