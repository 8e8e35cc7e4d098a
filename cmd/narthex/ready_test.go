package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/testenv"
)

// TestOperatorsSeeReadyDatabases waits until a worker has made them.
func TestOperatorsSeeReadyDatabases(t *testing.T) {
	t.Parallel()
	variables := append(environment(t, sharedTemporal(t)), "DATABASE_POOL_SIZE=2")
	wantRefusal(t, "the ready databases cannot be counted", variables, "ready", "status")
	wantPrinted(t, variables, "migrate")
	wantIn(t, wantPrinted(t, variables, "ready", "status"), "No database is ready: each signup creates its own.")
	if got := wantPrinted(t, variables, "ready", "status", "--json"); got != "[]\n" {
		t.Errorf("an empty stock is %q in JSON, want []", got)
	}
	testenv.Start(t, variables, "narthex", "worker")
	var output string
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(output, `"ready": 2`); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the stock is\n%s\nwant 2 ready", output)
		}
		output = wantPrinted(t, variables, "ready", "status", "--json")
	}
	wantIn(t, output, `"server": "127.0.0.1:`, `"template": "tenant_template_v1_`, `"schemaVersion": 1`, `"oldestAt": "`)
	wantIn(t, wantPrinted(t, variables, "ready", "status"),
		"SERVER SCHEMA TEMPLATE READY OLDEST 127.0.0.1:", " 1 tenant_template_v1_", " 2 20")
	const deprecated = "Command \"status\" is deprecated, use \"narthex ready status\"\n"
	if old := wantPrinted(t, variables, "pool", "status", "--json"); old != deprecated+output && old != output+deprecated {
		t.Errorf("under its old name, the command prints\n%s\nwant a deprecation warning and\n%s", old, output)
	}
	if help := wantPrinted(t, variables, "--help"); strings.Contains(help, "pool") {
		t.Errorf("the help names the old command:\n%s", help)
	}

	wantRefusal(t, "DATABASE_POOL_SIZE is not a number from 0 to 1023", append(variables, "DATABASE_POOL_SIZE=many"), "worker")
	unreachable := slices.Concat(variables, []string{unreachableRegistry})
	wantRefusal(t, "the ready databases cannot be counted", unreachable, "ready", "status")
}
