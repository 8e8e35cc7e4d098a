package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"narthex/internal/dev/testenv"
	"narthex/internal/invitation"
)

// inviting is a service with a church. Invitations can be held at their first step.
type inviting struct {
	*operated
	tenantID, accessToken string
}

// newInviting starts a service whose API answers an invitation with 202 and its token after a short wait.
func newInviting(t *testing.T) *inviting {
	t.Helper()
	i := &inviting{operated: newOperated(t, "SIGNUP_WAIT=1s")}
	i.exec(`ALTER ROLE ` + i.role + ` CREATEDB`)
	person := applicant()
	i.await("a church", func() bool { // the signup may take longer than the wait
		status, _ := post(t, i.url+"/api/auth/register", person)
		return status == http.StatusCreated || status == http.StatusConflict
	})
	i.await("a session", func() bool {
		status, session := post(t, i.url+"/api/auth/login", map[string]string{"email": person["email"], "password": person["password"]})
		if status == http.StatusOK {
			i.tenantID, i.accessToken = session["tenantId"].(string), session["accessToken"].(string)
		}
		return status == http.StatusOK
	})
	return i
}

// invite asks for an invitation, and returns the answer.
func (i *inviting) invite(email string) (status int, token string) {
	i.t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "firstName": "Kim", "lastName": "Muster"})
	if err != nil {
		i.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(i.t.Context(), http.MethodPost, i.url+"/api/admins/invitations", bytes.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+i.accessToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ InvitationToken string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		i.t.Fatal(err)
	}
	return response.StatusCode, answer.InvitationToken
}

// wantAccepted accepts an invitation with its token.
func (i *inviting) wantAccepted(token string) {
	i.t.Helper()
	body := map[string]string{"invitationToken": token, "password": "a password of mine"}
	if session := wantOK(i.t, i.url+"/api/auth/invitations/accept", body); session["tenantId"] != i.tenantID {
		i.t.Errorf("the invitation is to %v, want the church %s", session["tenantId"], i.tenantID)
	}
}

// listed waits until Temporal lists an invitation of the church that meets a condition, and returns the workflow id.
func (i *inviting) listed(condition string) (workflowID string) {
	i.t.Helper()
	return i.awaitListed(invitation.Workflow, i.tenantID, condition)
}

// TestOperatorsActOnInvitations cancels, shows, replays and watches an invitation. The output is worded like that of
// `narthex signups`.
func TestOperatorsActOnInvitations(t *testing.T) {
	t.Parallel()
	i := newInviting(t)
	email := applicant()["email"]
	release := i.hold("admins")
	status, token := i.invite(email)
	if status != http.StatusAccepted || token == "" {
		t.Fatalf("invite: %d and the token %q, want 202 and one", status, token)
	}
	workflowID := i.listed("ExecutionStatus = 'Running'")
	wantIn(t, wantPrinted(t, i.variables, "invitations", "cancel", i.tenantID), // before its first step gives up
		"The invitation was asked to stop, and rolls back: narthex invitations watch "+i.tenantID)
	_, output := narthex(t, i.variables, "invitations", "replay", workflowID)
	wantIn(t, output, "not replayed: it is running")
	wantIn(t, wantPrinted(t, i.variables, "signups", "show", i.tenantID), "outcome created") // an invitation is no signup
	wantRefusal(t, "there is no signup "+workflowID, i.variables, "signups", "cancel", workflowID)
	release()
	status, output = narthex(t, i.variables, "invitations", "watch", i.tenantID)
	wantIn(t, output, "rolled back: CreateInvitedAdmin (", "narthex: the invitation was not created")
	if status != 1 {
		t.Errorf("watch of an invitation that was rolled back: status %d, want 1", status)
	}
	i.listed("SignupOutcome = 'rolled_back'")
	wantRefusal(t, "this invitation has ended: there is nothing to cancel", i.variables, "invitations", "cancel", i.tenantID)
	wantIn(t, wantPrinted(t, i.variables, "invitations", "show", i.tenantID),
		"tenant "+i.tenantID+" church "+i.tenantID+" database tenant_"+i.tenantID+" workflow "+workflowID,
		"outcome rolled_back", "failed CreateInvitedAdmin (", "DeleteInvitedAdmin completed")
	wantIn(t, wantPrinted(t, i.variables, "invitations", "list", "--failed", "--limit", "1000"),
		"STARTED TENANT OUTCOME FAILED STEP TOOK WORKFLOW", i.tenantID+" rolled_back CreateInvitedAdmin", "s "+workflowID)

	wantIn(t, wantPrinted(t, i.variables, "invitations", "replay", i.tenantID), "1 of 1, "+i.tenantID+": created, after ")
	i.wantAccepted(token)
	wantIn(t, wantPrinted(t, i.variables, "invitations", "watch", workflowID), "OfferInvitation completed", "created, after ")
	status, output = narthex(t, i.variables, "invitations", "replay", workflowID)
	if wantIn(t, output, "not replayed: it has succeeded", "narthex: 1 of 1 invitations were not replayed"); status != 1 {
		t.Errorf("replay of an invitation that has succeeded: status %d, want 1", status)
	}
	shown := testenv.StartReading(t, strings.NewReader(email), i.variables, "narthex", "invitations", "show", "--email")
	if shown.Exit(); strings.Contains(shown.Output(), email) {
		t.Errorf("the email is shown:\n%s", shown.Output())
	}
	wantIn(t, shown.Output(), "outcome created")
}

