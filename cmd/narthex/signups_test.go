package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/runs"
)

// operated is a service whose role may not create databases until the test allows it.
type operated struct {
	t         *testing.T
	variables []string
	url       string
	api       *testenv.Run // if it is a separate process
	server    *pgx.Conn    // as superuser
	registry  *pgx.Conn
	role      string
}

// newOperated starts a service with these variables in addition to those that it needs.
func newOperated(t *testing.T, more ...string) *operated {
	t.Helper()
	o := &operated{t: t, role: "service_" + ids.New(), server: testenv.Connect(t, testenv.PostgresURL(t))}
	o.exec(`CREATE ROLE ` + o.role + ` LOGIN CREATEROLE PASSWORD 'service'`)
	server, err := url.Parse(testenv.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	server.User = url.UserPassword(o.role, "service")
	o.variables = append(environment(t, sharedTemporal(t)), "SIGNUP_WAIT=1m", "TENANT_SERVER_URL="+server.String())
	o.variables = append(o.variables, more...)
	wantPrinted(t, o.variables, "migrate")
	o.registry = connectToRegistry(t, o.variables)
	o.url = ready(testenv.Start(t, o.variables, "narthex", "serve"))
	return o
}

func (o *operated) exec(sql string) {
	o.t.Helper()
	if _, err := o.server.Exec(o.t.Context(), sql); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// list waits until `signups list` shows the newest signup as wanted, and returns the list, newest first.
func (o *operated) list(newest string) (entries []runs.Entry) {
	o.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if err := json.Unmarshal([]byte(wantPrinted(o.t, o.variables, "signups", "list", "--json", "--limit", "1000")), &entries); err != nil {
			o.t.Fatal(err)
		}
		// Other tests' signups are in the same namespace.
		entries = o.own(entries)
		if len(entries) > 0 && entries[0].Outcome == newest {
			return entries
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("signups list: %v, want the newest %s", entries, newest)
		}
	}
}

// host is the name of the PostgreSQL server on which tenants' databases are made.
func (o *operated) host() string {
	config := o.server.Config()
	return postgres.ServerName(config.Host, int(config.Port))
}

// own returns the entries of signups that this registry's audit log or rows contain.
func (o *operated) own(entries []runs.Entry) (own []runs.Entry) {
	o.t.Helper()
	for _, e := range entries {
		var known bool
		err := o.registry.QueryRow(o.t.Context(), `
			SELECT EXISTS (SELECT FROM audit_log WHERE tenant_id = $1) OR EXISTS (SELECT FROM churches WHERE id = $1)`, e.TenantID).Scan(&known)
		if err != nil {
			o.t.Fatal(err)
		}
		if known {
			own = append(own, e)
		}
	}
	return own
}

// wantIn checks what a command printed.
func wantIn(t *testing.T, output string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(strings.Join(strings.Fields(output), " "), want) {
			t.Errorf("it prints\n%s\nwant %q in it", output, want)
		}
	}
}

// wantShown shows a failed signup by each of its names, and watches it.
func wantShown(o *operated, email string, failed runs.Entry, publicID string) {
	t := o.t
	t.Helper()
	for _, id := range []string{failed.TenantID, failed.WorkflowID, publicID} {
		shown := wantPrinted(t, o.variables, "signups", "show", id)
		wantIn(t, shown,
			"tenant "+failed.TenantID+" church "+failed.TenantID+" database tenant_"+failed.TenantID+" server "+o.host(),
			" workflow signup-", "outcome rolled_back", "failed CreateDatabase (Database)", "CreateDatabase failed 1",
			"PostgreSQL refused: Narthex's role may not create databases (42501)", "MigrateDatabase pending",
			"DropDatabase completed 1")
	}
	typed := strings.NewReader("  " + strings.ToUpper(email) + "\n")
	byEmail := testenv.StartReading(t, typed, o.variables, "narthex", "signups", "show", "--email")
	if status := byEmail.Exit(); status != 0 {
		t.Errorf("show --email: status %d, want 0", status)
	}
	wantIn(t, byEmail.Output(), failed.WorkflowID, "outcome rolled_back")
	if strings.Contains(byEmail.Output(), email) {
		t.Errorf("show --email prints the email:\n%s", byEmail.Output())
	}
	wantIn(t, wantPrinted(t, o.variables, "signups", "show", "--json", failed.TenantID),
		`"state": "rolled_back"`, `"outcome": "rolled_back"`,
		`"churchId": "`+failed.TenantID+`"`, `"database": "tenant_`+failed.TenantID+`"`, `"server": "`+o.host()+`"`,
		`"CreateDatabase": "create database: create database`)
	watchStatus, watched := narthex(t, o.variables, "signups", "watch", failed.TenantID)
	wantIn(t, watched, "CreateDatabase failed", "DropDatabase completed", "rolled back: CreateDatabase (Database)",
		"narthex: the church was not created")
	if watchStatus != 1 {
		t.Errorf("watch of a signup that was rolled back: status %d, want 1", watchStatus)
	}
}

