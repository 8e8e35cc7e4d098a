package schema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Backfill is a step that changes rows in batches by a key. Its file has one statement, with the comment /* batch */ in place
// of a batch's condition. Without a condition, the statement changes all rows: that is how golang-migrate runs it in a new
// database, which has no rows.
type Backfill struct {
	Table, Key string
}

const (
	batchMark  = "/* batch */"
	batchSize  = 1000                  // number of rows in a batch
	batchPause = 10 * time.Millisecond // minimum; the pause is otherwise as long as the batch took, so that others get their turn
	mostPause  = 5 * time.Second       // PostgreSQL ends a session that is idle for longer than postgres.IdleLimit
)

var backfillForm = regexp.MustCompile(`^([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)$`)

func parseBackfill(what, sql string) (*Backfill, error) {
	words := backfillForm.FindStringSubmatch(strings.TrimSpace(what))
	if words == nil {
		return nil, fmt.Errorf("%q is not TABLE.KEY", what)
	}
	if strings.Count(sql, batchMark) != 1 {
		return nil, errors.New("a backfill must have the comment " + batchMark + " once, where the batch's condition goes")
	}
	return &Backfill{Table: words[1], Key: words[2]}, nil
}

const (
	createPositions = `
		CREATE TABLE IF NOT EXISTS narthex_migrations.backfills (version integer PRIMARY KEY, position text NOT NULL)`
	selectPosition = `SELECT position FROM narthex_migrations.backfills WHERE version = $1`
	savePosition   = `
		INSERT INTO narthex_migrations.backfills (version, position) VALUES ($1, $2)
		ON CONFLICT (version) DO UPDATE SET position = excluded.position`
	forgetPosition = `DELETE FROM narthex_migrations.backfills WHERE version = $1`
	// The key of the last row of the batch after a position, which is NULL before the first.
	selectBatchEnd = `
		SELECT max(%[2]s)::text FROM (SELECT %[2]s FROM %[1]s WHERE $1::text IS NULL OR %[2]s > $1::text::%[3]s ORDER BY %[2]s LIMIT $2) batch`
	selectKeyType = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2`
)

// backfill runs a step that changes rows. An interrupted backfill continues where it stopped.
func backfill(ctx context.Context, conn *pgx.Conn, step Step) error {
	due := false
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		due, _, err = isDue(ctx, tx, step)
		if err != nil || !due {
			return err
		}
		_, err = tx.Exec(ctx, createPositions)
		return err
	})
	if err != nil || !due {
		return err
	}
	var keyType string
	if err := conn.QueryRow(ctx, selectKeyType, step.Backfill.Table, step.Backfill.Key).Scan(&keyType); err != nil {
		return fmt.Errorf("look at the backfill's key: %w", err)
	}
	for {
		began := time.Now()
		more, err := nextBatch(ctx, conn, step, keyType)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if !step.Until.IsZero() && time.Now().After(step.Until) {
			return ErrPaused
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(max(batchPause, time.Since(began)), mostPause)):
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetPosition, step.To); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, setVersion, step.To, false)
		return err
	})
}

// nextBatch changes the rows after the stored position, and stores the new position in the same transaction.
func nextBatch(ctx context.Context, conn *pgx.Conn, step Step, keyType string) (more bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var after, end *string
		if err := tx.QueryRow(ctx, selectPosition, step.To).Scan(&after); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read the backfill's position: %w", err)
		}
		b := step.Backfill
		find := fmt.Sprintf(selectBatchEnd, b.Table, b.Key, keyType)
		if err := tx.QueryRow(ctx, find, after, batchSize).Scan(&end); err != nil {
			return fmt.Errorf("find the backfill's next batch: %w", err)
		}
		more = end != nil
		if !more {
			return nil
		}
		condition := fmt.Sprintf("AND ($1::text IS NULL OR %[1]s > $1::text::%[2]s) AND %[1]s <= $2::text::%[2]s", b.Key, keyType)
		if _, err := tx.Exec(ctx, strings.Replace(step.SQL, batchMark, condition, 1), after, end); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, savePosition, step.To, end)
		return err
	})
	return more, err
}
