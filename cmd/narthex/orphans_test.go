package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
	"narthex/internal/orphan"
)

// TestOperatorsSeeAndKeepOrphans removes a church's rows, so that its database becomes an orphan.
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
	wantIn(t, wantPrinted(t, o.variables, "orphans", "sweep"), "KIND ID SERVER FIRST SEEN RENAMED ACTION DUE database "+tenantID)
	due := time.Now().UTC().Add(orphan.Grace).Format("2006-01-02")
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list"), "database "+tenantID, " - wait "+due, "Z rename")
	wantIn(t, wantPrinted(t, o.variables, "orphans", "keep", tenantID), "No sweep will remove "+tenantID)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list", "--json"), `"action": "keep"`)
	wantRefusal(t, "is kept: `narthex orphans keep --undo", o.variables, "orphans", "remove", tenantID)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "keep", "--undo", tenantID), "Sweeps may remove "+tenantID)

	wantRefusal(t, "there is no orphan", o.variables, "orphans", "keep", ids.New())
	wantRefusal(t, "there is no orphan", o.variables, "orphans", "keep", "tenant'; --")
	wantMisused(t, "accepts 1 arg(s)", o.variables, "orphans", "keep")
	wantRefusal(t, "no worker polls the task queue", append(o.variables, "TASK_QUEUE=nobody-"+strings.ToLower(ids.New())), "orphans", "sweep")
	wantRefusal(t, "there is no orphan", o.variables, "orphans", "remove", ids.New())
	wantRefusal(t, "there is no orphan", o.variables, "orphans", "remove", "tenant'; --")
	wantRefusal(t, "the orphans cannot be listed", append(o.variables, unreachableRegistry), "orphans", "list")
}

// TestASweepThatFailsExits1 revokes the right to rename databases.
func TestASweepThatFailsExits1(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	tenantID := wantOK(t, o.url+"/api/auth/register", applicant())["tenantId"].(string)
	o.change(`TRUNCATE churches CASCADE`)
	wantPrinted(t, o.variables, "orphans", "sweep")
	o.change(`UPDATE orphans SET first_seen_at = now() - interval '8 days'`)
	o.exec(`ALTER ROLE ` + o.role + ` NOCREATEDB`)
	status, output := narthex(t, o.variables, "orphans", "sweep")
	if status != 1 {
		t.Errorf("sweep: status %d, want 1", status)
	}
	wantIn(t, output, "database "+tenantID, " failed ", "narthex: 1 orphans could not be removed: the worker's log says why")
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "sweep"), " rename ", "Z drop")
	wantRefusal(t, "has already been renamed: the first sweep after", o.variables, "orphans", "remove", tenantID)
}

func (o *operated) change(sql string) {
	o.t.Helper()
	if _, err := o.registry.Exec(o.t.Context(), sql); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// TestRemovingAnOrphanFreesItsEmail terminates a signup, which leaves its email locked, and removes what it left behind.
func TestRemovingAnOrphanFreesItsEmail(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	release := o.held()
	person, temporal := applicant(), dialShared(t)
	answered, tenantID, workflowID := o.begin(temporal, person)
	wantRefusal(t, "there is no orphan", o.variables, "orphans", "remove", tenantID) // its signup is running
	if err := temporal.TerminateWorkflow(t.Context(), workflowID, "", "a test"); err != nil {
		t.Fatal(err)
	}
	<-answered
	release()
	o.await("the end of the terminated signup's last step, done or given up", func() bool {
		var waits bool
		err := o.registry.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && !waits
	})
	if status, answer := post(t, o.url+"/api/auth/register", person); status/100 == 2 {
		t.Fatalf("register: status %d, %v; want 409, because the terminated signup still holds the email", status, answer)
	}

	printed := wantPrinted(t, o.variables, "orphans", "remove", tenantID)
	wantIn(t, printed, "The rows of "+tenantID+" are deleted from the registry. Its email is free.",
		"The database of "+tenantID, "is renamed to orphan_"+tenantID)
	session := wantOK(t, o.url+"/api/auth/register", person)
	if session["tenantId"] == tenantID {
		t.Error("the new church has the removed one's id")
	}
	wantOnlyActiveTenants(t, o.variables)
	wantIn(t, wantPrinted(t, o.variables, "orphans", "list"), "database "+tenantID, "Z drop")
}

// TestRemovingATerminatedInvitationFreesItsEmail terminates an invitation that has made everything except its token.
func TestRemovingATerminatedInvitationFreesItsEmail(t *testing.T) {
	t.Parallel()
	i := newInviting(t)
	email, temporal := applicant()["email"], dialShared(t)
	release := i.hold("invitations")
	i.invite(email)
	workflowID := i.listed("ExecutionStatus = 'Running'")
	var adminID string
	i.await("the invited admin, whose token is held", func() bool {
		described, err := temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
		return err == nil && len(described.PendingActivities) > 0 &&
			i.registry.QueryRow(t.Context(), `SELECT id FROM admins WHERE password_hash = ''`).Scan(&adminID) == nil
	})
	wantRefusal(t, "there is no orphan", i.variables, "orphans", "remove", adminID) // its invitation is running
	if err := temporal.TerminateWorkflow(t.Context(), workflowID, "", "a test"); err != nil {
		t.Fatal(err)
	}
	i.listed("ExecutionStatus = 'Terminated'")
	i.await("the end of its last step, which has been given up", func() bool {
		var waits bool
		err := i.registry.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && !waits
	})
	release()
	if status, _ := i.invite(email); status != http.StatusConflict {
		t.Fatalf("invite again: status %d, want 409: the email is locked by what the terminated invitation left", status)
	}

	wantIn(t, wantPrinted(t, i.variables, "orphans", "sweep"), "entry "+adminID, " - wait")
	wantIn(t, wantPrinted(t, i.variables, "orphans", "remove", adminID), "The admin "+adminID+" is deleted. The email is free.")
	wantIn(t, wantPrinted(t, i.variables, "orphans", "list"), "There are no orphans.")
	church := i.church(i.tenantID)
	var left int
	if err := church.QueryRow(t.Context(), `SELECT count(*) FROM admins`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d admins are left in the church's database (%v), want 1: the founder", left, err)
	}
	status, token := i.invite(email)
	if status/100 != 2 {
		t.Fatalf("invite after the removal: status %d, want 201 or 202", status)
	}
	i.listed("ExecutionStatus = 'Completed'")
	i.wantAccepted(token)
}

// church connects to a church's database, as superuser.
func (o *operated) church(tenantID string) *pgx.Conn {
	o.t.Helper()
	config := o.server.Config()
	config.Database = ids.DatabaseName(tenantID)
	conn, err := pgx.ConnectConfig(o.t.Context(), config)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
