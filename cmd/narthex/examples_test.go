package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"narthex/internal/dev/program"
	"narthex/internal/dev/testenv"
	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// exampleID is the id in examples. The test replaces it.
const exampleID = "01m89x7m6zry4hep2a3rj5z1b8"

// answers are the messages of examples that exit with 1 here, because there is nothing to do or because of other tests' runs.
var answers = map[string]string{
	"signups replay --failed":     "signups were not ",
	"invitations replay --failed": "invitations were not ",
	"fleet pause":                 "narthex: no run is active",
	"fleet resume":                "narthex: no run is active",
	"fleet cancel":                "narthex: no run is active",
	"fleet undo":                  "narthex: there is no run ",
	"fleet retry-failed":          "narthex: there is no run ",
}

// TestExamplesOfTheHelpRun runs every example of every help text unchanged, except for ids.
func TestExamplesOfTheHelpRun(t *testing.T) {
	t.Parallel()
	e := newExamples(t)
	for _, cmd := range allCommands(newCommand()) {
		if cmd.Deprecated != "" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
			continue // hidden old names, and cobra's own commands
		}
		id := exampleID
		if prepare, ok := e.ids[strings.TrimPrefix(cmd.CommandPath(), "narthex ")]; ok {
			id = prepare()
		}
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			status, output := e.run(strings.ReplaceAll(line, exampleID, id))
			if want, ok := exampleAnswer(line); ok && status == 1 && strings.Contains(output, want) {
				continue
			}
			if status != 0 {
				t.Errorf("the help of `%s` has the example\n  %s\nwhose exit status is %d. It prints\n%s", cmd.CommandPath(), line, status, output)
			}
		}
	}
}

func exampleAnswer(example string) (answer string, ok bool) {
	for words, answer := range answers {
		if strings.Contains(example, "narthex "+words) || strings.Contains(example, " "+words) {
			return answer, true
		}
	}
	return "", false
}

// examples is a service on which examples run, with what they need.
type examples struct {
	*inviting
	folder string                   // has .env, and narthex in bin
	ids    map[string]func() string // by command: makes what it needs, and returns its id
}

func newExamples(t *testing.T) *examples {
	t.Helper()
	e := &examples{inviting: newInviting(t), folder: t.TempDir()}
	path, err := program.Build("narthex")
	if err == nil {
		err = os.Mkdir(filepath.Join(e.folder, "bin"), 0o700)
	}
	if err == nil {
		err = os.Symlink(path, filepath.Join(e.folder, "bin", "narthex"))
	}
	if err != nil {
		t.Fatal(err)
	}
	rolledBack := e.rolledBackSignups()
	known := func(id string) func() string { return func() string { return id } }
	church := func() string { return e.tenantID }
	e.ids = map[string]func() string{
		"signups replay": known(rolledBack), "signups show": known(rolledBack), "signups watch": known(rolledBack),
		"signups cancel":     e.runningSignup,
		"invitations cancel": e.runningInvitation, "invitations replay": e.cancelledInvitation,
		"invitations show": church, "invitations watch": church,
		"orphans keep": e.orphan, "orphans remove": e.orphan, "fleet drift": church,
	}
	return e
}

// rolledBackSignups lets two signups fail, one of them pat@example.org's, and returns the tenant of the other.
func (e *examples) rolledBackSignups() (tenantID string) {
	e.t.Helper()
	e.exec(`ALTER ROLE ` + e.role + ` NOCREATEDB`)
	defer e.exec(`ALTER ROLE ` + e.role + ` CREATEDB`)
	pat := applicant()
	pat["email"] = "pat@example.org"
	post(e.t, e.url+"/api/auth/register", pat)
	known := []string{e.tenantID, e.newTenant([]string{e.tenantID})}
	post(e.t, e.url+"/api/auth/register", applicant())
	return e.newTenant(known)
}

// runningSignup starts a signup that is held for a while.
func (e *examples) runningSignup() (tenantID string) {
	release := e.held()
	time.AfterFunc(5*time.Second, release)
	e.register(applicant())
	e.await("the signup's church", func() bool {
		return e.registry.QueryRow(e.t.Context(), `SELECT id FROM churches ORDER BY created_at DESC LIMIT 1`).Scan(&tenantID) == nil &&
			tenantID != e.tenantID
	})
	return e.awaitListedTenant(signup.Workflow, tenantID)
}

// runningInvitation invites pat@example.org. The invitation is held for a while.
func (e *examples) runningInvitation() string {
	time.AfterFunc(5*time.Second, e.hold("admins"))
	e.invite("pat@example.org")
	return e.awaitListedTenant(invitation.Workflow, e.tenantID)
}

// cancelledInvitation waits for the end of the invitation that was running.
func (e *examples) cancelledInvitation() string {
	e.listed("SignupOutcome = 'rolled_back'")
	return e.tenantID
}

func (e *examples) awaitListedTenant(workflow, tenantID string) string {
	e.awaitListed(workflow, tenantID, "ExecutionStatus = 'Running'")
	return tenantID
}

// orphan makes a database that no longer belongs to a church, and runs a sweep that sees it.
func (e *examples) orphan() (id string) {
	e.t.Helper()
	wantOK(e.t, e.url+"/api/auth/register", applicant())
	if err := e.registry.QueryRow(e.t.Context(), `SELECT id FROM churches WHERE id <> $1`, e.tenantID).Scan(&id); err != nil {
		e.t.Fatal(err)
	}
	for _, table := range []string{"admin_email_index WHERE tenant_id", "admins WHERE tenant_id", "tenants WHERE id", "churches WHERE id"} {
		e.change(`DELETE FROM ` + table + ` = '` + id + `'`)
	}
	wantPrinted(e.t, e.variables, "orphans", "sweep")
	return id
}

// run runs a line with a shell, in its own folder. A command that keeps running is stopped once it is ready.
func (e *examples) run(line string) (status int, output string) {
	e.t.Helper()
	dir, err := os.MkdirTemp(e.folder, "example")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ".env"), []byte(strings.Join(e.variables, "\n")+"\n"), 0o600)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	words := strings.Fields(strings.ReplaceAll(line, ".env", filepath.Join(dir, ".env")))
	switch words[len(words)-1] {
	case "serve", "api", "worker":
		service := testenv.Start(e.t, nil, "narthex", words[1:]...)
		service.WaitFor(`"msg":"ready"`)
		service.Signal(syscall.SIGTERM)
		return service.Exit(), service.Output()
	}
	shell := exec.CommandContext(e.t.Context(), "bash", "-c", strings.ReplaceAll(line, "/etc/bash_completion.d", dir))
	shell.Dir = dir
	shell.Env = append(append(program.NeutralEnvironment(), e.variables...), "PATH="+e.folder+"/bin:"+os.Getenv("PATH"))
	printed, err := shell.CombinedOutput()
	if err != nil && shell.ProcessState == nil {
		e.t.Fatal(err)
	}
	return shell.ProcessState.ExitCode(), string(printed)
}
