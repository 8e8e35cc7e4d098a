// Package registry keeps the registry database: which churches there are, where each one's database
// is, and which tenant an email logs in to. What is sealed or hashed is sealed and hashed here, on its
// way into the table, so that a value in clear never reaches the database. It holds no tenant's data.
package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/schema"
	"narthex/internal/secrets"
	"narthex/internal/sqltrace"
	"narthex/migrations"
)

var (
	// ErrEmailTaken: another church's admin has this email.
	ErrEmailTaken = errors.New("the email is taken")
	// ErrUndone: the signup has been rolled back, so nothing of it may be made any more.
	ErrUndone = errors.New("the signup was undone")
	// ErrCommitted: the signup's church is open, or the invitation was offered, so it has nothing left to make.
	ErrCommitted = errors.New("the signup has ended well")
	// ErrNotOwned: the row belongs to another signup.
	ErrNotOwned = errors.New("the row belongs to another signup")
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not in the registry")
	// ErrNotMigrated: the registry's schema is older than this program.
	ErrNotMigrated = errors.New("the registry's schema is not the newest: run `narthex migrate`")
)

// Registry is the registry database. It is safe for concurrent use.
type Registry struct {
	pool *pgxpool.Pool
	keys *secrets.Keys
}

// leastConnections is how many connections a process may have to the registry, unless its URL says more
// (pool_max_conns).
const leastConnections = 10

// idleLimit ends a transaction whose process was frozen: it holds locks that others wait for.
const idleLimit = "15s"

// Open returns the registry at url (postgres://…), to which it connects when it is first asked.
func Open(ctx context.Context, url string, keys *secrets.Keys) (*Registry, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the registry's URL is malformed")
	}
	config.MaxConns = max(config.MaxConns, leastConnections)
	config.ConnConfig.Tracer = sqltrace.Tracer{}
	config.ConnConfig.RuntimeParams["search_path"] = "public"
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = idleLimit
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return &Registry{pool: pool, keys: keys}, nil
}

// Close closes the registry's connections.
func (r *Registry) Close() { r.pool.Close() }

// Ready reports whether the registry answers and has the schema that this program needs.
// Errors: ErrNotMigrated, or why it did not answer.
func (r *Registry) Ready(ctx context.Context) error {
	version, err := schema.Version(ctx, r.pool)
	if err != nil {
		return fmt.Errorf("look at the registry: %w", err)
	}
	if version < migrations.RegistryVersion() {
		return ErrNotMigrated
	}
	return nil
}

// Owner says whose rows a signup, or an invitation, makes and removes.
type Owner struct {
	SignupID  string // or the invitation's
	TenantID  string
	InviteeID string // an invitation's admin; empty for a signup
}

// All that happens to a signup's rows happens under its lock, so that a late insert and the rollback
// that must forbid it never overlap.
const (
	lockSignup     = `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`
	selectStanding = `
		SELECT EXISTS (SELECT FROM signup_tombstones WHERE signup_id = $1),
			CASE WHEN $3 = '' THEN EXISTS (SELECT FROM tenants WHERE id = $2 AND signup_id = $1 AND status <> 'provisioning')
			ELSE EXISTS (SELECT FROM audit_log WHERE event = 'admin_invited' AND tenant_id = $2 AND admin_id = $3) END`
	buryTombstone  = `INSERT INTO signup_tombstones (signup_id, tenant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	emailHashTaken = `SELECT EXISTS (SELECT FROM admin_email_index WHERE email_hash = ANY($1))`
)

// Permit returns nil while the signup may make something. Errors: ErrUndone, ErrCommitted.
func (r *Registry) Permit(ctx context.Context, owner Owner) error { return permit(ctx, r.pool, owner) }

func permit(ctx context.Context, q querier, owner Owner) error {
	var undone, committed bool
	if err := q.QueryRow(ctx, selectStanding, owner.SignupID, owner.TenantID, owner.InviteeID).Scan(&undone, &committed); err != nil {
		return fmt.Errorf("look how the signup stands: %w", err)
	}
	switch {
	case undone:
		return ErrUndone
	case committed:
		return ErrCommitted
	}
	return nil
}

// querier is what a pool and a transaction have in common.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Bury records that the signup is being rolled back: from then on it can make nothing. Idempotent.
// Errors: ErrCommitted, when there is nothing to roll back any more.
func (r *Registry) Bury(ctx context.Context, owner Owner) error {
	return r.remove(ctx, owner, "")
}

// EmailTaken reports whether a normalised email logs in to a church.
func (r *Registry) EmailTaken(ctx context.Context, email string) (taken bool, err error) {
	hashes, err := r.keys.EmailIndexes(email)
	if err != nil {
		return false, err
	}
	if err := r.pool.QueryRow(ctx, emailHashTaken, hashes).Scan(&taken); err != nil {
		return false, fmt.Errorf("look up email: %w", err)
	}
	return taken, nil
}

// insert runs an INSERT … ON CONFLICT (id) DO NOTHING for owner, if the signup is permitted to. A row
// that is there already is owner's own (an earlier attempt's, whose answer was lost), or ErrNotOwned.
// before, if not nil, runs first in the same transaction.
func (r *Registry) insert(ctx context.Context, owner Owner, statement, ownerOf string, args pgx.NamedArgs, before func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSignup, owner.SignupID); err != nil {
			return err
		}
		if err := permit(ctx, tx, owner); err != nil {
			return err
		}
		if before != nil {
			if err := before(tx); err != nil {
				return err
			}
		}
		args["tenant_id"], args["signup_id"] = owner.TenantID, owner.SignupID
		tag, err := tx.Exec(ctx, statement, args)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		var rowOwner string
		if err := tx.QueryRow(ctx, ownerOf, args).Scan(&rowOwner); err != nil {
			return err
		}
		if rowOwner != owner.SignupID {
			return ErrNotOwned
		}
		return nil
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23505" && emailConstraints[pgErr.ConstraintName] {
		return ErrEmailTaken
	}
	return err
}

var emailConstraints = map[string]bool{
	"churches_email_hash_key":          true,
	"admins_email_hash_key":            true,
	"admin_email_index_email_hash_key": true,
}

// remove buries the signup and runs a DELETE of owner's row, in one transaction. The statement takes
// @tenant_id and @signup_id; an empty one only buries. What has come to its end is left alone: ErrCommitted.
func (r *Registry) remove(ctx context.Context, owner Owner, statement string) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSignup, owner.SignupID); err != nil {
			return err
		}
		if err := permit(ctx, tx, owner); err != nil && !errors.Is(err, ErrUndone) {
			return err
		}
		buried, err := tx.Exec(ctx, buryTombstone, owner.SignupID, owner.TenantID)
		if err == nil && buried.RowsAffected() == 1 {
			failed := EventSignupFailed
			if owner.InviteeID != "" {
				failed = EventInvitationFailed
			}
			err = audit(ctx, tx, Event{Kind: failed, TenantID: owner.TenantID})
		}
		if err != nil {
			return fmt.Errorf("write tombstone: %w", err)
		}
		if statement == "" {
			return nil
		}
		_, err = tx.Exec(ctx, statement, pgx.NamedArgs{"tenant_id": owner.TenantID, "signup_id": owner.SignupID})
		return err
	})
}

// sealEmail seals an email for the email column of one table.
func (r *Registry) sealEmail(table string, owner Owner, email string) ([]byte, error) {
	return r.keys.Seal([]byte(email), emailPlace(table, owner.TenantID))
}

func emailPlace(table, tenantID string) secrets.Place {
	return secrets.Place{Table: "registry." + table, Column: "email", Tenant: tenantID}
}