// TestOperatorsSeeAndReplayAFailedSignup does what an operator on call does.
func TestOperatorsSeeAndReplayAFailedSignup(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	person := applicant()
	status, problem := post(t, o.url+"/api/auth/register", person)
	if status != http.StatusInternalServerError {
		t.Fatalf("register: status %d, want 500: %v", status, problem)
	}
	failed := o.list("rolled_back")[0]
	if failed.FailedStep != "CreateDatabase" || failed.ClosedAt == nil {
		t.Errorf("signups list: %v, want CreateDatabase as the failed step and when it was closed", failed)
	}
	table := wantPrinted(t, o.variables, "signups", "list", "--outcome", "rolled_back", "--step", "CreateDatabase", "--since", "1h")
	wantIn(t, table, "STARTED TENANT OUTCOME FAILED STEP TOOK", failed.TenantID+" rolled_back CreateDatabase")

	wantShown(o, person["email"], failed, problem["signupId"].(string))

	post(t, o.url+"/api/auth/register", person) // again, with a tenant of its own
	earlier := failed
	for failed.TenantID == earlier.TenantID {
		failed = o.list("rolled_back")[0]
	}
	status, output := narthex(t, o.variables, "signups", "replay", earlier.TenantID)
	if status != 1 {
		t.Errorf("replay of the earlier one while the cause is there: status %d, want 1\n%s", status, output)
	}
	wantIn(t, output, "1 of 1, "+earlier.TenantID+": rolled back: CreateDatabase (Database)") // this one is replayed, not the later one
	status, output = narthex(t, o.variables, "signups", "replay", failed.TenantID)
	if status != 1 {
		t.Errorf("replay while the cause is there: status %d, want 1\n%s", status, output)
	}
	wantIn(t, output, "1 of 1, "+failed.TenantID+": rolled back: CreateDatabase (Database)", "narthex: 1 of 1 signups were not created")

	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	wantIn(t, wantPrinted(t, o.variables, "signups", "replay", failed.TenantID), "1 of 1, "+failed.TenantID+": created")
	session := wantOK(t, o.url+"/api/auth/login", map[string]string{"email": person["email"], "password": person["password"]})
	if session["tenantId"] != failed.TenantID {
		t.Errorf("login leads to %v, want the tenant %s that was replayed", session["tenantId"], failed.TenantID)
	}
	o.list("created")
	status, output = narthex(t, o.variables, "signups", "replay", failed.TenantID)
	wantIn(t, output, "not replayed: it has succeeded")
	if status != 1 || strings.Contains(table+output, person["email"]) {
		t.Errorf("status %d, want 1 and no email in\n%s", status, output)
	}
}

func TestSignupsRefuse(t *testing.T) {
	t.Parallel()
	variables := environment(t, sharedTemporal(t))
	unknown := ids.New()
	wantRefusal(t, "no worker polls the task queue", variables, "signups", "replay", unknown)
	wantRefusal(t, "there is no signup "+unknown, variables, "signups", "show", unknown)
	wantRefusal(t, "there is no signup nonsense", variables, "signups", "cancel", "nonsense")
	wantRefusal(t, "there is no signup signup-' OR", variables, "signups", "watch", "signup-' OR 1=1")
	wantMisused(t, "don't pass an email as an argument", variables, "signups", "show", "5ecret@example.org")
	wantMisused(t, "don't pass an email as an argument", variables, "signups", "replay", unknown, "5ecret@example.org")
	wantRefusal(t, "the email on standard input must not be empty", variables, "signups", "show", "--email")
	wantMisused(t, "give one ID, or --email", variables, "signups", "show")
	wantMisused(t, "--failed needs a --since", variables, "signups", "replay", "--failed")
	wantMisused(t, `there is no outcome "lost"`, variables, "signups", "list", "--outcome", "lost")
	wantMisused(t, `there is no step "Drop"`, variables, "signups", "list", "--step", "Drop")
	wantMisused(t, "--limit must be at least 1", variables, "signups", "list", "--limit", "0")
	wantRefusal(t, "SEAL_KEYSET is not set; INDEX_KEYSET is not set", nil, "signups", "list")
	wantRefusal(t, "Temporal at 127.0.0.1:1 does not answer", append(variables, "TEMPORAL_ADDRESS=127.0.0.1:1"), "signups", "list")
}

