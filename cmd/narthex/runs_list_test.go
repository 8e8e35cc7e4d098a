package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"narthex/internal/runs"
	"narthex/internal/signup"
)

// A truncated list prints a command that lists exactly the rest, page by page.
func TestAListSaysHowToGetTheRest(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	began := time.Now().UTC().Format(time.RFC3339Nano)
	var own []string
	for range 3 {
		_, problem := post(t, o.url+"/api/auth/register", applicant())
		if problem["status"] != float64(http.StatusInternalServerError) {
			t.Fatalf("register: %v, want it rolled back", problem)
		}
		own = append([]string{o.newTenant(own)}, own...)
	}
	until := time.Now().UTC().Format(time.RFC3339Nano)
	words := []string{"signups", "list", "--step", "CreateDatabase", "--since", began, "--until", until, "--limit", "1"}
	var listed []string
	for words != nil { // other tests' signups are listed too
		output := wantPrinted(t, o.variables, words...)
		table, hint, more := strings.Cut(output, "There are more: narthex ")
		lines := strings.Split(strings.TrimSpace(table), "\n")
		if len(lines) != 2 {
			t.Fatalf("narthex %v prints\n%s\nwant a header and one signup", words, output)
		}
		listed = append(listed, strings.Fields(lines[1])[2])
		if words = nil; more {
			words = strings.Fields(hint)
			wantIn(t, hint, "signups list --limit 1 --since "+began+" --step CreateDatabase --until 20")
		}
	}
	got := slices.DeleteFunc(slices.Clone(listed), func(tenant string) bool { return !slices.Contains(own, tenant) })
	if !slices.Equal(got, own) || len(slices.Compact(slices.Clone(listed))) != len(listed) {
		t.Errorf("page by page, the signups listed are\n%v\nwant each once, and among them, in this order,\n%v", listed, own)
	}
	status, whole := narthex(t, o.variables, "signups", "list", "--json", "--limit", "1000", "--since", began)
	if strings.Contains(whole, "There are more") || status != 0 {
		t.Errorf("a complete list: status %d, it says that there are more:\n%s", status, whole)
	}
}

// newTenant waits until Temporal lists a rolled-back signup that isn't among the known ones, and returns its tenant.
func (o *operated) newTenant(known []string) (tenant string) {
	o.t.Helper()
	const selectOther = `SELECT tenant_id FROM audit_log WHERE tenant_id <> ALL($1)`
	err := o.registry.QueryRow(o.t.Context(), selectOther, append([]string{}, known...)).Scan(&tenant)
	if err != nil {
		o.t.Fatal(err)
	}
	o.awaitListed(signup.Workflow, tenant, "SignupOutcome = 'rolled_back'")
	return tenant
}

