// Package idempotency records in the registry database which signup was started under which Idempotency-Key. All
// processes share the records.
package idempotency

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/secrets"
	"narthex/internal/signup"
)

const (
	insertReservation = `
		INSERT INTO idempotency_keys (id, request_hash, tenant_id, input) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`
	selectReservation = `
		SELECT request_hash, tenant_id, input, coalesce(run_id, ''), coalesce(public_id, '') FROM idempotency_keys WHERE id = $1`
	claimReservation = `
		UPDATE idempotency_keys SET claim = $2, claimed_at = now() WHERE id = $1 AND run_id IS NULL
			AND (claim IS NULL OR claimed_at < now() - make_interval(secs => $3))`
	updateReservation = `
		UPDATE idempotency_keys SET run_id = $3, public_id = $4, claim = NULL, updated_at = now() WHERE id = $1 AND claim = $2`
	dropClaim = `UPDATE idempotency_keys SET claim = NULL WHERE id = $1 AND claim = $2`

	// Temporal keeps closed signups for 30 days. A key must expire before its signup.
	deleteExpired = `DELETE FROM idempotency_keys WHERE created_at < now() - interval '29 days'`
)

const (
	claimPause  = 50 * time.Millisecond
	claimMargin = 5 * time.Second // by which a claim outlasts its holder's time to start the signup
	dropLimit   = 2 * time.Second // a claim that isn't dropped expires by itself
)

// Store keeps reservations. It is safe for concurrent use.
type Store struct {
	db   *postgres.Pool
	keys *secrets.Keys
}

// New returns a store in the registry database.
func New(db *postgres.Pool, keys *secrets.Keys) *Store { return &Store{db, keys} }

// Find returns the reservation under a key. Errors: signup.ErrNoReservation, signup.ErrKeyReused.
func (s *Store) Find(ctx context.Context, keyID, requestHash []byte) (signup.Reservation, error) {
	kept := signup.Reservation{KeyID: keyID}
	var sealed []byte
	err := s.db.QueryRow(ctx, selectReservation, keyID).Scan(&kept.RequestHash, &kept.TenantID, &sealed, &kept.RunID, &kept.PublicID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return signup.Reservation{}, signup.ErrNoReservation
	case err != nil:
		return signup.Reservation{}, fmt.Errorf("select idempotency key: %w", err)
	case !bytes.Equal(kept.RequestHash, requestHash):
		return signup.Reservation{}, signup.ErrKeyReused
	}
	kept.Input, err = s.keys.Open(sealed, inputPlace(kept.TenantID))
	return kept, err
}

// Reserve stores wanted under its key, unless the key has a reservation already, and returns the stored one.
// If that has no run yet, it calls start, which gives it one. If several processes ask at once, one starts the
// signup and the others wait. If that one dies in between, the next call of start must find out. No connection
// is held while start runs. ctx needs a deadline. Errors: signup.ErrKeyReused, start's, ctx's.
func (s *Store) Reserve(ctx context.Context, wanted signup.Reservation, start signup.StartReserved) (signup.Reservation, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return signup.Reservation{}, errors.New("an idempotency key is reserved without a deadline")
	}
	lifetime := time.Until(deadline) + claimMargin
	sealed, err := s.keys.Seal(wanted.Input, inputPlace(wanted.TenantID))
	if err != nil {
		return signup.Reservation{}, err
	}
	if _, err := s.db.Exec(ctx, insertReservation, wanted.KeyID, wanted.RequestHash, wanted.TenantID, sealed); err != nil {
		return signup.Reservation{}, fmt.Errorf("insert idempotency key: %w", err)
	}
	claim := rand.Text()
	for {
		kept, err := s.Find(ctx, wanted.KeyID, wanted.RequestHash)
		if err != nil || kept.RunID != "" {
			return kept, err
		}
		tag, err := s.db.Exec(ctx, claimReservation, wanted.KeyID, claim, lifetime.Seconds())
		if err != nil {
			return signup.Reservation{}, fmt.Errorf("claim idempotency key: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return s.startClaimed(ctx, kept, claim, start)
		}
		select {
		case <-ctx.Done():
			return signup.Reservation{}, fmt.Errorf("await another's start: %w", ctx.Err())
		case <-time.After(claimPause):
		}
	}
}

func (s *Store) startClaimed(
	ctx context.Context, kept signup.Reservation, claim string, start signup.StartReserved,
) (signup.Reservation, error) {
	started, err := start(ctx, kept)
	if err != nil {
		drop, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
		defer cancel()
		_, dropErr := s.db.Exec(drop, dropClaim, kept.KeyID, claim)
		return signup.Reservation{}, errors.Join(err, dropErr)
	}
	if _, err := s.db.Exec(ctx, updateReservation, kept.KeyID, claim, started.RunID, started.PublicID); err != nil {
		return signup.Reservation{}, fmt.Errorf("update idempotency key: %w", err)
	}
	return started, nil
}

// Tidy deletes expired keys. Idempotent.
func (s *Store) Tidy(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, deleteExpired); err != nil {
		return fmt.Errorf("tidy idempotency keys: %w", err)
	}
	return nil
}

func inputPlace(tenantID string) secrets.Place {
	return secrets.Place{Table: "registry.idempotency_keys", Column: "input", Tenant: tenantID}
}
