package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/sqlstate"
)

// What the first lines of a migration file may say.
const (
	outsideTransaction = "-- no transaction"    // its only statement is repeatable, but can't run in a transaction
	isSafe             = "-- safe for data: "   // in a down file: why it loses no data
	isBackfill         = "-- backfill: "        // table.key: its only statement changes rows, batch by batch
	isCompatible       = "-- compatible with: " // in an up file: the oldest version whose release works with it
)

// Step is one migration file, which takes a live database from one version to the next, or back.
type Step struct {
	From, To      int
	File          string
	SQL           string
	InTransaction bool
	Safe          string // of a step back: why no data is lost; empty if some may be
	Backfill      *Backfill
	Compatible    int // of a step forward: the oldest version whose release works after it

	// Until, unless it is zero, is when a backfill that isn't done pauses.
	Until time.Time

	// BeforeCommit, if not nil, is called in the step's transaction once its statements have run.
	BeforeCommit func(context.Context, pgx.Tx) error
}

// Steps returns the steps from one version to another, in the order in which they run. Errors: a version has no file, or a
// migration has no down file.
func Steps(files fs.FS, from, to int) ([]Step, error) {
	low, high, direction := from, to, "up"
	if from > to {
		low, high, direction = to, from, "down"
	}
	var steps []Step
	for version := low + 1; version <= high; version++ {
		step, err := readStep(files, version, direction)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	if from > to {
		slices.Reverse(steps)
	}
	return steps, nil
}

func readStep(files fs.FS, version int, direction string) (Step, error) {
	pattern := fmt.Sprintf("%06d_*.%s.sql", version, direction)
	names, err := fs.Glob(files, pattern)
	if err != nil || len(names) != 1 {
		return Step{}, fmt.Errorf("there are %d migrations %s, want one", len(names), pattern)
	}
	content, err := fs.ReadFile(files, names[0])
	if err != nil {
		return Step{}, fmt.Errorf("read migration: %w", err)
	}
	step := Step{From: version - 1, To: version, File: names[0], SQL: string(content), InTransaction: true}
	step.Compatible = version
	if direction == "down" {
		step.From, step.To = step.To, step.From
	}
	for line := range strings.Lines(step.SQL) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "--") {
			break
		}
		if line == outsideTransaction {
			step.InTransaction = false
		}
		if why, ok := strings.CutPrefix(line, isSafe); ok {
			step.Safe = why
		}
		if oldest, ok := strings.CutPrefix(line, isCompatible); ok {
			step.Compatible, err = strconv.Atoi(oldest)
			if err != nil {
				return Step{}, fmt.Errorf("%s: %q is not a version", step.File, oldest)
			}
		}
		if what, ok := strings.CutPrefix(line, isBackfill); ok {
			step.Backfill, err = parseBackfill(what, step.SQL)
			if err != nil {
				return Step{}, fmt.Errorf("%s: %w", step.File, err)
			}
		}
	}
	return step, nil
}

// Serves returns the oldest version whose release works with a database at version, as stated in the migrations.
func Serves(files fs.FS, version int) (oldest int, err error) {
	for oldest = version; oldest > 1; oldest-- {
		steps, err := Steps(files, oldest-1, version)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(steps, func(s Step) bool { return s.Compatible > oldest-1 }) {
			break
		}
	}
	return oldest, nil
}

const (
	lockVersion = `SELECT version, dirty FROM narthex_migrations.versions FOR UPDATE`
	setVersion  = `UPDATE narthex_migrations.versions SET version = $1, dirty = $2`

	flush = `RESET synchronous_commit; UPDATE narthex_migrations.versions SET version = version`

	selectTableOfInvalid = `SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid`
	lockOutBuilders      = `LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE` // held by CREATE INDEX CONCURRENTLY; others read and write
	dropIndex            = `DROP INDEX CONCURRENTLY IF EXISTS `
)

// ErrPaused means that a backfill has stopped between two batches, because its time was over. It continues there.
var ErrPaused = errors.New("the backfill has paused")

// ErrVersion means that the database is not at the version at which the step starts.
var ErrVersion = errors.New("the schema has another version")

// Take runs a step on conn's database, which may be in use. A step in a transaction commits together with its version or
// not at all. Any other step is marked dirty while it runs, and an invalid index that an interrupted attempt has left is replaced.
// Idempotent. Errors: ErrVersion, ErrPaused, ErrEndless, or what PostgreSQL said.
func Take(ctx context.Context, conn *pgx.Conn, step Step) error {
	err := takeWithVersion(ctx, conn, step)
	if err != nil {
		return fmt.Errorf("%s: %w", step.File, err)
	}
	return nil
}

