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

// ErrEndless means that a backfill found more and more rows.
var ErrEndless = errors.New("rows are added faster than the backfill changes them")

const (
	createBackfills = `
		CREATE TABLE IF NOT EXISTS narthex_migrations.backfills (
			version  integer PRIMARY KEY,
			position text, -- the key of the last row that was changed; NULL before the first batch
			last     text, -- the greatest key when the backfill began; NULL if there were no rows
			batches  integer NOT NULL -- how many may follow
		)`
	// Twice as many batches as there are rows for, and some for a small table. An attempt after ErrEndless gets new ones.
	beginBackfill = `
		INSERT INTO narthex_migrations.backfills (version, last, batches) SELECT $1, max(%[2]s)::text, 10 + 2 * count(*) / $2 FROM %[1]s
		ON CONFLICT (version) DO UPDATE SET batches = excluded.batches WHERE backfills.batches <= 0`
	selectBackfill = `SELECT position, last, batches FROM narthex_migrations.backfills WHERE version = $1`
	saveBackfill   = `UPDATE narthex_migrations.backfills SET position = $2, batches = $3 WHERE version = $1`
	forgetBackfill = `DELETE FROM narthex_migrations.backfills WHERE version = $1`
	// The key of the last row of the batch after a position.
	selectBatchEnd = `SELECT max(%[2]s)::text FROM (SELECT %[2]s FROM %[1]s WHERE true %[3]s ORDER BY %[2]s LIMIT $3) batch`
	isInBatch      = `AND ($1::text IS NULL OR %[1]s > $1::text::%[2]s) AND %[1]s <= $2::text::%[2]s`
	selectKeyType  = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2`
)

// progress is how far a backfill is. An attempt reads it once, because the church can write to the table where it is stored.
type progress struct {
	position, last *string
	batches        int
}

// backfill runs a step that changes the rows that there are when it begins. An interrupted backfill continues where it stopped.
func backfill(ctx context.Context, conn *pgx.Conn, step Step) error {
	due, at := false, progress{}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		due, _, err = isDue(ctx, tx, step)
		if err != nil || !due {
			return err
		}
		at, err = begin(ctx, tx, step)
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
		more, err := at.nextBatch(ctx, conn, step, keyType)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		// With no batch left it is done or endless: that isn't put off, because the next attempt would get new batches.
		if at.batches > 0 && !step.Until.IsZero() && time.Now().After(step.Until) {
			return ErrPaused
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(max(batchPause, time.Since(began)), mostPause)):
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetBackfill, step.To); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, setVersion, step.To, false)
		return err
	})
}

// begin stores where a new backfill ends, and returns how far this one is.
func begin(ctx context.Context, tx pgx.Tx, step Step) (at progress, err error) {
	if _, err := tx.Exec(ctx, createBackfills); err != nil {
		return at, err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(beginBackfill, step.Backfill.Table, step.Backfill.Key), step.To, batchSize); err != nil {
		return at, fmt.Errorf("look for the backfill's end: %w", err)
	}
	err = tx.QueryRow(ctx, selectBackfill, step.To).Scan(&at.position, &at.last, &at.batches)
	if err != nil {
		return at, fmt.Errorf("read the backfill's position: %w", err)
	}
	return at, nil
}

// nextBatch changes the rows after the position, and stores the new position in the same transaction.
func (at *progress) nextBatch(ctx context.Context, conn *pgx.Conn, step Step, keyType string) (more bool, err error) {
	b := step.Backfill
	condition := fmt.Sprintf(isInBatch, b.Key, keyType)
	var end *string
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		find := fmt.Sprintf(selectBatchEnd, b.Table, b.Key, condition)
		if err := tx.QueryRow(ctx, find, at.position, at.last, batchSize).Scan(&end); err != nil {
			return fmt.Errorf("find the backfill's next batch: %w", err)
		}
		if end == nil {
			return nil
		}
		if at.batches <= 0 {
			return ErrEndless
		}
		if _, err := tx.Exec(ctx, strings.Replace(step.SQL, batchMark, condition, 1), at.position, end); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, saveBackfill, step.To, end, at.batches-1)
		return err
	})
	if err != nil || end == nil {
		return false, err
	}
	at.position = end
	at.batches--
	return true, nil
}
