package systemtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"narthex/internal/dev/teststack"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

// TestStartThatWasNotRecorded deletes what an API process writes last, as if it had died before.
func TestStartThatWasNotRecorded(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body, key := teststack.Applicant(), rand.Text()
	first := s.RegisterUnder(key, body)
	forget := func() {
		t.Helper()
		const update = `
			UPDATE idempotency_keys
			SET run_id = NULL, public_id = NULL, claim = 'x', claimed_at = now() - interval '1 hour'`
		if _, err := s.Registry.Exec(t.Context(), update); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	again := s.Another().RegisterUnder(key, body)
	if again.Status != http.StatusCreated || again.JSON(t)["tenantId"] != first.JSON(t)["tenantId"] {
		t.Errorf("status %d, want 201 and the same church\n%s", again.Status, again.Body)
	}
	change := map[string]any{"currentPassword": body["password"], "newPassword": "another password"}
	got := s.PostAs(first.JSON(t)["accessToken"].(string), "/api/auth/password", change)
	if got.Status != http.StatusNoContent {
		t.Fatalf("change password: status %d\n%s", got.Status, got.Body)
	}
	forget()
	teststack.WantProblem(t, s.RegisterUnder(key, body), http.StatusConflict, "email-taken")
}

func TestManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	bodies := make([]map[string]any, 24)
	for i := range bodies {
		bodies[i] = maps.Clone(teststack.Applicant())
	}
	statuses := teststack.AtOnce(len(bodies), func(i int) teststack.Answer { return s.RegisterUnder(rand.Text(), bodies[i]) })
	if statuses[http.StatusCreated] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", statuses, len(bodies))
	}
}

func signups(s *teststack.Stack, body map[string]any) (n int) {
	s.T.Helper()
	teststack.Eventually(s.T, "the signup's visibility record", func() bool { n = len(runsOf(s, body["email"].(string))); return n > 0 })
	return n
}

func TestSameKeyAndBodyGiveTheSameOutcome(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	other := s.Another()
	body, key := teststack.Applicant(), rand.Text()
	first := s.RegisterUnder(key, body)
	if first.Status != http.StatusCreated {
		t.Fatalf("status %d, want 201\n%s", first.Status, first.Body)
	}
	for _, process := range []*teststack.Stack{s, other} {
		again := process.RegisterUnder(key, body)
		if again.Status != http.StatusCreated {
			t.Fatalf("the same again: status %d, want 201\n%s", again.Status, again.Body)
		}
		session := again.JSON(t)
		if session["tenantId"] != first.JSON(t)["tenantId"] || session["adminId"] != first.JSON(t)["adminId"] {
			t.Fatalf("the same again: %s, want the same church's answer", again.Body)
		}
		wantWhole(s, session)
	}
	if n := signups(s, body); n != 1 {
		t.Errorf("%d signups ran, want 1", n)
	}
	for field := range body {
		changed := maps.Clone(body)
		changed[field] = "x" + changed[field].(string)
		teststack.WantProblem(t, other.RegisterUnder(key, changed), http.StatusUnprocessableEntity, "idempotency-key-reused")
	}
	teststack.WantProblem(t, s.RegisterUnder(rand.Text(), body), http.StatusConflict, "email-taken")
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusConflict, "email-taken")

	// After a change of the password, the old request proves nothing.
	change := map[string]any{"currentPassword": body["password"], "newPassword": "another password"}
	got := s.PostAs(first.JSON(t)["accessToken"].(string), "/api/auth/password", change)
	if got.Status != http.StatusNoContent {
		t.Fatalf("change password: status %d\n%s", got.Status, got.Body)
	}
	teststack.WantProblem(t, s.RegisterUnder(key, body), http.StatusConflict, "email-taken")
}

func TestSameKeyWhileTheSignupRuns(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithWait(50*time.Millisecond))
	other := s.Another(teststack.WithWait(50 * time.Millisecond))
	body, key := teststack.Applicant(), rand.Text()
	release := make(chan struct{})
	s.Faults.First(1, "MigrateDatabase", func(run func() error) error { <-release; return run() })
	var locations []string
	for _, process := range []*teststack.Stack{s, other, s} {
		got := process.RegisterUnder(key, body)
		if got.Status != http.StatusAccepted {
			t.Fatalf("status %d, want 202\n%s", got.Status, got.Body)
		}
		locations = append(locations, got.Header.Get("Location"))
	}
	if locations[0] == "" || locations[1] != locations[0] || locations[2] != locations[0] {
		t.Errorf("Locations %q, want the same one twice", locations)
	}
	close(release)
	teststack.Eventually(t, "201 for the same key", func() bool { return other.RegisterUnder(key, body).Status == http.StatusCreated })
}

func TestSameKeyAfterAFailure(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body, key := teststack.Applicant(), rand.Text()
	s.Faults.Always("CreateTenant", teststack.FailsBefore)
	first := teststack.WantProblem(t, s.RegisterUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	s.Faults.Reset()
	again := teststack.WantProblem(t, s.Another().RegisterUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	if first["signupId"] == "" || again["signupId"] != first["signupId"] {
		t.Errorf("signup %v, then %v; want the same", first["signupId"], again["signupId"])
	}
	if n := signups(s, body); n != 1 {
		t.Errorf("%d signups ran, want 1", n)
	}
	if got := s.RegisterUnder(rand.Text(), body); got.Status != http.StatusCreated {
		t.Errorf("under another key: status %d, want 201\n%s", got.Status, got.Body)
	}
}

// An operator replays the signup that failed: the same request then finds the church.
func TestSameKeyAfterAReplay(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body, key := teststack.Applicant(), rand.Text()
	s.Faults.Always("CreateTenant", teststack.FailsBefore)
	teststack.WantProblem(t, s.RegisterUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	s.Faults.Reset()
	operator := runs.Operator{Kind: signup.Kind, Temporal: s.Temporal, Keys: s.Keys, Namespace: "default", TaskQueue: s.Queue}
	workflowID, runID := newest(s, body["email"])
	replayed, err := operator.Replay(t.Context(), runs.Run{WorkflowID: workflowID, RunID: runID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.AwaitEnd(t.Context(), replayed); err != nil {
		t.Fatal(err)
	}
	got := s.Another().RegisterUnder(key, body)
	if got.Status != http.StatusCreated {
		t.Fatalf("after the replay: status %d, want 201\n%s", got.Status, got.Body)
	}
	wantWhole(s, got.JSON(t))
}

// Temporal no longer has the signup, so the answer depends on whether the church exists.
func TestSameKeyPastRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  teststack.Fault
		status int
	}{
		"created":     {nil, http.StatusCreated},
		"rolled back": {teststack.FailsBefore, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := teststack.New(t)
			body, key := teststack.Applicant(), rand.Text()
			s.Faults.Always("CreateTenant", c.fault)
			first := s.RegisterUnder(key, body)
			if first.Status != c.status {
				t.Fatalf("status %d, want %d\n%s", first.Status, c.status, first.Body)
			}
			workflowID, runID := newest(s, body["email"])
			_, err := s.Temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
				Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
			})
			if err != nil {
				t.Fatal(err)
			}
			teststack.Eventually(t, "Temporal has forgotten the signup", func() bool {
				_, err := s.Temporal.DescribeWorkflowExecution(t.Context(), workflowID, runID)
				return err != nil
			})
			again := s.RegisterUnder(key, body)
			if again.Status != c.status || again.JSON(t)["tenantId"] != first.JSON(t)["tenantId"] {
				t.Errorf("past retention: status %d, want %d and the same church\n%s", again.Status, c.status, again.Body)
			}
		})
	}
}
