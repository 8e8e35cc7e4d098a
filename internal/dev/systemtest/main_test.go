// Package systemtest holds what Narthex promises as a whole, a file per promise: API, worker, Temporal and several
// databases, one of which breaks, hangs, lies or is looked into. What one route answers is tested in httpapi.
package systemtest

import (
	"testing"

	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
