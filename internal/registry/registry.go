// Package registry manages the registry database: which churches exist, where each one's database is, which databases
// are ready for new churches, and which tenant an email logs in to. It seals and hashes values before they go into a
// table, so that they never reach the database in clear. The registry holds no tenant's data.
package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/audit"
	"narthex/internal/postgres"
	"narthex/internal/schema"
	"narthex/internal/secrets"
	"narthex/internal/sqltrace"
	"narthex/migrations"
)

var (
	// ErrEmailTaken means that another church's admin has this email.
	ErrEmailTaken = errors.New("the email is taken")
	// ErrUndone means that the signup or invitation has been rolled back and may not make anything any more.
	ErrUndone = errors.New("it was undone")
	// ErrCommitted means that the signup's church is open, or the invitation was offered, so nothing is left to make.
	ErrCommitted = errors.New("it has completed")
	// ErrNotOwned means that the row belongs to another signup or invitation.
	ErrNotOwned = errors.New("the row belongs to another run")
	// ErrNotFound means that there is no such row.
	ErrNotFound = errors.New("not in the registry")
	// ErrNotMigrated means that the registry's schema is older than this program.
	ErrNotMigrated = errors.New("the registry's schema is not the newest: run `narthex migrate`")
)

// Registry is the registry database. It is safe for concurrent use.
type Registry struct {
	pool *postgres.Pool
	keys *secrets.Keys
}

// leastConnections is how many connections a process may have to the registry, unless the URL allows more
// (pool_max_conns).
const leastConnections = 10

// Open returns the registry at url (postgres://…). It connects when it is first used.
func Open(ctx context.Context, url string, keys *secrets.Keys) (*Registry, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the registry's URL is malformed")
	}
	config.MaxConns = max(config.MaxConns, leastConnections)
	config.ConnConfig.Tracer = sqltrace.Tracer{}
	config.ConnConfig.RuntimeParams["search_path"] = "public"
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = postgres.IdleLimit
	pool, err := postgres.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return &Registry{pool: pool, keys: keys}, nil
}

// Pool returns the registry's connection pool, for the packages that keep other things in its database.
func (r *Registry) Pool() *postgres.Pool { return r.pool }

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

// Owner identifies the rows that a signup or an invitation makes and removes.
type Owner struct {
	RunID     string // of the saga's workflow before any reset; the rows have it as signup_id
	TenantID  string
	InviteeID string // an invitation's admin; empty for a signup
}

