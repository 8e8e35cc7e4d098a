package signup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/runs"
	"narthex/internal/secrets"
)

// Kind is what the runs of signups are.
var Kind = runs.Kind{Noun: "signup", Workflow: Workflow, Prefix: WorkflowID(""), Steps: Steps, Again: again}

func again(taskQueue string, read func(input any) error) (client.StartWorkflowOptions, any, error) {
	var in Input
	if err := read(&in); err != nil {
		return client.StartWorkflowOptions{}, nil, err
	}
	return StartOptions(taskQueue, in, false), in, nil
}

// Service is what one can do with signups. What starts them needs all of it; operators need only the Operator.
type Service struct {
	runs.Operator
	Emails       Emails // if nil, Replay leaves it to the saga to find an email taken
	Reservations Reservations
	Passwords    Passwords
	Eager        func() bool   // whether a worker on the very client may take the signups that it starts; nil says yes
	StartLimit   time.Duration // how long Temporal may take to accept a signup
	Now          func() time.Time
	Log          *slog.Logger
}

// Passwords hashes passwords.
type Passwords interface {
	Hash(ctx context.Context, password string) ([]byte, error)
}

// Emails says whom emails belong to.
type Emails interface {
	// EmailHolder returns the tenant that a normalised email logs in to, or "".
	EmailHolder(ctx context.Context, email string) (tenantID string, err error)
}

// ErrEmailTaken means that another church's admin has the email.
var ErrEmailTaken = errors.New("another church has its email")

// Find returns the run that an id names: a tenant id or a workflow id (the newest run of either), or the id
// that the API gave out (that very run). Errors: runs.ErrNotFound.
func (s *Service) Find(ctx context.Context, id string) (runs.Run, error) {
	if run, ok := OpenPublicID(s.Keys, id); ok {
		return run, nil
	}
	return s.Operator.Find(ctx, id)
}

// FindByEmail returns the newest run of a normalised email's signup. Errors: runs.ErrNotFound.
func (s *Service) FindByEmail(ctx context.Context, email string) (runs.Run, error) {
	hashes, err := s.Keys.EmailIndexes(email)
	if err != nil {
		return runs.Run{}, err
	}
	for _, hash := range hashes {
		run, err := s.Operator.Find(ctx, WorkflowID(hash))
		if !errors.Is(err, runs.ErrNotFound) {
			return run, err
		}
	}
	return runs.Run{}, runs.ErrNotFound
}

// Status returns how the run stands to which the API gave an id. Errors: runs.ErrNotFound, secrets.ErrSealed.
func (s *Service) Status(ctx context.Context, publicID string) (runs.Status, error) {
	run, ok := OpenPublicID(s.Keys, publicID)
	if !ok {
		return runs.Status{}, runs.ErrNotFound
	}
	return s.Read(ctx, run)
}

// Replay starts the failed signup that a run belongs to again, as runs.Operator does. Errors: also ErrEmailTaken.
func (s *Service) Replay(ctx context.Context, run runs.Run) (runs.Run, error) {
	if s.Emails != nil {
		if err := s.checkEmail(ctx, run); err != nil {
			return runs.Run{}, err
		}
	}
	return s.Operator.Replay(ctx, run)
}

// checkEmail looks whether another church has the email of a signup. One whose seal doesn't open is left to the saga.
func (s *Service) checkEmail(ctx context.Context, run runs.Run) error {
	var in Input
	if err := s.Input(ctx, run, &in); err != nil {
		return err
	}
	who, err := OpenApplicant(s.Keys, in)
	if errors.Is(err, secrets.ErrSealed) {
		return nil
	}
	if err != nil {
		return err
	}
	holder, err := s.Emails.EmailHolder(ctx, who.Email)
	if err != nil {
		return fmt.Errorf("look for the email's holder: %w", err)
	}
	if holder != "" && holder != in.TenantID {
		return ErrEmailTaken
	}
	return nil
}

// OpenApplicant opens the sealed part of a signup's input. Errors: secrets.ErrSealed.
func OpenApplicant(keys *secrets.Keys, in Input) (who Applicant, err error) {
	plain, err := keys.Open(in.Applicant, ApplicantPlace(in.TenantID))
	if err != nil {
		return who, err
	}
	if err := json.Unmarshal(plain, &who); err != nil {
		return who, fmt.Errorf("read applicant: %w", secrets.ErrSealed) // not err: it may quote the plain text
	}
	return who, nil
}
