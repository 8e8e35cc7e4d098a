package invitation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/ids"
	"narthex/internal/runs"
	"narthex/internal/saga"
	"narthex/internal/secrets"
)

// Kind describes the runs of invitations.
var Kind = runs.Kind{
	Noun: "invitation", Workflow: Workflow, Prefix: WorkflowID(""), Steps: Steps, Again: again, Email: emailOf,
}

func again(taskQueue string, read func(input any) error) (client.StartWorkflowOptions, any, error) {
	var in Input
	if err := read(&in); err != nil {
		return client.StartWorkflowOptions{}, nil, err
	}
	return StartOptions(taskQueue, in), in, nil
}

func emailOf(keys *secrets.Keys, read func(input any) error) (email, tenantID string, err error) {
	var in Input
	if err := read(&in); err != nil {
		return "", "", err
	}
	who, err := OpenInvitee(keys, in)
	return who.Email, in.TenantID, err
}

// OpenInvitee opens the sealed part of an invitation's input. Errors: secrets.ErrSealed.
func OpenInvitee(keys *secrets.Keys, in Input) (who Invitee, err error) {
	plain, err := keys.Open(in.Invitee, InviteePlace(in.TenantID))
	if err != nil {
		return who, err
	}
	if err := json.Unmarshal(plain, &who); err != nil {
		return who, fmt.Errorf("read invitee: %w", secrets.ErrSealed) // not err: it may quote the plain text
	}
	return who, nil
}

// StartOptions returns the options for starting an invitation. If one with the same email is running, starting fails.
func StartOptions(taskQueue string, in Input) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                                       WorkflowID(in.EmailHash),
		TaskQueue:                                taskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    saga.StartAttributes(Steps, in.TenantID),
		StaticSummary:                            "invite an admin to " + ids.DatabaseName(in.TenantID),
	}
}

var (
	// ErrEmailTaken means that another admin, of any church, has the email.
	ErrEmailTaken = errors.New("the email is taken")
	// ErrInProgress means that an invitation for the same email is running.
	ErrInProgress = errors.New("an invitation of the same email is running")
	// ErrNotStarted means that it was not possible to find out whether it may start, or Temporal didn't answer. It may have
	// started.
	ErrNotStarted = errors.New("the invitation could not be started")
	// ErrRolledBack means that nothing was kept.
	ErrRolledBack = errors.New("the invitation was rolled back")
	// ErrTerminated means that it was ended from outside, so what it created may still exist.
	ErrTerminated = errors.New("the invitation was terminated")
)

// Service is the API's access to invitations. Operators need only the Operator.
type Service struct {
	runs.Operator
	StartLimit time.Duration // how long Temporal may take to accept an invitation
	Now        func() time.Time
}

// Offer is an invitation that was started, with the token that the invitee needs once it has completed.
type Offer struct {
	runs.Run
	Input Input
	Token string
}

// Check returns an error if an email is taken. Errors: ErrEmailTaken, ErrNotStarted.
func (s *Service) Check(ctx context.Context, email string) error {
	holder, err := s.Emails.EmailHolder(ctx, email)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	if holder != "" {
		return ErrEmailTaken
	}
	return nil
}

// Start starts the invitation of an admin to a church. The invitation continues whatever happens to ctx.
// Errors: ErrInProgress, ErrNotStarted.
func (s *Service) Start(ctx context.Context, tenantID string, who Invitee) (Offer, error) {
	offer, err := s.newOffer(tenantID, who)
	if err != nil {
		return Offer{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StartLimit)
	defer cancel()
	offer.Run, err = s.Operator.Start(ctx, StartOptions(s.TaskQueue, offer.Input), offer.Input)
	switch {
	case errors.Is(err, runs.ErrRunning):
		return Offer{}, ErrInProgress
	case err != nil:
		return Offer{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	return offer, nil
}

// Await waits for an invitation until ctx ends, and reports whether its token is valid. It is no error if the invitation
// is still running. Errors: ErrEmailTaken, ErrRolledBack, ErrTerminated.
func (s *Service) Await(ctx context.Context, offer Offer) (offered bool, err error) {
	offered, err = s.Wait(ctx, offer.Run)
	switch {
	case errors.Is(err, runs.ErrRefused):
		return false, ErrEmailTaken
	case errors.Is(err, runs.ErrTerminated):
		return false, fmt.Errorf("%w: %w", ErrTerminated, err)
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	return offered, nil
}

// newOffer makes everything that must stay the same when the invitation is retried.
func (s *Service) newOffer(tenantID string, who Invitee) (Offer, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return Offer{}, fmt.Errorf("make invitation token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(random)
	emailHash, err := s.Keys.EmailIndex(who.Email)
	if err != nil {
		return Offer{}, err
	}
	invitee, err := json.Marshal(who)
	if err != nil {
		return Offer{}, fmt.Errorf("write invitee: %w", err)
	}
	sealed, err := s.Keys.Seal(invitee, InviteePlace(tenantID))
	now := s.Now().UTC().Truncate(time.Microsecond) // PostgreSQL's precision
	return Offer{Token: token, Input: Input{
		TenantID: tenantID, AdminID: ids.New(), EmailHash: emailHash, TokenHash: TokenHash(token), Invitee: sealed,
		InvitedAt: now, ExpiresAt: now.Add(Lifetime),
	}}, err
}

// TokenHash returns the hash under which an invitation's token is stored.
func TokenHash(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}
