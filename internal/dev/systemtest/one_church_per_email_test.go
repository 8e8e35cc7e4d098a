package systemtest

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

// TestRaceForOneEmail lets several people sign up with one email at once, each several times with their own key and
// password. One of them gets in, and nobody sees another's result.
func TestRaceForOneEmail(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	processes := []*teststack.Stack{s, s.Another()}
	const people, times = 3, 4
	common := teststack.Applicant()
	bodies, keys := make([]map[string]any, people), make([]string, people)
	for i := range people {
		bodies[i], keys[i] = teststack.Applicant(), rand.Text()
		bodies[i]["email"], bodies[i]["password"], bodies[i]["lastName"] = common["email"], rand.Text(), "Nr"+strings.Repeat("i", i+1)
	}
	answers := make([]teststack.Answer, people*times)
	teststack.AtOnce(len(answers), func(i int) teststack.Answer {
		answers[i] = processes[i%2].RegisterUnder(keys[i%people], bodies[i%people])
		return answers[i]
	})
	winner := -1
	for i, got := range answers {
		switch got.Status {
		case http.StatusCreated:
			if winner >= 0 && winner != i%people {
				t.Errorf("persons %d and %d both got in", winner, i%people)
			}
			winner = i % people
			if name := teststack.Field(got.JSON(t), "admin", "lastName"); name != bodies[winner]["lastName"] {
				t.Errorf("person %d was shown the admin %s, want %s", winner, name, bodies[winner]["lastName"])
			}
		case http.StatusConflict:
			if got.JSON(t)["signupId"] != nil || strings.Contains(string(got.Body), "Nr") {
				t.Errorf("a refused person learns of another's signup: %s", got.Body)
			}
		default:
			t.Errorf("status %d, want 201 or 409\n%s", got.Status, got.Body)
		}
	}
	if winner < 0 {
		t.Fatal("nobody got in")
	}
	wantOneChurch(s)
	if got := s.RegisterUnder(keys[winner], bodies[winner]); got.Status != http.StatusCreated {
		t.Errorf("the winner again: status %d, want 201\n%s", got.Status, got.Body)
	}
	for i := range people {
		if i != winner {
			teststack.WantProblem(t, s.RegisterUnder(keys[i], bodies[i]), http.StatusConflict, "email-taken")
		}
	}
}

func wantOneChurch(s *teststack.Stack) {
	s.T.Helper()
	var churches int
	teststack.Row(s.T, s.Registry, `SELECT count(*) FROM churches`, nil, &churches)
	if churches != 1 {
		s.T.Errorf("%d churches, want 1", churches)
	}
}

func TestTwentySignupsAtOnceWithOneEmail(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	bodies := slices.Repeat([]map[string]any{body}, 20)
	if got := storm(s, bodies); got[http.StatusCreated] != 1 || got[http.StatusConflict] != 19 {
		t.Errorf("statuses %v, want 1 × 201 and 19 × 409", got)
	}
	databases := 0
	for _, tenantID := range s.Faults.TenantIDs() {
		var n int
		teststack.Row(t, s.Server, `SELECT count(*) FROM pg_database WHERE datname = $1`, []any{"tenant_" + tenantID}, &n)
		databases += n
	}
	if databases != 1 {
		t.Errorf("%d databases, want 1", databases)
	}
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusConflict, "email-taken")
}

func TestSecondSignupWhileOneRuns(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithWait(50*time.Millisecond))
	body := teststack.Applicant()
	release := make(chan struct{})
	defer close(release)
	s.Faults.Always("MigrateDatabase", func(func() error) error { <-release; return teststack.ErrInjected })
	if got := s.Post("/api/auth/register", body); got.Status != http.StatusAccepted {
		t.Fatalf("status %d, want 202\n%s", got.Status, got.Body)
	}
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusConflict, "signup-in-progress")
}
