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

// Kind describes the runs of signups.
var Kind = runs.Kind{
	Noun: "signup", Workflow: Workflow, Prefix: WorkflowID(""), Steps: Steps, Again: again, Email: emailOf, OpenID: OpenPublicID,
}

func again(taskQueue string, read func(input any) error) (client.StartWorkflowOptions, any, error) {
	var in Input
	if err := read(&in); err != nil {
		return client.StartWorkflowOptions{}, nil, err
	}
	return StartOptions(taskQueue, in, false), in, nil
}

func emailOf(keys *secrets.Keys, read func(input any) error) (email, tenantID string, err error) {
	var in Input
	if err := read(&in); err != nil {
		return "", "", err
	}
	who, err := OpenApplicant(keys, in)
	return who.Email, in.TenantID, err
}

// Service is the API's access to signups. Operators need only the Operator.
type Service struct {
	runs.Operator
	Reservations Reservations
	Passwords    Passwords
	Eager        func() bool   // whether a worker on the same client may take the signups that it starts; nil means yes
	StartLimit   time.Duration // how long Temporal may take to accept a signup
	Now          func() time.Time
	Log          *slog.Logger
}

// Passwords hashes passwords.
type Passwords interface {
	Hash(ctx context.Context, password string) ([]byte, error)
}

// ErrEmailTaken means that an admin of some church has the email.
var ErrEmailTaken = errors.New("the email is taken")

// Status returns the status of the run with a public id. Errors: runs.ErrNotFound, secrets.ErrSealed.
func (s *Service) Status(ctx context.Context, publicID string) (runs.Status, error) {
	run, ok := OpenPublicID(s.Keys, publicID)
	if !ok {
		return runs.Status{}, runs.ErrNotFound
	}
	return s.Read(ctx, run)
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
