package signup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"narthex/internal/ids"
	"narthex/internal/runs"
)

// Trial is how long a church is in trial.
const Trial = 14 * 24 * time.Hour

var (
	// ErrInProgress means that a signup with the same email is running.
	ErrInProgress = errors.New("a signup with the same email is running")
	// ErrNotStarted means that it was not possible to find out whether the signup may start, or Temporal didn't answer. It
	// may have started; retrying is safe.
	ErrNotStarted = errors.New("the signup could not be started")
)

// Request is a church's request to sign up, checked and normalised.
type Request struct {
	ChurchName string
	Email      string
	Password   string
	FirstName  string
	LastName   string
}

// Started is a signup that was started, by this request or an earlier one with the same idempotency key.
type Started struct {
	runs.Run
	PublicID string
	Input    Input
	Repeated bool // the request repeats an earlier one
}

// Start starts a signup, which continues whatever happens to ctx. Errors: ErrEmailTaken, ErrInProgress, ErrNotStarted.
func (s *Service) Start(ctx context.Context, request Request) (Started, error) {
	input, err := s.prepare(ctx, request)
	if err != nil {
		return Started{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StartLimit) // the client may go away
	defer cancel()
	return s.start(ctx, input)
}

// Await waits for a signup until ctx ends, and reports whether the church exists. It is no error if the signup is still
// running. If Temporal no longer has it, it counts as completed if its church has its email.
// Errors: ErrEmailTaken, runs.ErrRolledBack, runs.ErrTerminated.
func (s *Service) Await(ctx context.Context, started Started) (created bool, err error) {
	created, err = s.Wait(ctx, started.Run)
	switch {
	case errors.Is(err, runs.ErrRefused):
		return false, ErrEmailTaken
	case errors.Is(err, runs.ErrNotFound):
		return s.hasEmail(ctx, started.Input)
	}
	return created, err
}

func (s *Service) hasEmail(ctx context.Context, input Input) (bool, error) {
	who, err := OpenApplicant(s.Keys, input)
	if err != nil {
		return false, err
	}
	holder, err := s.Emails.EmailHolder(ctx, who.Email)
	if err != nil {
		return false, err
	}
	if holder != input.TenantID {
		return false, runs.ErrRolledBack
	}
	return true, nil
}

// prepare makes a signup's input, unless the email is taken.
func (s *Service) prepare(ctx context.Context, request Request) (Input, error) {
	if err := s.refuseTaken(ctx, request.Email); err != nil {
		return Input{}, err
	}
	return s.newInput(ctx, request)
}

func (s *Service) refuseTaken(ctx context.Context, email string) error {
	holder, err := s.Emails.EmailHolder(ctx, email)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	if holder != "" {
		return ErrEmailTaken
	}
	return nil
}

// newInput makes everything that must stay the same when the signup is retried, replayed or reset: ids,
// times, hashes and secrets.
func (s *Service) newInput(ctx context.Context, request Request) (Input, error) {
	emailHash, err := s.Keys.EmailIndex(request.Email)
	if err != nil {
		return Input{}, err
	}
	passwordHash, err := s.Passwords.Hash(ctx, request.Password)
	if err != nil {
		return Input{}, err
	}
	databasePassword := make([]byte, 32)
	if _, err := rand.Read(databasePassword); err != nil {
		return Input{}, fmt.Errorf("make database password: %w", err)
	}
	now := s.Now().UTC().Truncate(time.Microsecond) // PostgreSQL's precision
	input := Input{TenantID: ids.New(), AdminID: ids.New(), EmailHash: emailHash, RequestedAt: now, TrialEndsAt: now.Add(Trial)}
	applicant, err := json.Marshal(Applicant{
		ChurchName: request.ChurchName, Email: request.Email, FirstName: request.FirstName, LastName: request.LastName,
		PasswordHash: string(passwordHash), DatabasePassword: hex.EncodeToString(databasePassword),
	})
	if err != nil {
		return Input{}, fmt.Errorf("write applicant: %w", err)
	}
	input.Applicant, err = s.Keys.Seal(applicant, ApplicantPlace(input.TenantID))
	return input, err
}

// start starts a prepared signup. ctx must not end with the request's.
func (s *Service) start(ctx context.Context, input Input) (Started, error) {
	run, err := s.Operator.Start(ctx, StartOptions(s.TaskQueue, input, s.Eager == nil || s.Eager()), input)
	switch {
	case errors.Is(err, runs.ErrRunning):
		return Started{}, ErrInProgress
	case err != nil:
		return Started{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	s.Log.InfoContext(ctx, "signup started", "workflowId", run.WorkflowID, "runId", run.RunID, "tenantId", input.TenantID)
	publicID, err := PublicID(s.Keys, run)
	return Started{Run: run, PublicID: publicID, Input: input}, err
}
