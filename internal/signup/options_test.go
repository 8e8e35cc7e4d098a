package signup_test

import (
	"testing"
	"time"

	"narthex/internal/signup"
)

// A signup may be replayed weeks after it was requested, and its trial then ends later than its input says.
func TestTheUISaysWhatDoesNotChange(t *testing.T) {
	t.Parallel()
	requested := time.Date(2026, 11, 28, 20, 22, 9, 0, time.UTC)
	options := signup.StartOptions("queue", signup.Input{TenantID: "01t", AdminID: "01a", RequestedAt: requested,
		TrialEndsAt: requested.Add(14 * 24 * time.Hour)}, false)
	if want := "sign up tenant_01t"; options.StaticSummary != want {
		t.Errorf("summary %q, want %q", options.StaticSummary, want)
	}
	want := "Requested at 2026-11-28T20:22:09Z\n\n- tenant and church: `01t`\n- database and role: `tenant_01t`\n- PRIMARY admin: `01a`\n"
	if options.StaticDetails != want {
		t.Errorf("details\n%s\nwant\n%s", options.StaticDetails, want)
	}
}
