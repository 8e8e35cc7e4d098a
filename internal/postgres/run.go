package postgres

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/sqlstate"
)

// Do calls do, which must run the single statement sql. do may be called twice. If it is unknown whether the statement
// ran, only a read, which begins with SELECT, is retried.
func (p *Pool) Do(ctx context.Context, sql string, do func(conn *pgx.Conn) error) error {
	repeatable := refused
	if isRead(sql) {
		repeatable = lost
	}
	return p.run(ctx, repeatable, do)
}

// Exec runs a statement.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = p.Do(ctx, sql, func(conn *pgx.Conn) (err error) {
		tag, err = conn.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

// QueryRow returns the row of a query. The query runs when the row is scanned.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return row(func(dest []any) error {
		return p.Do(ctx, sql, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, sql, args...).Scan(dest...) })
	})
}

type row func(dest []any) error

// Scan runs the query and reads its row.
func (r row) Scan(dest ...any) error { return r(dest) }

// One returns the only row of a query. Errors: pgx.ErrNoRows, pgx.ErrTooManyRows.
func One[T any](ctx context.Context, p *Pool, scan pgx.RowToFunc[T], sql string, args ...any) (one T, err error) {
	err = p.Do(ctx, sql, func(conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, sql, args...)
		one, err = pgx.CollectExactlyOneRow(rows, scan)
		return err
	})
	return one, err
}

// All returns the rows of a query.
func All[T any](ctx context.Context, p *Pool, scan pgx.RowToFunc[T], sql string, args ...any) (all []T, err error) {
	err = p.Do(ctx, sql, func(conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, sql, args...)
		all, err = pgx.CollectRows(rows, scan)
		return err
	})
	return all, err
}

// SendBatch runs a batch as one transaction. The batch's functions may be called twice.
func (p *Pool) SendBatch(ctx context.Context, batch *pgx.Batch) error {
	return p.run(ctx, refused, func(conn *pgx.Conn) error {
		var fresh pgx.Batch // a batch that was sent remembers its connection's prepared statements
		for _, query := range batch.QueuedQueries {
			fresh.Queue(query.SQL, query.Arguments...).Fn = query.Fn
		}
		return conn.SendBatch(ctx, &fresh).Close()
	})
}

// InTx runs do in a transaction, which is rolled back if do fails. Nothing is certain before the commit, so do may be
// called twice.
func (p *Pool) InTx(ctx context.Context, do func(tx pgx.Tx) error) error {
	committing := false
	repeatable := func(err error) bool {
		return !committing && lost(err)
	}
	return p.run(ctx, repeatable, func(conn *pgx.Conn) error {
		committing = false
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			err := do(tx)
			committing = err == nil
			return err
		})
	})
}

// run runs do. It retries do if the connection was closed with a repeatable error, or if a prepared statement was
// out of date.
func (p *Pool) run(ctx context.Context, repeatable func(error) bool, do func(conn *pgx.Conn) error) error {
	again, err := p.try(ctx, repeatable, do)
	if again {
		_, err = p.try(ctx, repeatable, do)
	}
	return err
}

func (p *Pool) try(ctx context.Context, repeatable func(error) bool, do func(conn *pgx.Conn) error) (again bool, err error) {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer pooled.Release()
	conn := pooled.Conn()
	err = do(conn)
	if err == nil || ctx.Err() != nil {
		return false, err
	}
	if planChanged(err) && conn.DeallocateAll(ctx) == nil {
		err = do(conn)
	}
	if err == nil || !conn.IsClosed() {
		return false, err
	}
	if lost(err) {
		p.suspect(conn.PgConn(), 0)
	}
	return repeatable(err), err
}

func isRead(sql string) bool {
	const read = "SELECT"
	sql = strings.TrimSpace(sql)
	return len(sql) > len(read) && strings.EqualFold(sql[:len(read)], read)
}

const (
	readOnly      = "25006"
	adminShutdown = "57P01"
	crashShutdown = "57P02"
	cannotConnect = "57P03"
	exceptions    = "08" // class of broken connections
)

// endsConnection reports whether a connection is useless after its server has reported this state.
func endsConnection(state string) bool {
	switch state {
	case readOnly, adminShutdown, crashShutdown, cannotConnect:
		return true
	}
	return strings.HasPrefix(state, exceptions)
}

// refused reports whether a statement outside a transaction block was certainly not committed. That is also true for
// adminShutdown: PostgreSQL answers with it only if it aborts the transaction. After a commit that it can no longer
// report, it closes the connection without an answer.
func refused(err error) bool {
	switch sqlstate.Of(err) {
	case readOnly, adminShutdown, cannotConnect:
		return true
	}
	// pgx calls a closed connection safe to retry even if it was closed instead of an answer.
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

var breaks = []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, pgconn.ErrConnClosed}

// lost reports whether a connection broke, or was closed because its server is useless. What ran may have been committed.
func lost(err error) bool {
	broken := func(cause error) bool { return errors.Is(err, cause) }
	return refused(err) || endsConnection(sqlstate.Of(err)) || slices.ContainsFunc(breaks, broken)
}

// planChanged reports whether a column's type has changed since the connection prepared a statement.
func planChanged(err error) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && reported.Code == "0A000" && reported.Routine == "RevalidateCachedQuery"
}
