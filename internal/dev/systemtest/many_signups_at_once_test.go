package systemtest

import (
	"net/http"
	"sync"
	"testing"

	"narthex/internal/dev/teststack"
)

// storm posts n register requests at once and counts the statuses of the answers.
func storm(s *teststack.Stack, bodies []map[string]any) map[int]int {
	statuses := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			got := s.Post("/api/auth/register", body)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.Status]++
		})
	}
	wg.Wait()
	return statuses
}

func TestTwentySignupsAtOnce(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	var bodies []map[string]any
	for range 20 {
		bodies = append(bodies, teststack.Applicant())
	}
	if got := storm(s, bodies); got[http.StatusCreated] != 20 {
		t.Fatalf("statuses %v, want 20 × 201", got)
	}
	for _, body := range bodies {
		if got := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}); got.Status != http.StatusOK {
			t.Errorf("login as %s: status %d, want 200", body["email"], got.Status)
		}
	}
}