// held makes signups wait at CreateTenant until it is released.
func (o *operated) held() (release func()) {
	o.t.Helper()
	return o.hold("tenants")
}

// hold blocks writes to a table of the registry until it is released.
func (o *operated) hold(table string) (release func()) {
	o.t.Helper()
	lock := testenv.Connect(o.t, o.registry.Config().ConnString())
	tx, err := lock.Begin(o.t.Context())
	if err == nil {
		_, err = tx.Exec(o.t.Context(), `LOCK TABLE `+table+` IN EXCLUSIVE MODE`)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.Background()); err != nil {
			o.t.Error(err)
		}
	}
}

// begin starts a signup that is held. When the held step's quick attempt has given up, it returns the signup's answer and
// ids. It does not ask narthex, which may take too long: after 8.5 seconds, the signup starts to roll back.
func (o *operated) begin(temporal client.Client, person map[string]string) (answered chan string, tenantID, workflowID string) {
	o.t.Helper()
	answered, tenantID, workflowID = o.beginQuickly(temporal, person)
	o.await("the step that is held", func() bool {
		described, err := temporal.DescribeWorkflowExecution(o.t.Context(), workflowID, "")
		return err == nil && len(described.PendingActivities) > 0
	})
	return answered, tenantID, workflowID
}

// beginQuickly returns while the quick attempt is still being held.
func (o *operated) beginQuickly(temporal client.Client, person map[string]string) (answered chan string, tenantID, workflowID string) {
	o.t.Helper()
	answered = o.register(person)
	o.await("the signup's church", func() bool {
		err := o.registry.QueryRow(o.t.Context(), `SELECT id FROM churches`).Scan(&tenantID)
		return err == nil
	})
	o.await("the signup in Temporal's list", func() bool {
		found, err := temporal.ListWorkflow(o.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "TenantId = '" + tenantID + "'"})
		if err != nil || len(found.Executions) == 0 {
			return false
		}
		workflowID = found.Executions[0].Execution.WorkflowId
		return true
	})
	return answered, tenantID, workflowID
}

// await waits until there returns true.
func (o *operated) await(what string, there func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			o.t.Fatalf("waited three minutes for %s", what)
		}
	}
}

func dialShared(t *testing.T) client.Client {
	t.Helper()
	temporal, err := client.Dial(client.Options{HostPort: sharedTemporal(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	return temporal
}

// register signs a church up, and returns the answer.
func (o *operated) register(person map[string]string) (answered chan string) {
	answered = make(chan string, 1)
	go func() {
		status, answer := post(o.t, o.url+"/api/auth/register", person)
		answered <- fmt.Sprint(status, " ", answer["type"])
	}()
	return answered
}

func TestOperatorsCancelARunningSignup(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	release := o.held()
	answered, tenantID, _ := o.begin(dialShared(t), applicant())
	status, output := narthex(t, o.variables, "signups", "replay", tenantID)
	if wantIn(t, output, "not replayed: it is running"); status != 1 {
		t.Errorf("replay of a running signup: status %d, want 1", status)
	}
	wantIn(t, wantPrinted(t, o.variables, "signups", "cancel", tenantID), "rolls back")
	release()
	if got := <-answered; got != "500 /problems/signup-rolled-back" {
		t.Errorf("the signup was answered with %s, want 500 signup-rolled-back", got)
	}
	o.list("rolled_back")
	wantRefusal(t, "this signup has ended", o.variables, "signups", "cancel", tenantID)
}

// A terminated signup stays half-made. If its worker was in the middle of quick steps, these still finish. In both cases, a
// replay completes the signup.
func TestOperatorsReplayWhatWasTerminated(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*operated, client.Client, map[string]string) (chan string, string, string){
		"at a step that is an activity": (*operated).begin, "at a quick step": (*operated).beginQuickly,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOperated(t)
			o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
			release := o.held()
			temporal := dialShared(t)
			answered, tenantID, workflowID := begin(o, temporal, applicant())
			if err := temporal.TerminateWorkflow(t.Context(), workflowID, "", "a test"); err != nil {
				t.Fatal(err)
			}
			if got := <-answered; got != "500 /problems/signup-failed" {
				t.Errorf("the signup was answered with %s, want 500 signup-failed", got)
			}
			release()
			o.list("terminated")
			wantIn(t, wantPrinted(t, o.variables, "signups", "replay", tenantID), tenantID+": created")
			wantOnlyActiveTenants(t, o.variables)
		})
	}
}
