package signup_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/codec"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// holder holds every email.
type holder string

func (h holder) EmailHolder(context.Context, string) (string, error) { return string(h), nil }

func newService(t *testing.T) *signup.Service {
	t.Helper()
	keys := testenv.Keys(t)
	options := client.Options{HostPort: testenv.TemporalAddress(t)}
	codec.Seal(&options, keys)
	temporal, err := client.Dial(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	if err := searchattributes.Ensure(t.Context(), temporal, client.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
	return &signup.Service{Operator: runs.Operator{
		Kind: signup.Kind, Temporal: temporal, Keys: keys, Namespace: client.DefaultNamespace, TaskQueue: ids.New(),
	}}
}

func newInput(t *testing.T, s *signup.Service) signup.Input {
	t.Helper()
	in := signup.Input{TenantID: ids.New(), AdminID: ids.New(), EmailHash: ids.New(), RequestedAt: time.Now()}
	applicant, err := json.Marshal(signup.Applicant{Email: "pat@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	in.Applicant, err = s.Keys.Seal(applicant, signup.ApplicantPlace(in.TenantID))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// stopped starts a signup that no worker takes, and terminates it.
func stopped(t *testing.T, s *signup.Service, in signup.Input) runs.Run {
	t.Helper()
	run, err := s.Temporal.ExecuteWorkflow(t.Context(), signup.StartOptions(s.TaskQueue, in, false), signup.Workflow, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Temporal.TerminateWorkflow(t.Context(), run.GetID(), run.GetRunID(), "a test"); err != nil {
		t.Fatal(err)
	}
	return runs.Run{WorkflowID: run.GetID(), RunID: run.GetRunID()}
}

func TestReplayIsRefusedIfAnotherChurchHasTheEmail(t *testing.T) {
	t.Parallel()
	s := newService(t)
	in := newInput(t, s)
	run := stopped(t, s, in)
	s.Emails = holder(ids.New())
	if _, err := s.Replay(t.Context(), run); !errors.Is(err, runs.ErrEmailTaken) {
		t.Errorf("another church has the email: %v, want ErrEmailTaken", err)
	}
	for _, own := range []holder{"", holder(in.TenantID)} {
		s.Emails = own
		again, err := s.Replay(t.Context(), run)
		if err != nil {
			t.Fatalf("%q has the email: %v", own, err)
		}
		if err := s.Temporal.TerminateWorkflow(t.Context(), again.WorkflowID, again.RunID, "a test"); err != nil {
			t.Error(err)
		}
	}
}
