package httpapi_test

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"narthex/internal/runs"
	"narthex/internal/signup"
)

// registerUnder posts a register request with an Idempotency-Key.
func (s *stack) registerUnder(key string, body map[string]any) answer {
	s.t.Helper()
	request := s.request(http.MethodPost, "/api/auth/register", "", jsonBody(s.t, body))
	request.Header.Set("Idempotency-Key", key)
	return s.do(request)
}

func (s *stack) signups(body map[string]any) (n int) {
	s.t.Helper()
	eventually(s.t, "the signup's visibility record", func() bool { n = len(s.runs(body["email"].(string))); return n > 0 })
	return n
}

func TestSameKeyAndBodyGiveTheSameOutcome(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	other := s.another()
	body, key := applicant(), rand.Text()
	first := s.registerUnder(key, body)
	if first.status != http.StatusCreated {
		t.Fatalf("status %d, want 201\n%s", first.status, first.body)
	}
	for _, process := range []*stack{s, other} {
		again := process.registerUnder(key, body)
		if again.status != http.StatusCreated || again.json(t)["tenantId"] != first.json(t)["tenantId"] || again.json(t)["adminId"] != first.json(t)["adminId"] {
			t.Fatalf("the same again: status %d, want the same church's 201\n%s", again.status, again.body)
		}
		session := again.json(t)
		s.wantWhole(session)
	}
	if n := s.signups(body); n != 1 {
		t.Errorf("%d signups ran, want 1", n)
	}
	for field := range body {
		changed := applicant()
		for name, value := range body {
			changed[name] = value
		}
		changed[field] = "x" + changed[field].(string)
		wantProblem(t, other.registerUnder(key, changed), http.StatusUnprocessableEntity, "idempotency-key-reused")
	}
	wantProblem(t, s.registerUnder(rand.Text(), body), http.StatusConflict, "email-taken")
	wantProblem(t, s.post("/api/auth/register", body), http.StatusConflict, "email-taken")

	// Once the password is another, the old request proves nothing.
	if got := s.postAs(first.json(t)["accessToken"].(string), "/api/auth/password",
		map[string]any{"currentPassword": body["password"], "newPassword": "another password"}); got.status != http.StatusNoContent {
		t.Fatalf("change password: status %d\n%s", got.status, got.body)
	}
	wantProblem(t, s.registerUnder(key, body), http.StatusConflict, "email-taken")
}

func TestSameKeyWhileTheSignupRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t, withWait(50*time.Millisecond))
	other := s.another(withWait(50 * time.Millisecond))
	body, key := applicant(), rand.Text()
	release := make(chan struct{})
	s.faults.first(1, "MigrateDatabase", func(run func() error) error { <-release; return run() })
	var locations []string
	for _, process := range []*stack{s, other, s} {
		got := process.registerUnder(key, body)
		if got.status != http.StatusAccepted {
			t.Fatalf("status %d, want 202\n%s", got.status, got.body)
		}
		locations = append(locations, got.header.Get("Location"))
	}
	if locations[0] == "" || locations[1] != locations[0] || locations[2] != locations[0] {
		t.Errorf("Locations %q, want one and the same", locations)
	}
	close(release)
	eventually(t, "201 for the same key", func() bool { return other.registerUnder(key, body).status == http.StatusCreated })
}

