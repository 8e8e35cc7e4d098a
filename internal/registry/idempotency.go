package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/secrets"
)

// ErrKeyReused means that the idempotency key was first sent with another request.
var ErrKeyReused = errors.New("the idempotency key belongs to another request")

// Reservation is a signup under an idempotency key: what it was first asked for with.
type Reservation struct {
	KeyID       []byte // keyed hash of the idempotency key
	RequestHash []byte // keyed hash of the request
	TenantID    string
	Input       []byte // stored sealed
	Run         Run    // the zero value until the signup has been started
}

// Run is a signup that was started.
type Run struct {
	ID       string // of the workflow's run
	PublicID string // as the API gave it out
}

const (
	insertReservation = `
		INSERT INTO idempotency_keys (id, request_hash, tenant_id, input) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`
	selectReservation = `SELECT request_hash, tenant_id, input, coalesce(run_id, ''), coalesce(public_id, '') FROM idempotency_keys WHERE id = $1`
	lockReservation   = selectReservation + ` FOR UPDATE`
	updateReservation = `UPDATE idempotency_keys SET run_id = $2, public_id = $3, updated_at = now() WHERE id = $1`
)

// Reservation returns what is reserved under a key. Errors: ErrNotFound, ErrKeyReused.
func (r *Registry) Reservation(ctx context.Context, keyID, requestHash []byte) (Reservation, error) {
	return r.readReservation(r.pool.QueryRow(ctx, selectReservation, keyID), keyID, requestHash)
}

// Reserve keeps wanted under its key, unless something is kept there already, and returns what is. Then,
// if that has no run yet, start is called and gives it one. However many processes ask at once, one of
// them starts, once; if it dies in between, the next one's start must find out. Errors: ErrKeyReused,
// start's.
func (r *Registry) Reserve(ctx context.Context, wanted Reservation, start func(kept Reservation) (Run, error)) (Reservation, error) {
	sealed, err := r.keys.Seal(wanted.Input, inputPlace(wanted.TenantID))
	if err != nil {
		return Reservation{}, err
	}
	if _, err := r.pool.Exec(ctx, insertReservation, wanted.KeyID, wanted.RequestHash, wanted.TenantID, sealed); err != nil {
		return Reservation{}, fmt.Errorf("insert idempotency key: %w", err)
	}
	var kept Reservation
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		kept, err = r.readReservation(tx.QueryRow(ctx, lockReservation, wanted.KeyID), wanted.KeyID, wanted.RequestHash)
		if err != nil || kept.Run.ID != "" {
			return err
		}
		if kept.Run, err = start(kept); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, updateReservation, wanted.KeyID, kept.Run.ID, kept.Run.PublicID)
		return err
	})
	return kept, err
}

func (r *Registry) readReservation(row pgx.Row, keyID, requestHash []byte) (Reservation, error) {
	kept := Reservation{KeyID: keyID}
	var sealed []byte
	err := row.Scan(&kept.RequestHash, &kept.TenantID, &sealed, &kept.Run.ID, &kept.Run.PublicID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Reservation{}, fmt.Errorf("idempotency key: %w", ErrNotFound)
	case err != nil:
		return Reservation{}, fmt.Errorf("select idempotency key: %w", err)
	case !bytes.Equal(kept.RequestHash, requestHash):
		return Reservation{}, ErrKeyReused
	}
	kept.Input, err = r.keys.Open(sealed, inputPlace(kept.TenantID))
	return kept, err
}

func inputPlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "registry.idempotency_keys", Column: "input", Tenant: tenantID}
}
