package activities_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
)

// failing counts requests of churches as an API process does.
func (f *testFleet) failing() *ledger.FailedRequests {
	return ledger.NewFailedRequests(f.do.Registry.Pool(), slog.New(slog.DiscardHandler))
}

// fail reports n failed requests of a church.
func (f *testFleet) fail(n int, tenantID string) {
	requests := f.failing()
	for range n {
		requests.Count(tenantID)
	}
	requests.Report(f.t.Context())
}

// A canary is reported if more of its requests fail than before its change. After a resume, failures from before the resume
// count as before.
func TestCanariesAreComparedWithBefore(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 3)
	worse, same, better := churches[0], churches[1], churches[2]
	f.fail(2, worse)
	f.fail(4, same)
	f.fail(9, better)
	run := f.run()
	f.open(run)
	across := f.failing()
	f.change(run.RunID)
	watch := fleet.Watch{RunID: run.RunID, Server: run.Server}
	f.wantProblems("at once", watch, `[]`)
	f.fail(3, worse)
	f.fail(4, same)
	f.fail(1, better)
	for range 20 {
		across.Count(same)
	}
	across.Report(t.Context()) // this count began before the change: nobody knows which requests failed after it
	f.wantProblems("after the change", watch, fmt.Sprintf(`[%s: 3 requests failed since its change, 2 before]`, worse))

	watch.ResumedAt = time.Now()
	f.wantProblems("after a resumption", watch, `[]`)
	f.fail(5, worse) // as many as before, with those before the change
	f.wantProblems("after as many", watch, `[]`)
	f.fail(1, worse)
	f.wantProblems("after one more", watch, fmt.Sprintf(`[%s: 6 requests failed since the run was resumed, 5 before]`, worse))
}

// Failures are forgotten after hours, except those of an active run's canaries.
func TestOldFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 4)
	run := f.run()
	run.Options.Canaries = churches[:1]
	f.open(run)
	for _, id := range churches {
		f.fail(1, id)
	}
	counted := func() (ids []string) {
		t.Helper()
		if err := f.failing().Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.registry.QueryRow(t.Context(), `SELECT array_agg(tenant_id ORDER BY tenant_id) FROM failed_requests`).Scan(&ids); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if ids := counted(); len(ids) != 4 {
		t.Errorf("at first the failures of %v are left, want those of all 4", ids)
	}
	if _, err := f.registry.Exec(t.Context(), `UPDATE failed_requests SET created_at = now() - interval '3 hours'`); err != nil {
		t.Fatal(err)
	}
	if ids := counted(); fmt.Sprint(ids) != fmt.Sprint(churches[:1]) {
		t.Errorf("after 3 hours the failures of %v are left, want those of the canary %v", ids, churches[:1])
	}
	f.end(run.RunID)
	if ids := counted(); len(ids) != 0 {
		t.Errorf("after the run the failures of %v are left, want none", ids)
	}
}