// A replay of a terminated invitation continues with what it has made, which locked the email.
func TestOperatorsReplayAnInvitationThatWasTerminated(t *testing.T) {
	t.Parallel()
	i := newInviting(t)
	email := applicant()["email"]
	temporal := dialShared(t)
	release := i.hold("invitations")
	_, token := i.invite(email)
	workflowID := i.listed("ExecutionStatus = 'Running'")
	i.await("the last step", func() bool {
		described, err := temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
		return err == nil && len(described.PendingActivities) == 1 && described.PendingActivities[0].ActivityType.Name == "OfferInvitation"
	})
	if err := temporal.TerminateWorkflow(t.Context(), workflowID, "", "a test"); err != nil {
		t.Fatal(err)
	}
	release()
	i.listed("ExecutionStatus = 'Terminated'")
	wantIn(t, wantPrinted(t, i.variables, "invitations", "show", workflowID), "outcome terminated", "IndexInvitedEmail completed 1")
	i.await("the end of the terminated invitation's last step, which may offer it", func() bool {
		var waits bool
		err := i.registry.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && !waits
	})
	wantIn(t, wantPrinted(t, i.variables, "invitations", "replay", workflowID), workflowID+": created")
	i.wantAccepted(token)
}

// Two invitations of one church are told apart by their workflow ids. One that PostgreSQL refused is shown with the cause
// in words. One whose email belongs to another church by now isn't replayed.
func TestInvitationsThatCanNotBeReplayed(t *testing.T) {
	t.Parallel()
	i := newInviting(t)
	person := applicant()
	i.change(`ALTER TABLE admin_email_index ADD CONSTRAINT closed CHECK (false) NOT VALID`)
	if status, _ := i.invite(person["email"]); status != http.StatusInternalServerError && status != http.StatusAccepted {
		t.Errorf("invite: status %d, want 500, or 202 if it takes long", status)
	}
	first := i.listed("SignupOutcome = 'rolled_back'")
	wantIn(t, wantPrinted(t, i.variables, "invitations", "show", i.tenantID), "failed IndexInvitedEmail (Database)",
		"insert email index entry: PostgreSQL refused: a value violates a check (23514 on closed)", "DeleteInvitedAdmin completed")
	status, output := narthex(t, i.variables, "invitations", "replay", i.tenantID)
	if wantIn(t, output, i.tenantID+": rolled back: IndexInvitedEmail (Database)"); status != 1 {
		t.Errorf("replay while the cause is there: status %d, want 1", status)
	}
	i.change(`ALTER TABLE admin_email_index DROP CONSTRAINT closed`)
	if status, _ := i.invite(applicant()["email"]); status/100 != 2 {
		t.Errorf("invite somebody else: status %d, want 201 or 202", status)
	}
	if second := i.listed("ExecutionStatus = 'Completed'"); second == first {
		t.Fatalf("two invitations have the workflow id %s", first)
	}
	wantRefusal(t, "there are several invitations of "+i.tenantID+
		": use a workflow id, which `narthex invitations list` shows", i.variables, "invitations", "show", i.tenantID)

	i.await("a church with the first's email", func() bool {
		status, _ := post(t, i.url+"/api/auth/register", person)
		return status == http.StatusCreated || status == http.StatusConflict
	})
	status, output = narthex(t, i.variables, "invitations", "replay", first)
	if wantIn(t, output, first+": not replayed: another church has its email"); status != 1 {
		t.Errorf("replay of an invitation whose email another church has: status %d, want 1", status)
	}
}

// Nobody can join a church that no longer exists: the replay rolls back and says why.
func TestAnInvitationToAChurchThatIsGone(t *testing.T) {
	t.Parallel()
	i := newInviting(t)
	release := i.hold("admins")
	_, _ = i.invite(applicant()["email"])
	workflowID := i.listed("ExecutionStatus = 'Running'")
	wantPrinted(t, i.variables, "invitations", "cancel", workflowID)
	release()
	i.listed("SignupOutcome = 'rolled_back'")
	i.change(`TRUNCATE churches CASCADE`)
	status, output := narthex(t, i.variables, "invitations", "replay", workflowID)
	if wantIn(t, output, workflowID+": rolled back: CreateInvited"); status != 1 {
		t.Errorf("replay: status %d, want 1", status)
	}
	wantIn(t, wantPrinted(t, i.variables, "invitations", "show", workflowID), "CreateInvited")
}
