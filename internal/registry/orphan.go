package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/orphan"
	"narthex/internal/postgres"
)

const (
	selectInstallation = `SELECT installation FROM key_checks WHERE id = $1`
	selectLocations    = `SELECT id, database_name, database_host, database_port, status FROM tenants`
	// Churches that were never opened, with the signups that made them.
	selectHalves = `
		SELECT c.id, c.id AS tenant_id, c.signup_id FROM churches c LEFT JOIN tenants t ON t.id = c.id
		WHERE t.id IS NULL OR t.status = 'provisioning'`
	// Entries of the email index have their admins' ids. An invited admin whom no invitation offers a password is left by a
	// terminated invitation, unless it is still running.
	selectEntries = `
		SELECT e.id, e.tenant_id, e.signup_id FROM (
			SELECT id, tenant_id, signup_id FROM admin_email_index i WHERE NOT EXISTS (SELECT FROM admins a WHERE a.id = i.admin_id)
			UNION ALL
			SELECT id, tenant_id, signup_id FROM admins a
			WHERE password_hash = '' AND NOT EXISTS (SELECT FROM invitations i WHERE i.admin_id = a.id)
		) e JOIN tenants t ON t.id = e.tenant_id WHERE t.status <> 'provisioning'`
	sightOrphan = `
		INSERT INTO orphans (kind, server, id, tenant_id, signup_id, half_dropped, first_seen_at, last_seen_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
		ON CONFLICT ON CONSTRAINT orphans_pkey DO UPDATE
		SET half_dropped = excluded.half_dropped, last_seen_at = excluded.last_seen_at, updated_at = now()`
	// What a search no longer finds isn't an orphan any more. Orphans that an operator keeps are remembered.
	forgetUnseen = `
		DELETE FROM orphans o WHERE server = ANY($1) AND NOT kept
		AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[], $4::text[]) AS seen (kind, server, id)
			WHERE seen.kind = o.kind AND seen.server = o.server AND seen.id = o.id)`
	selectOrphans = `
		SELECT kind, server, id, tenant_id, signup_id, half_dropped, first_seen_at, last_seen_at, renamed_at, kept
		FROM orphans ORDER BY first_seen_at, kind, id`
	countOrphans = `SELECT kind, count(*) FROM orphans WHERE NOT kept AND last_seen_at > $1 GROUP BY kind`
	keepOrphan   = `UPDATE orphans SET kept = $2, updated_at = now() WHERE id = $1`
	markRenamed  = `UPDATE orphans SET renamed_at = $4, updated_at = now() WHERE kind = $1 AND server = $2 AND id = $3`
	forgetOrphan = `DELETE FROM orphans WHERE kind = $1 AND server = $2 AND id = $3`
	selectStatus = `SELECT status FROM tenants WHERE id = $1`
	isKept       = `SELECT kept FROM orphans WHERE kind = $1 AND server = $2 AND id = $3`
	deleteEntry  = `DELETE FROM admin_email_index i WHERE id = $1 AND NOT EXISTS (SELECT FROM admins a WHERE a.id = i.admin_id)`
)

// Installation returns the id that tells this registry's tenants from another's. CheckKeys has created it.
func (r *Registry) Installation(ctx context.Context) (id string, err error) {
	if err := r.pool.QueryRow(ctx, selectInstallation, keyCheck).Scan(&id); err != nil {
		return "", fmt.Errorf("read the registry's installation: %w", err)
	}
	return id, nil
}

// Location is where a tenant's database is, according to the registry.
type Location struct {
	ID           string
	DatabaseName string
	DatabaseHost string
	DatabasePort int
	Status       string
}

// Server returns the server's name.
func (p Location) Server() string { return postgres.ServerName(p.DatabaseHost, p.DatabasePort) }

// Open reports whether there is a church and it was opened at some time.
func (p Location) Open() bool { return p.ID != "" && p.Status != StatusProvisioning }

// Locations returns the locations of all tenants, by tenant id.
func (r *Registry) Locations(ctx context.Context) (map[string]Location, error) {
	locations, err := postgres.All(ctx, r.pool, pgx.RowToStructByName[Location], selectLocations)
	if err != nil {
		return nil, fmt.Errorf("list tenants' locations: %w", err)
	}
	byID := make(map[string]Location, len(locations))
	for _, location := range locations {
		byID[location.ID] = location
	}
	return byID, nil
}

// Suspects returns what may be an orphan in the registry: rows of churches that were never opened, entries of the email
// index without an admin, and invited admins without an invitation.
func (r *Registry) Suspects(ctx context.Context) (suspects []orphan.Orphan, err error) {
	for _, q := range []struct {
		kind  orphan.Kind
		query string
	}{{orphan.Rows, selectHalves}, {orphan.Entry, selectEntries}} {
		found, err := postgres.All(ctx, r.pool, pgx.RowToStructByNameLax[orphan.Orphan], q.query)
		if err != nil {
			return nil, fmt.Errorf("list %s that may be orphans: %w", q.kind, err)
		}
		for _, o := range found {
			o.Kind = q.kind
			suspects = append(suspects, o)
		}
	}
	return suspects, nil
}