// Every change of a run's rows happens under the run's lock, so that a late insert never overlaps with the rollback that
// must forbid it.
const (
	lockRun     = `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`
	isUndone    = `EXISTS (SELECT FROM signup_tombstones WHERE signup_id = @signup_id)`
	isCommitted = `
		CASE WHEN @invitee_id = '' THEN EXISTS (SELECT FROM tenants WHERE id = @tenant_id AND signup_id = @signup_id AND status <> 'provisioning')
		ELSE EXISTS (SELECT FROM audit_log WHERE event = 'admin_invited' AND tenant_id = @tenant_id AND admin_id = @invitee_id) END`
	selectStanding = `SELECT ` + isUndone + `, ` + isCommitted
	// permitted ends the SELECT of an INSERT, so that it inserts nothing if the run may make nothing.
	permitted       = ` WHERE NOT ` + isUndone + ` AND NOT ` + isCommitted
	insertTombstone = `INSERT INTO signup_tombstones (signup_id, tenant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	selectHolder    = `SELECT tenant_id FROM admin_email_index WHERE email_hash = ANY($1) LIMIT 1`
)

// Permit returns nil while the run may still make something. Errors: ErrUndone, ErrCommitted.
func (r *Registry) Permit(ctx context.Context, owner Owner) error { return permit(ctx, r.pool, owner) }

func permit(ctx context.Context, db postgres.DB, owner Owner) error {
	err := scanStanding(db.QueryRow(ctx, selectStanding, owner.args(nil)))
	if err != nil && !errors.Is(err, ErrUndone) && !errors.Is(err, ErrCommitted) {
		return fmt.Errorf("check the run's state: %w", err)
	}
	return err
}

// scanStanding reads selectStanding's row. Errors: ErrUndone, ErrCommitted.
func scanStanding(row pgx.Row) error {
	var undone, committed bool
	switch err := row.Scan(&undone, &committed); {
	case err != nil:
		return err
	case undone:
		return ErrUndone
	case committed:
		return ErrCommitted
	}
	return nil
}

// args adds the owner to the arguments of a statement.
func (o Owner) args(args pgx.NamedArgs) pgx.NamedArgs {
	if args == nil {
		args = pgx.NamedArgs{}
	}
	args["tenant_id"], args["signup_id"], args["invitee_id"] = o.TenantID, o.RunID, o.InviteeID
	return args
}

// Tombstone records that the run is being rolled back. From then on it can make nothing. Idempotent.
// Errors: ErrCommitted, if it has completed and there is nothing to roll back.
func (r *Registry) Tombstone(ctx context.Context, owner Owner) error {
	return r.remove(ctx, owner, "")
}

// EmailHolder returns the tenant that a normalised email logs in to, or "".
func (r *Registry) EmailHolder(ctx context.Context, email string) (tenantID string, err error) {
	hashes, err := r.keys.EmailIndexes(email)
	if err != nil {
		return "", err
	}
	err = r.pool.QueryRow(ctx, selectHolder, hashes).Scan(&tenantID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look up email: %w", err)
	}
	return tenantID, nil
}

// ownedRow is the SQL for a row that has its run's id: an INSERT … SELECT … WHERE permitted … ON CONFLICT (id) DO
// NOTHING, and a SELECT of the row's owner.
type ownedRow struct{ insert, owner string }

// insert inserts a row for owner. An existing row must be owner's, made by an earlier attempt whose answer was lost;
// otherwise the error is ErrNotOwned. A row that is missing afterwards was refused because of its email. All statements
// are sent together as one transaction. locks are taken in addition to the run's own.
func (r *Registry) insert(ctx context.Context, owner Owner, sql ownedRow, args pgx.NamedArgs, locks ...string) error {
	args = owner.args(args)
	var batch pgx.Batch
	for _, lock := range append([]string{owner.RunID}, locks...) {
		batch.Queue(lockRun, lock)
	}
	var standing error
	batch.Queue(selectStanding, args).QueryRow(func(row pgx.Row) error {
		standing = scanStanding(row)
		return nil
	})
	batch.Queue(sql.insert, args)
	var rowOwner string
	batch.Queue(sql.owner, args).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&rowOwner)
		if errors.Is(err, pgx.ErrNoRows) {
			rowOwner, err = "", nil
		}
		return err
	})
	err := r.pool.SendBatch(ctx, &batch)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23505" && emailConstraints[pgErr.ConstraintName] {
		return ErrEmailTaken
	}
	switch {
	case err != nil:
		return err
	case standing != nil:
		return standing
	case rowOwner == "":
		return ErrEmailTaken
	case rowOwner != owner.RunID:
		return ErrNotOwned
	}
	return nil
}

var emailConstraints = map[string]bool{
	"churches_email_hash_key":          true,
	"admins_email_hash_key":            true,
	"admin_email_index_email_hash_key": true,
}

// remove tombstones the run and deletes owner's row, in one transaction. The statement takes @tenant_id and
// @signup_id; an empty one writes only the tombstone. A completed run is left alone: ErrCommitted.
func (r *Registry) remove(ctx context.Context, owner Owner, statement string) error {
	return r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRun, owner.RunID); err != nil {
			return err
		}
		if err := permit(ctx, tx, owner); err != nil && !errors.Is(err, ErrUndone) {
			return err
		}
		tombstoned, err := tx.Exec(ctx, insertTombstone, owner.RunID, owner.TenantID)
		if err == nil && tombstoned.RowsAffected() == 1 {
			failed := audit.SignupFailed
			if owner.InviteeID != "" {
				failed = audit.InvitationFailed
			}
			err = audit.Write(ctx, tx, audit.Event{Kind: failed, TenantID: owner.TenantID})
		}
		if err != nil {
			return fmt.Errorf("write tombstone: %w", err)
		}
		if statement == "" {
			return nil
		}
		_, err = tx.Exec(ctx, statement, pgx.NamedArgs{"tenant_id": owner.TenantID, "signup_id": owner.RunID})
		return err
	})
}

// sealEmail seals an email for the email column of a table.
func (r *Registry) sealEmail(table string, owner Owner, email string) ([]byte, error) {
	return r.keys.Seal([]byte(email), emailPlace(table, owner.TenantID))
}

func emailPlace(table, tenantID string) secrets.Place {
	return secrets.Place{Table: "registry." + table, Column: "email", Tenant: tenantID}
}