// Flush waits until everything that conn has committed is on disk, even if the commits themselves didn't wait for that.
func Flush(ctx context.Context, conn *pgx.Conn) error {
	if err := execAll(ctx, conn, flush); err != nil {
		return fmt.Errorf("wait for the disk: %w", err)
	}
	return nil
}

func takeWithVersion(ctx context.Context, conn *pgx.Conn, step Step) error {
	switch {
	case step.Backfill != nil:
		return backfill(ctx, conn, step)
	case !step.InTransaction:
		return takeOutside(ctx, conn, step)
	}
	wasDirty := false
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		due, dirty, err := isDue(ctx, tx, step)
		if err != nil || !due {
			return err
		}
		wasDirty = dirty
		if err := execAll(ctx, conn, step.SQL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, setVersion, step.To, false); err != nil || step.BeforeCommit == nil {
			return err
		}
		return step.BeforeCommit(ctx, tx)
	})
	if wasDirty && sqlstate.AlreadyThere(err) { // the attempt that left it dirty was interrupted after its commit
		_, err = conn.Exec(ctx, setVersion, step.To, false)
	}
	return err
}

func takeOutside(ctx context.Context, conn *pgx.Conn, step Step) error {
	due, wasDirty := false, false
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		due, wasDirty, err = isDue(ctx, tx, step)
		if err != nil || !due {
			return err
		}
		_, err = tx.Exec(ctx, setVersion, step.To, true) // as golang-migrate does
		return err
	})
	if err != nil || !due {
		return err
	}
	index := builtIndex(step.SQL)
	if wasDirty {
		if err := dropInvalid(ctx, conn, index); err != nil {
			return fmt.Errorf("drop invalid index %s: %w", index, err)
		}
	}
	if err := execAll(ctx, conn, step.SQL); err != nil {
		return err
	}
	skipped, err := tableOfInvalid(ctx, conn, index)
	if err != nil {
		return err
	}
	if skipped != "" { // IF NOT EXISTS doesn't look; the next attempt finds the version dirty
		return fmt.Errorf("index %s is invalid", index)
	}
	_, err = conn.Exec(ctx, setVersion, step.To, false)
	return err
}

// isDue locks the version. It reports whether the step still has to run, and whether an interrupted attempt has left the
// version dirty: an attempt outside a transaction, or one of golang-migrate, which sets the version before and after a
// migration.
func isDue(ctx context.Context, tx pgx.Tx, step Step) (due, dirty bool, err error) {
	var version int
	if err := tx.QueryRow(ctx, lockVersion).Scan(&version, &dirty); err != nil {
		return false, false, fmt.Errorf("read schema version: %w", err)
	}
	switch {
	case dirty && version == step.To:
		return true, true, nil
	case dirty:
		return false, true, ErrDirty
	case version == step.To:
		return false, false, nil
	case version != step.From:
		return false, false, fmt.Errorf("%d, want %d: %w", version, step.From, ErrVersion)
	}
	return true, false, nil
}

// execAll runs the statements of a file unchanged.
func execAll(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

var createIndex = regexp.MustCompile(
	`(?im)^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?("(?:[^"]|"")+"|[\w$]+)\s+ON\b`)

// builtIndex returns the name of the index that a file builds, as SQL; empty if it builds none.
func builtIndex(sql string) string {
	found := createIndex.FindStringSubmatch(sql)
	if found == nil {
		return ""
	}
	return "public." + found[1]
}

// tableOfInvalid returns an invalid index's table, as SQL; empty if the index is valid or doesn't exist.
func tableOfInvalid(ctx context.Context, conn *pgx.Conn, index string) (table string, err error) {
	if index == "" {
		return "", nil
	}
	err = conn.QueryRow(ctx, selectTableOfInvalid, index).Scan(&table)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look for an invalid index: %w", err)
	}
	return table, nil
}

// dropInvalid drops an index if it is invalid and nobody is building it: a builder holds a lock on the table until the index
// is valid. Errors: what PostgreSQL said, which is sqlstate.LockNotAvailable if somebody builds it for longer than the lock
// timeout.
func dropInvalid(ctx context.Context, conn *pgx.Conn, index string) error {
	table, err := tableOfInvalid(ctx, conn, index)
	if err != nil || table == "" {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(lockOutBuilders, table)); err != nil {
			return err
		}
		table, err = tableOfInvalid(ctx, conn, index)
		return err
	})
	if err != nil || table == "" {
		return err
	}
	return execAll(ctx, conn, dropIndex+index)
}