// Sight records what a sweep has seen at time now, and forgets what it has not seen on the servers that it
// has searched and in the registry.
func (r *Registry) Sight(ctx context.Context, seen []orphan.Orphan, searched []string, now time.Time) error {
	searched = append([]string{""}, searched...)
	kinds, servers, ids := make([]string, len(seen)), make([]string, len(seen)), make([]string, len(seen))
	for i, o := range seen {
		kinds[i], servers[i], ids[i] = string(o.Kind), o.Server, o.ID
	}
	err := r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetUnseen, searched, kinds, servers, ids); err != nil {
			return err
		}
		var batch pgx.Batch
		for _, o := range seen {
			batch.Queue(sightOrphan, o.Kind, o.Server, o.ID, o.TenantID, o.SignupID, o.HalfDropped, now)
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
	if err != nil {
		return fmt.Errorf("record orphans: %w", err)
	}
	return nil
}

// Orphans returns what the last sweeps have seen, the oldest first.
func (r *Registry) Orphans(ctx context.Context) ([]orphan.Orphan, error) {
	orphans, err := postgres.All(ctx, r.pool, pgx.RowToStructByNameLax[orphan.Orphan], selectOrphans)
	if err != nil {
		return nil, fmt.Errorf("list orphans: %w", err)
	}
	return orphans, nil
}

// CountOrphans returns how many orphans of each kind sweeps have seen since a time, without those that are kept.
func (r *Registry) CountOrphans(ctx context.Context, since time.Time) (map[orphan.Kind]int, error) {
	type count struct {
		Kind  orphan.Kind
		Count int
	}
	counts, err := postgres.All(ctx, r.pool, pgx.RowToStructByPos[count], countOrphans, since)
	if err != nil {
		return nil, fmt.Errorf("count orphans: %w", err)
	}
	byKind := map[orphan.Kind]int{}
	for _, c := range counts {
		byKind[c.Kind] = c.Count
	}
	return byKind, nil
}

// KeepOrphan protects an orphan from all sweeps, or lets them remove it again. Errors: ErrNotFound.
func (r *Registry) KeepOrphan(ctx context.Context, id string, keep bool) error {
	tag, err := r.pool.Exec(ctx, keepOrphan, id, keep)
	if err != nil {
		return fmt.Errorf("keep orphan: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("orphan: %w", ErrNotFound)
	}
	return nil
}

// OrphanKept reports whether, since an orphan was found, an operator has said to keep it, or it has gone.
func (r *Registry) OrphanKept(ctx context.Context, o orphan.Orphan) (kept bool, err error) {
	err = r.pool.QueryRow(ctx, isKept, o.Kind, o.Server, o.ID).Scan(&kept)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at orphan: %w", err)
	}
	return kept, nil
}

// OrphanRenamed records that an orphan's database was renamed.
func (r *Registry) OrphanRenamed(ctx context.Context, o orphan.Orphan, now time.Time) error {
	if _, err := r.pool.Exec(ctx, markRenamed, o.Kind, o.Server, o.ID, now); err != nil {
		return fmt.Errorf("record renaming: %w", err)
	}
	return nil
}

// ForgetOrphan deletes the record of an orphan that no longer exists.
func (r *Registry) ForgetOrphan(ctx context.Context, o orphan.Orphan) error {
	if _, err := r.pool.Exec(ctx, forgetOrphan, o.Kind, o.Server, o.ID); err != nil {
		return fmt.Errorf("forget orphan: %w", err)
	}
	return nil
}

// TombstoneOrphan keeps a signup from making anything from now on, unless a church with its tenant id is open, whichever
// signup opened it. It writes no audit event, because the signup failed earlier. Idempotent. Errors: ErrCommitted.
func (r *Registry) TombstoneOrphan(ctx context.Context, owner Owner) error {
	return r.pool.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRun, owner.RunID); err != nil {
			return fmt.Errorf("lock run: %w", err)
		}
		var status string
		err := tx.QueryRow(ctx, selectStatus, owner.TenantID).Scan(&status)
		if err == nil && status != StatusProvisioning {
			return ErrCommitted // opened by this signup, or by another with the same input
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look at tenant: %w", err)
		}
		if _, err := tx.Exec(ctx, insertTombstone, owner.RunID, owner.TenantID); err != nil {
			return fmt.Errorf("write tombstone: %w", err)
		}
		return nil
	})
}

// DeleteRows removes all registry rows of a signup whose church was never opened. Idempotent.
// Errors: ErrCommitted.
func (r *Registry) DeleteRows(ctx context.Context, owner Owner) error {
	if err := r.TombstoneOrphan(ctx, owner); err != nil {
		return err
	}
	for _, statement := range []string{deleteEmailEntry, deleteAdmin, deleteTenant, deleteChurch} {
		if err := r.remove(ctx, owner, statement); err != nil {
			return fmt.Errorf("delete a signup's rows: %w", err)
		}
	}
	return nil
}

// DeleteEntry removes an entry of the email index if its admin is gone. Idempotent.
func (r *Registry) DeleteEntry(ctx context.Context, id string) error {
	if _, err := r.pool.Exec(ctx, deleteEntry, id); err != nil {
		return fmt.Errorf("delete email index entry: %w", err)
	}
	return nil
}
