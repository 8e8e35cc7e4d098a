package tenantdb

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/secrets"
)

// ErrNotFound means that the church has no such row.
var ErrNotFound = errors.New("no such row")

// Church is what a request may know about its church from the registry.
type Church struct {
	ID                 string // the tenant's id too
	Name               string
	Email              string // opened
	SubscriptionStatus string
	TrialEndsAt        time.Time
}

// Tenant is a church's own database. Only a Router makes one, and it must be released.
type Tenant struct {
	Church
	router   *Router
	pool     *pool
	released atomic.Bool
}

// Release gives the tenant back. Idempotent.
func (t *Tenant) Release() {
	if t != nil && t.released.CompareAndSwap(false, true) {
		t.router.release(t.pool)
	}
}

// DB is a church's own database: a Tenant, or a Tx on one.
type DB interface {
	do(ctx context.Context, sql string, run func(conn *pgx.Conn) error) error
	note(ctx context.Context, err error) error
}

// Tx is a transaction on a church's own database.
type Tx struct {
	conn   *pgx.Conn
	tenant *Tenant
}

// One returns the only row of a query. Its columns have the names of T's fields in snake case. Errors:
// ErrNotFound, ErrBusy, ErrDown, or what PostgreSQL said.
func One[T any](ctx context.Context, db DB, sql string, args ...any) (T, error) {
	return one(ctx, db, pgx.RowToStructByName[T], sql, args...)
}

func one[T any](ctx context.Context, db DB, scan pgx.RowToFunc[T], sql string, args ...any) (row T, err error) {
	err = db.do(ctx, sql, func(conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, sql, args...)
		row, err = pgx.CollectExactlyOneRow(rows, scan)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, ErrNotFound
	}
	return row, db.note(ctx, err)
}

// All returns the rows of a query, as One does. If there are none, it returns an empty slice and no error.
func All[T any](ctx context.Context, db DB, sql string, args ...any) (all []T, err error) {
	err = db.do(ctx, sql, func(conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, sql, args...)
		all, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	})
	return all, db.note(ctx, err)
}

// Exec runs a statement and returns how many rows it touched. Errors as One's.
func Exec(ctx context.Context, db DB, sql string, args ...any) (rows int64, err error) {
	err = db.do(ctx, sql, func(conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, sql, args...)
		rows = tag.RowsAffected()
		return err
	})
	return rows, db.note(ctx, err)
}

// InTx runs do in a transaction, which is rolled back if do fails. If the connection turns out to be useless, do is called
// again on a new one.
func (t *Tenant) InTx(ctx context.Context, do func(tx *Tx) error) error {
	return t.note(ctx, t.pool.InTx(ctx, func(tx pgx.Tx) error { return do(&Tx{tx.Conn(), t}) }))
}

func (t *Tenant) do(ctx context.Context, sql string, run func(conn *pgx.Conn) error) error {
	return t.pool.Do(ctx, sql, run)
}

func (t *Tenant) note(ctx context.Context, err error) error { return t.router.note(ctx, t.pool, err) }

func (tx *Tx) do(_ context.Context, _ string, run func(conn *pgx.Conn) error) error {
	return run(tx.conn)
}

func (tx *Tx) note(ctx context.Context, err error) error { return tx.tenant.note(ctx, err) }

// Statements returns the SQL that this package runs on a church's database, by name. Lists returns the arguments of the
// listing statements. A church whose schema has changed is probed with them.
func Statements() map[string]string {
	return map[string]string{
		"selectAdmin": selectAdmin, "selectAdmins": selectAdmins, "touchLogin": touchLogin, "insertAdmin": insertAdmin,
		"deleteNamesake": deleteNamesake, "deleteAdmin": deleteAdmin, "deleteInvited": deleteInvited, "updatePasswordHash": updatePasswordHash,
	}
}

// Lists returns the arguments of some of Statements.
func Lists() map[string][]any { return map[string][]any{"selectAdmins": {"", 50}} }

// Kinds of the blind indexes of members. Each index covers one church, so it does not reveal that two
// churches have the same number.
const (
	MemberPhone = "member phone"
	MemberEmail = "member email"
)

// Seal encrypts a value for a column of one of the church's tables.
func (t *Tenant) Seal(table, column, value string) ([]byte, error) {
	return t.router.keys.Seal([]byte(value), t.place(table, column))
}

// Open decrypts what Seal made for the same column. Errors: secrets.ErrSealed.
func (t *Tenant) Open(table, column string, sealed []byte) (string, error) {
	plain, err := t.router.keys.Open(sealed, t.place(table, column))
	return string(plain), err
}

func (t *Tenant) place(table, column string) secrets.Place {
	return secrets.Place{Table: "tenant." + table, Column: column, Tenant: t.ID}
}

// Index returns the church's blind index of a normalised value.
func (t *Tenant) Index(kind, value string) (string, error) {
	return t.router.keys.Index(secrets.Purpose{Kind: kind, Tenant: t.ID}, value)
}

// Indexes returns the index under each key, to find values that were indexed earlier.
func (t *Tenant) Indexes(kind, value string) ([]string, error) {
	return t.router.keys.Indexes(secrets.Purpose{Kind: kind, Tenant: t.ID}, value)
}
