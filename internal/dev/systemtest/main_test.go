// Package systemtest tests what Narthex promises as a whole, one file per promise. It runs the API, a worker, Temporal and
// databases, and makes some of them fail, hang or give false answers. Single routes are tested in httpapi.
package systemtest

import (
	"testing"

	"narthex/internal/dev/testenv"
)

// skipMost skips all cases of a series except every nth with -short. The race detector needs to see the code run, not all
// of its cases.
func skipMost(t *testing.T, i, n int) {
	t.Helper()
	if testing.Short() && i%n != 0 {
		t.Skip("one of many")
	}
}

func TestMain(m *testing.M) { testenv.Main(m) }
