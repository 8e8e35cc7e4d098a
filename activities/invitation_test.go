package activities_test

import (
	"encoding/json"
	"testing"
	"time"

	"narthex/internal/ids"
	"narthex/internal/invitation"
	"narthex/internal/registry"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// openChurch signs a church up, and returns what its signup's steps were given.
func (b *bundle) openChurch() signup.StepInput {
	b.t.Helper()
	signups := b.signups()
	in := signups.begin()
	signups.do(len(signup.Steps), in)
	return in
}

// invitations returns the steps that invite a co-admin to an open church.
func (b *bundle) invitations(church signup.StepInput) kind[invitation.StepInput] {
	return kind[invitation.StepInput]{
		bundle: b, steps: invitation.Steps, makes: invitationMakes,
		begin: func() invitation.StepInput { return b.newInvitation(church.TenantID, ids.New()+"@example.org") },
		again: func(in invitation.StepInput) invitation.StepInput { in.InvitationID = ids.New(); return in },
		ids:   func(in invitation.StepInput) (tenantID, id string) { return in.TenantID, in.AdminID },
	}
}

var invitationMakes = map[string]makes{
	"CreateInvitedAdmin":       {inRegistry, `SELECT count(*) FROM admins WHERE id = $1 AND role = 'CO_ADMIN' AND password_hash = ''`, 1},
	"IndexInvitedEmail":        {inRegistry, `SELECT count(*) FROM admin_email_index WHERE admin_id = $1`, 1},
	"CreateInvitedTenantAdmin": {inTenant, `SELECT count(*) FROM admins WHERE id = $1 AND role = 'CO_ADMIN' AND password_hash = ''`, 1},
}

// newInvitation returns the input of a new invitation's steps.
func (b *bundle) newInvitation(tenantID, email string) invitation.StepInput {
	b.t.Helper()
	invitee, err := json.Marshal(invitation.Invitee{Email: email, FirstName: "Kim", LastName: "Muster", Role: registry.RoleCoAdmin})
	if err != nil {
		b.t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	in := invitation.Input{
		TenantID: tenantID, AdminID: ids.New(), TokenHash: []byte(ids.New()),
		InvitedAt: now, ExpiresAt: now.Add(invitation.Lifetime),
	}
	in.Invitee, err = b.do.Keys.Seal(invitee, invitation.InviteePlace(tenantID))
	if err != nil {
		b.t.Fatal(err)
	}
	return invitation.StepInput{InvitationID: ids.New(), Input: in}
}

func TestStepsOfAnInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invitations := b.invitations(b.openChurch())
	for _, step := range invitation.Steps {
		if step.Undo == "" {
			continue
		}
		t.Run(step.Do, func(t *testing.T) { invitations.test(step.Do) })
	}
}

// An admin of any church can't be invited.
func TestATakenEmailCannotBeInvited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	church := b.openChurch()
	const email = "pat@example.org"
	b.signups().do(len(signup.Steps), b.newSignup(email))
	in := b.newInvitation(church.TenantID, email)
	for _, activity := range []string{"CreateInvitedAdmin", "IndexInvitedEmail"} {
		b.wantFailure(activity, in, failure{kind: saga.ErrorEmailTaken, benign: true})
	}
}

// The commit point has no compensation: once it has worked, nothing can be undone any more.
func TestOfferInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invitations := b.invitations(b.openChurch())
	in := invitations.begin()
	commitPoint := len(invitation.Steps) - 1
	invitations.do(commitPoint, in)
	for _, when := range []string{"the first time", "the second time"} {
		b.want(when, "OfferInvitation", in, "")
		offered := makes{inRegistry, countOffered, 2}
		if got := b.count(offered, in.TenantID, in.AdminID); got != offered.whole {
			t.Errorf("%s, %d tokens and entries in the audit log, want one each", when, got)
		}
	}
	for _, step := range invitation.Steps[:commitPoint] {
		b.want("once it was offered", step.Do, in, "")
		b.want("once it was offered", step.Undo, in, "")
	}
	for _, step := range invitation.Steps[:commitPoint] {
		invitations.wantMade("once it was offered", step.Do, in, true)
	}
}

// An invitation may be replayed weeks after it was requested. It can then be accepted for a whole week.
func TestAReplayedInvitationLastsAWeek(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invitations := b.invitations(b.openChurch())
	now := time.Now().UTC().Truncate(time.Microsecond)
	for late, want := range map[time.Duration]time.Time{
		23 * time.Hour:      now.Add(invitation.Lifetime - 23*time.Hour),
		30 * 24 * time.Hour: now.Add(invitation.Lifetime),
	} {
		in := invitations.begin()
		in.InvitedAt, in.ExpiresAt = now.Add(-late), now.Add(invitation.Lifetime-late)
		invitations.do(len(invitation.Steps), in)
		var ends time.Time
		if err := b.registry.QueryRow(t.Context(), `SELECT expires_at FROM invitations WHERE admin_id = $1`, in.AdminID).Scan(&ends); err != nil {
			t.Fatal(err)
		}
		if after := ends.Sub(want); after < 0 || after > time.Minute {
			t.Errorf("offered after %s, it can be accepted until %s, want %s", late, ends, want)
		}
	}
}

const countOffered = `
	SELECT (SELECT count(*) FROM invitations WHERE admin_id = $1)
		+ (SELECT count(*) FROM audit_log WHERE admin_id = $1 AND event = 'admin_invited')`

// Before a rollback, the saga asks whether the invitation was offered. After a no, it can't be offered any more.
func TestIsInvitationOffered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invitations := b.invitations(b.openChurch())
	offered, late := invitations.begin(), invitations.begin()
	invitations.do(len(invitation.Steps), offered)
	b.wantAnswer("after the commit point", invitation.IsOffered, offered, true)
	invitations.do(len(invitation.Steps)-1, late)
	b.wantAnswer("before the commit point", invitation.IsOffered, late, false)
	b.want("after the question", "OfferInvitation", late, saga.ErrorUndone)
}