// awaitListed waits until Temporal lists a tenant's run that meets a condition, and returns its workflow id.
func (o *operated) awaitListed(workflow, tenantID, condition string) (workflowID string) {
	o.t.Helper()
	query := fmt.Sprintf("WorkflowType = '%s' AND TenantId = '%s' AND %s", workflow, tenantID, condition)
	temporal := dialShared(o.t)
	o.await(query, func() bool {
		found, err := temporal.ListWorkflow(o.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil || len(found.Executions) == 0 {
			return false
		}
		workflowID = found.Executions[0].Execution.WorkflowId
		return true
	})
	return workflowID
}

// TestAListOfWhatFailed replays a drill: a signup is terminated, and its applicant tries again in vain; another is rolled
// back; a third succeeds. The failed ones are listed until they are replayed, in the words of `show`.
func TestAListOfWhatFailed(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	_, _ = post(t, o.url+"/api/auth/register", applicant())
	rolledBack := o.newTenant(nil)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	stuck, person := o.terminate()
	status, problem := post(t, o.url+"/api/auth/register", person)
	if status != http.StatusConflict {
		t.Errorf("register with the terminated signup's email: %d %v, want 409", status, problem)
	}
	created := wantOK(t, o.url+"/api/auth/register", applicant())["tenantId"].(string)
	o.awaitListed(signup.Workflow, created, "ExecutionStatus = 'Completed'")

	words := map[string]string{}
	for _, e := range o.listed("--since", "1h") {
		words[e.TenantID] = e.Outcome
		wantIn(t, wantPrinted(t, o.variables, "signups", "show", e.TenantID), "outcome "+e.Outcome)
	}
	for tenant, want := range map[string]string{rolledBack: "rolled_back", stuck: "terminated", created: "created"} {
		if words[tenant] != want {
			t.Errorf("for the tenant %s it says %q, want %q", tenant, words[tenant], want)
		}
	}
	if len(words) != 4 { // including the second try
		t.Errorf("%d signups are listed, want 4: %v", len(words), words)
	}
	o.wantFailed(stuck, rolledBack)

	wantIn(t, wantPrinted(t, o.variables, "signups", "replay", stuck), stuck+": created")
	o.awaitListed(signup.Workflow, stuck, "ExecutionStatus = 'Completed'")
	o.wantFailed(rolledBack)
	session := wantOK(t, o.url+"/api/auth/login", map[string]string{"email": person["email"], "password": person["password"]})
	if session["tenantId"] != stuck {
		t.Errorf("login leads to %v, want the tenant %s that was replayed", session["tenantId"], stuck)
	}
	// It fails for the signups of other tests, which have other keys.
	_, output := narthex(t, o.variables, "signups", "replay", "--failed", "--since", "1d")
	wantIn(t, output, ", "+rolledBack+": created")
}

// terminate signs up, and terminates the signup while it is at CreateTenant.
func (o *operated) terminate() (tenantID string, person map[string]string) {
	o.t.Helper()
	release := o.held()
	temporal := dialShared(o.t)
	person = applicant()
	answered, tenantID, workflowID := o.begin(temporal, person)
	if err := temporal.TerminateWorkflow(o.t.Context(), workflowID, "", "a test"); err != nil {
		o.t.Fatal(err)
	}
	<-answered
	release()
	return tenantID, person
}

// listed returns what `signups list` lists of this registry's signups.
func (o *operated) listed(flags ...string) (entries []runs.Entry) {
	o.t.Helper()
	printed := wantPrinted(o.t, o.variables, append([]string{"signups", "list", "--json", "--limit", "1000"}, flags...)...)
	if err := json.Unmarshal([]byte(printed), &entries); err != nil {
		o.t.Fatal(err)
	}
	return o.own(entries)
}

func (o *operated) wantFailed(want ...string) {
	o.t.Helper()
	var got []string
	for _, e := range o.listed("--failed") {
		got = append(got, e.TenantID)
	}
	if !slices.Equal(got, want) {
		o.t.Errorf("signups list --failed lists %v, want %v", got, want)
	}
}

// A signup whose email belongs to another church by now isn't replayed, because its saga would roll back.
func TestAReplayIsRefusedIfAnotherChurchHasTheEmail(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	person := applicant()
	_, _ = post(t, o.url+"/api/auth/register", person)
	first := o.newTenant(nil)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	second := wantOK(t, o.url+"/api/auth/register", person)["tenantId"].(string)
	before := wantPrinted(t, o.variables, "signups", "show", first)
	status, output := narthex(t, o.variables, "signups", "replay", first)
	wantIn(t, output, "1 of 1, "+first+": not replayed: another church has its email", "narthex: 1 of 1 signups were not replayed")
	if status != 1 {
		t.Errorf("replay: status %d, want 1", status)
	}
	if after := wantPrinted(t, o.variables, "signups", "show", first); after != before {
		t.Errorf("the refused replay changed what `show` says from\n%s\nto\n%s", before, after)
	}
	wantIn(t, wantPrinted(t, o.variables, "signups", "show", second), "outcome created")
	unreachable := slices.Concat(o.variables, []string{unreachableRegistry})
	_, output = narthex(t, unreachable, "signups", "replay", first)
	wantIn(t, output, first+": not replayed: look for the email's holder: no connection to PostgreSQL")
}