func TestSameKeyAfterAFailure(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body, key := applicant(), rand.Text()
	s.faults.always("CreateTenant", failsBefore)
	first := wantProblem(t, s.registerUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	s.faults.reset()
	again := wantProblem(t, s.another().registerUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	if first["signupId"] == "" || again["signupId"] != first["signupId"] {
		t.Errorf("signup %v, then %v; want the same", first["signupId"], again["signupId"])
	}
	if n := s.signups(body); n != 1 {
		t.Errorf("%d signups ran, want 1", n)
	}
	if got := s.registerUnder(rand.Text(), body); got.status != http.StatusCreated {
		t.Errorf("under another key: status %d, want 201\n%s", got.status, got.body)
	}
}

// An operator replays the signup that failed: the same request then finds the church.
func TestSameKeyAfterAReplay(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	body, key := applicant(), rand.Text()
	s.faults.always("CreateTenant", failsBefore)
	wantProblem(t, s.registerUnder(key, body), http.StatusInternalServerError, "signup-rolled-back")
	s.faults.reset()
	operator := runs.Operator{Kind: signup.Kind, Temporal: s.temporal, Keys: s.keys, Namespace: "default", TaskQueue: s.queue}
	workflowID, runID := s.newest(body["email"])
	replayed, err := operator.Replay(t.Context(), runs.Run{WorkflowID: workflowID, RunID: runID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.AwaitEnd(t.Context(), replayed); err != nil {
		t.Fatal(err)
	}
	got := s.another().registerUnder(key, body)
	if got.status != http.StatusCreated {
		t.Fatalf("after the replay: status %d, want 201\n%s", got.status, got.body)
	}
	s.wantWhole(got.json(t))
}

// Temporal no longer has the signup: whether the church is there decides.
func TestSameKeyPastRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  fault
		status int
	}{
		"created":     {nil, http.StatusCreated},
		"rolled back": {failsBefore, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			body, key := applicant(), rand.Text()
			s.faults.always("CreateTenant", c.fault)
			first := s.registerUnder(key, body)
			if first.status != c.status {
				t.Fatalf("status %d, want %d\n%s", first.status, c.status, first.body)
			}
			workflowID, runID := s.newest(body["email"])
			_, err := s.temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
				Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "Temporal has forgotten the signup", func() bool {
				_, err := s.temporal.DescribeWorkflowExecution(t.Context(), workflowID, runID)
				return err != nil
			})
			again := s.registerUnder(key, body)
			if again.status != c.status || again.json(t)["tenantId"] != first.json(t)["tenantId"] {
				t.Errorf("past retention: status %d, want %d and the same church\n%s", again.status, c.status, again.body)
			}
		})
	}
}

// TestRaceForOneEmail lets several people sign up with one email at once, each under a key of their own and
// with a password of their own, and each several times: one of them gets in, and sees no other's result.
func TestRaceForOneEmail(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	processes := []*stack{s, s.another()}
	const people, times = 3, 4
	common := applicant()
	bodies, keys := make([]map[string]any, people), make([]string, people)
	for i := range people {
		bodies[i], keys[i] = applicant(), rand.Text()
		bodies[i]["email"], bodies[i]["password"], bodies[i]["lastName"] = common["email"], rand.Text(), "Nr"+strings.Repeat("i", i+1)
	}
	answers := make([]answer, people*times)
	count(len(answers), func(i int) answer {
		answers[i] = processes[i%2].registerUnder(keys[i%people], bodies[i%people])
		return answers[i]
	})
	winner := -1
	for i, got := range answers {
		switch got.status {
		case http.StatusCreated:
			if winner >= 0 && winner != i%people {
				t.Errorf("both persons %d and %d got in", winner, i%people)
			}
			winner = i % people
			if name := field(got.json(t), "admin", "lastName"); name != bodies[winner]["lastName"] {
				t.Errorf("person %d was shown the admin %s, want %s", winner, name, bodies[winner]["lastName"])
			}
		case http.StatusConflict:
			if got.json(t)["signupId"] != nil || strings.Contains(string(got.body), "Nr") {
				t.Errorf("a refused person is told of another's signup: %s", got.body)
			}
		default:
			t.Errorf("status %d, want 201 or 409\n%s", got.status, got.body)
		}
	}
	if winner < 0 {
		t.Fatal("nobody got in")
	}
	s.wantOneChurch()
	if got := s.registerUnder(keys[winner], bodies[winner]); got.status != http.StatusCreated {
		t.Errorf("the winner again: status %d, want 201\n%s", got.status, got.body)
	}
	for i := range people {
		if i != winner {
			wantProblem(t, s.registerUnder(keys[i], bodies[i]), http.StatusConflict, "email-taken")
		}
	}
}

func (s *stack) wantOneChurch() {
	s.t.Helper()
	var churches int
	row(s.t, s.registry, `SELECT count(*) FROM churches`, nil, &churches)
	if churches != 1 {
		s.t.Errorf("%d churches, want 1", churches)
	}
}

func TestMalformedIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, key := range []string{"", "a b", "ü", strings.Repeat("k", 256)} {
		wantProblem(t, s.registerUnder(key, applicant()), http.StatusBadRequest, "malformed-idempotency-key")
	}
	twice := s.request(http.MethodPost, "/api/auth/register", "", jsonBody(t, applicant()))
	twice.Header["Idempotency-Key"] = []string{"a", "b"}
	wantProblem(t, s.do(twice), http.StatusBadRequest, "malformed-idempotency-key")
	if got := s.registerUnder(strings.Repeat("k", 255), applicant()); got.status != http.StatusCreated {
		t.Errorf("a key of 255 characters: status %d, want 201\n%s", got.status, got.body)
	}
}
