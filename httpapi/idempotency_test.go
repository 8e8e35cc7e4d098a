package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"narthex/internal/dev/teststack"
)

func TestMalformedIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for _, key := range []string{"", "a b", "ü", strings.Repeat("k", 256)} {
		teststack.WantProblem(t, s.RegisterUnder(key, teststack.Applicant()), http.StatusBadRequest, "malformed-idempotency-key")
	}
	twice := s.Request(http.MethodPost, "/api/auth/register", "", teststack.JSONBody(t, teststack.Applicant()))
	twice.Header["Idempotency-Key"] = []string{"a", "b"}
	teststack.WantProblem(t, s.Do(twice), http.StatusBadRequest, "malformed-idempotency-key")
	if got := s.RegisterUnder(strings.Repeat("k", 255), teststack.Applicant()); got.Status != http.StatusCreated {
		t.Errorf("a key of 255 characters: status %d, want 201\n%s", got.Status, got.Body)
	}
}
