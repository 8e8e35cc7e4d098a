package signup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"narthex/internal/runs"
)

var (
	// ErrKeyReused means that the idempotency key was first used with another request.
	ErrKeyReused = errors.New("the idempotency key was sent with another request before")
	// ErrNoReservation means that nothing is stored for the idempotency key.
	ErrNoReservation = errors.New("nothing is stored for the idempotency key")
)

// Reservation is a signup under an idempotency key, as it was first requested.
type Reservation struct {
	KeyID       []byte // keyed hash of the idempotency key
	RequestHash []byte // keyed hash of the request
	TenantID    string
	Input       []byte // stored sealed
	RunID       string // empty until the signup has been started
	PublicID    string // as the API returned it
}

// StartReserved starts the signup of a reservation, and returns the reservation with its run.
type StartReserved func(ctx context.Context, kept Reservation) (Reservation, error)

// Reservations is a store of the signups that were started under an idempotency key.
type Reservations interface {
	// Find returns what is kept under a key. Errors: ErrNoReservation, ErrKeyReused.
	Find(ctx context.Context, keyID, requestHash []byte) (Reservation, error)
	// Reserve stores wanted, unless its key has a reservation already, and returns the stored one, started once.
	Reserve(ctx context.Context, wanted Reservation, start StartReserved) (Reservation, error)
}

// StartOnce starts the signup for an idempotency key, or finds it if an earlier request to any API process has
// started it. Errors: Start's, and ErrKeyReused if the earlier request was a different one.
func (s *Service) StartOnce(ctx context.Context, key string, request Request) (Started, error) {
	wanted, err := s.reservation(key, request)
	if err != nil {
		return Started{}, err
	}
	kept, err := s.Reservations.Find(ctx, wanted.KeyID, wanted.RequestHash)
	switch {
	case err == nil && kept.RunID != "":
		return s.repeated(ctx, kept)
	case err == nil: // reserved, and not started yet as far as is known
		return s.reserve(ctx, kept, request.Email, "")
	case !errors.Is(err, ErrNoReservation):
		return Started{}, err
	}
	input, err := s.prepare(ctx, request)
	if err != nil {
		return Started{}, err
	}
	wanted.TenantID = input.TenantID
	wanted.Input, err = json.Marshal(input)
	if err != nil {
		return Started{}, fmt.Errorf("write signup input: %w", err)
	}
	return s.reserve(ctx, wanted, request.Email, input.TenantID)
}

// reserve stores a reservation and has it started. fresh is the tenant that this request itself has prepared, or "".
func (s *Service) reserve(ctx context.Context, wanted Reservation, email, fresh string) (Started, error) {
	// From here on the client may go away: what is started must also be recorded.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.StartLimit)
	defer cancel()
	own := false
	kept, err := s.Reservations.Reserve(ctx, wanted, func(ctx context.Context, kept Reservation) (Reservation, error) {
		own = kept.TenantID == fresh
		return s.startReserved(ctx, kept, email)
	})
	if err != nil {
		return Started{}, err
	}
	if !own {
		return s.repeated(ctx, kept)
	}
	return startedUnder(kept)
}

// reservation fingerprints the key and the request. The request's fingerprint includes the password: whoever
// repeats a request has to know all of it.
func (s *Service) reservation(key string, r Request) (Reservation, error) {
	keyID, err := s.Keys.Fingerprint("idempotency key", key)
	if err != nil {
		return Reservation{}, err
	}
	requestHash, err := s.Keys.Fingerprint("register", r.ChurchName, r.Email, r.Password, r.FirstName, r.LastName)
	return Reservation{KeyID: keyID, RequestHash: requestHash}, err
}

func startedUnder(kept Reservation) (Started, error) {
	started := Started{PublicID: kept.PublicID}
	if err := json.Unmarshal(kept.Input, &started.Input); err != nil {
		return started, errors.New("the stored signup input of an idempotency key is damaged")
	}
	started.Run = runs.Run{WorkflowID: WorkflowID(started.Input.EmailHash), RunID: kept.RunID}
	return started, nil
}

// repeated returns the newest run of the signup that an earlier request has started: an operator may have replayed it.
func (s *Service) repeated(ctx context.Context, kept Reservation) (Started, error) {
	started, err := startedUnder(kept)
	if err != nil {
		return Started{}, err
	}
	started.Repeated = true
	latest, err := s.Latest(ctx, started.Run)
	if err != nil || latest.RunID == started.RunID { // Await deals with a run that can't be read or is gone
		return started, nil
	}
	started.Run = latest.Run
	started.PublicID, err = PublicID(s.Keys, latest.Run)
	return started, err
}

// startReserved starts a reserved signup, unless an earlier attempt has started it and died before it could
// record that. The earlier run is recognised by the tenant's id.
func (s *Service) startReserved(ctx context.Context, kept Reservation, email string) (Reservation, error) {
	started, err := startedUnder(kept)
	if err != nil {
		return Reservation{}, err
	}
	earlier, err := s.Latest(ctx, runs.Run{WorkflowID: started.WorkflowID})
	switch {
	case err == nil && earlier.TenantID == kept.TenantID:
		kept.RunID = earlier.RunID
		kept.PublicID, err = PublicID(s.Keys, earlier.Run)
		return kept, err
	case err != nil && !errors.Is(err, runs.ErrNotFound):
		return Reservation{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	if err := s.refuseTaken(ctx, email); err != nil {
		return Reservation{}, err
	}
	started, err = s.start(ctx, started.Input)
	if err != nil {
		return Reservation{}, err
	}
	kept.RunID, kept.PublicID = started.RunID, started.PublicID
	return kept, nil
}
