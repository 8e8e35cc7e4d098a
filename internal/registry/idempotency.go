package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

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

	// A claim is good for 30 seconds: longer than a start may take.
	claimReservation = `
		UPDATE idempotency_keys SET claim = $2, claimed_at = now() WHERE id = $1 AND run_id IS NULL
			AND (claim IS NULL OR claimed_at < now() - interval '30 seconds')`
	updateReservation = `
		UPDATE idempotency_keys SET run_id = $3, public_id = $4, claim = NULL, updated_at = now() WHERE id = $1 AND claim = $2`
	dropClaim = `UPDATE idempotency_keys SET claim = NULL WHERE id = $1 AND claim = $2`

	claimPause = 50 * time.Millisecond
	dropLimit  = 2 * time.Second // a claim that was not dropped lapses
)

// Reservation returns what is reserved under a key. Errors: ErrNotFound, ErrKeyReused.
func (r *Registry) Reservation(ctx context.Context, keyID, requestHash []byte) (Reservation, error) {
	return r.readReservation(r.pool.QueryRow(ctx, selectReservation, keyID), keyID, requestHash)
}

// Reserve keeps wanted under its key, unless something is kept there already, and returns what is. Then,
// if that has no run yet, start is called and gives it one. However many processes ask at once, one of
// them starts, and the others wait for it; if it dies in between, the next one's start must find out. No
// connection is held meanwhile. Errors: ErrKeyReused, start's, ctx's.
func (r *Registry) Reserve(ctx context.Context, wanted Reservation, start func(kept Reservation) (Run, error)) (Reservation, error) {
	sealed, err := r.keys.Seal(wanted.Input, inputPlace(wanted.TenantID))
	if err != nil {
		return Reservation{}, err
	}
	if _, err := r.pool.Exec(ctx, insertReservation, wanted.KeyID, wanted.RequestHash, wanted.TenantID, sealed); err != nil {
		return Reservation{}, fmt.Errorf("insert idempotency key: %w", err)
	}
	claim := rand.Text()
	for {
		kept, err := r.Reservation(ctx, wanted.KeyID, wanted.RequestHash)
		if err != nil || kept.Run.ID != "" {
			return kept, err
		}
		tag, err := r.pool.Exec(ctx, claimReservation, wanted.KeyID, claim)
		if err != nil {
			return Reservation{}, fmt.Errorf("claim idempotency key: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return r.startClaimed(ctx, kept, claim, start)
		}
		select {
		case <-ctx.Done():
			return Reservation{}, fmt.Errorf("await another's start: %w", ctx.Err())
		case <-time.After(claimPause):
		}
	}
}

func (r *Registry) startClaimed(ctx context.Context, kept Reservation, claim string, start func(Reservation) (Run, error)) (Reservation, error) {
	var err error
	if kept.Run, err = start(kept); err != nil {
		drop, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
		defer cancel()
		_, dropErr := r.pool.Exec(drop, dropClaim, kept.KeyID, claim)
		return Reservation{}, errors.Join(err, dropErr)
	}
	if _, err := r.pool.Exec(ctx, updateReservation, kept.KeyID, claim, kept.Run.ID, kept.Run.PublicID); err != nil {
		return Reservation{}, fmt.Errorf("update idempotency key: %w", err)
	}
	return kept, nil
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
