// Package systemtest holds what Narthex promises as a whole, a file per promise: API, worker, Temporal and several
// databases, one of which breaks, hangs, lies or is looked into. What one route answers is tested in httpapi.
package systemtest

import (
	"testing"

	"narthex/internal/dev/testenv"
)

// skipMost skips all cases of a series except each nth with -short. The race detector needs to see code run, not all of
// its cases.
func skipMost(t *testing.T, i, n int) {
	t.Helper()
	if testing.Short() && i%n != 0 {
		t.Skip("one of many")
	}
}

func TestMain(m *testing.M) { testenv.Main(m) }
