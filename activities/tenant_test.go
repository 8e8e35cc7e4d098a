package activities_test

import (
	"testing"

	"narthex/internal/saga"
	"narthex/internal/signup"
)

func TestCreateTenant(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("CreateTenant")
}

const countSignedUp = `
	SELECT (SELECT count(*) FROM tenants WHERE id = $1 AND status = 'active')
		+ (SELECT count(*) FROM audit_log WHERE tenant_id = $1 AND event = 'signed_up')`

// The commit point has no compensation: once it has worked, nothing can be undone any more.
func TestActivateTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	signups := b.signups()
	in := signups.begin()
	b.want("with no tenant", "ActivateTenant", in, saga.ErrorUndone)
	commitPoint := len(signup.Steps) - 1
	signups.do(commitPoint, in)
	b.want("for another run", "ActivateTenant", signups.again(in), saga.ErrorUndone)
	for _, when := range []string{"the first time", "the second time"} {
		b.want(when, "ActivateTenant", in, "")
		opened := makes{inRegistry, countSignedUp, 2}
		if got := b.count(opened, in.TenantID, in.TenantID); got != opened.whole {
			t.Errorf("%s, %d active tenants and entries in the audit log, want one each", when, got)
		}
	}
	for _, step := range signup.Steps[:commitPoint] {
		b.want("in a church that is open", step.Do, in, "")
		b.want("in a church that is open", step.Undo, in, "")
	}
	for _, step := range signup.Steps[:commitPoint] {
		signups.wantMade("in a church that is open", step.Do, in, true)
	}
}

// Before a rollback, the saga asks whether the church is open. After a no, it can't open any more.
func TestIsTenantOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	signups := b.signups()
	opened, late := signups.begin(), signups.begin()
	signups.do(len(signup.Steps), opened)
	b.wantAnswer("after the commit point", signup.IsTenantOpen, opened, true)
	signups.do(len(signup.Steps)-1, late)
	b.wantAnswer("before the commit point", signup.IsTenantOpen, late, false)
	b.want("after the question", "ActivateTenant", late, saga.ErrorUndone)
}
