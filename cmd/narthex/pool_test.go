package main

import (
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/testenv"
)

// TestOperatorsSeeThePool waits for a worker to fill it.
func TestOperatorsSeeThePool(t *testing.T) {
	t.Parallel()
	variables := append(environment(t, sharedTemporal(t)), "DATABASE_POOL_SIZE=2")
	wantRefusal(t, "the pool cannot be looked at", variables, "pool", "status")
	wantPrinted(t, variables, "migrate")
	wantIn(t, wantPrinted(t, variables, "pool", "status"), "No database is ready: signups make their own.")
	if got := wantPrinted(t, variables, "pool", "status", "--json"); got != "[]\n" {
		t.Errorf("an empty pool is %q in JSON, want []", got)
	}
	testenv.Start(t, variables, "narthex", "worker")
	var output string
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(output, `"ready": 2`); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the pool is\n%s\nwant 2 ready", output)
		}
		output = wantPrinted(t, variables, "pool", "status", "--json")
	}
	wantIn(t, output, `"server": "127.0.0.1:`, `"template": "tenant_template_v1_`, `"schemaVersion": 1`, `"oldestAt": "`)
	wantIn(t, wantPrinted(t, variables, "pool", "status"), "SERVER SCHEMA TEMPLATE READY OLDEST 127.0.0.1:", " 1 tenant_template_v1_", " 2 20")

	wantRefusal(t, "DATABASE_POOL_SIZE is not a number from 0 to 1023", append(variables, "DATABASE_POOL_SIZE=many"), "worker")
	wantRefusal(t, "the pool cannot be looked at", append(variables, "REGISTRY_URL=postgres://n:5ecret@127.0.0.1:1/r"), "pool", "status")
}
