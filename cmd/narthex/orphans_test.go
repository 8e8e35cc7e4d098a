package main

import (
	"strings"
	"testing"

	"narthex/internal/ids"
)

// TestOperatorsSeeAndKeepOrphans takes a church's rows away, so that its database is an orphan.
func TestOperatorsSeeAndKeepOrphans(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	tenantID := wantOK(t, o.url+"/api/auth/register", applicant())["tenantId"].(string)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "sweep"), "There are no orphans.")
	if _, err := o.registry.Exec(t.Context(), `TRUNCATE churches CASCADE`); err != nil {
		t.Fatal(err)
	}
	wantIn(t, wantPrinted(t, o.variables, "orphans", "sweep", "--dry-run"), "database "+tenantID, " - wait")
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list"), "There are no orphans.")
	wantIn(t, wantPrinted(t, o.variables, "orphans", "sweep"), "KIND ID SERVER FIRST SEEN RENAMED ACTION database "+tenantID)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list"), "database "+tenantID, " - wait")
	wantIn(t, wantPrinted(t, o.variables, "orphans", "keep", tenantID), "No sweep will remove "+tenantID)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list", "--json"), `"action": "keep"`)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "keep", "--undo", tenantID), "Sweeps may remove "+tenantID)

	wantRefusal(t, "the last sweep has seen no orphan", o.variables, "orphans", "keep", ids.New())
	wantRefusal(t, "the last sweep has seen no orphan", o.variables, "orphans", "keep", "tenant'; --")
	wantMisused(t, "accepts 1 arg(s)", o.variables, "orphans", "keep")
	wantRefusal(t, "no worker takes signups", append(o.variables, "TASK_QUEUE=nobody-"+strings.ToLower(ids.New())), "orphans", "sweep")
	wantRefusal(t, "the orphans cannot be listed", append(o.variables, "REGISTRY_URL=postgres://n:5ecret@127.0.0.1:1/r"), "orphans", "list")
}
