package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"

	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/migrations"
)

// All fleet commands print JSON on request, and those that change something ask first.
func TestFleetCommandsHaveTheSameFlags(t *testing.T) {
	t.Parallel()
	for _, cmd := range fleetCommand().Commands() {
		changes := cmd.Name() != "status" && cmd.Name() != "drift"
		if json, yes := cmd.Flags().Lookup("json") != nil, cmd.Flags().Lookup("yes") != nil; !json || yes != changes {
			t.Errorf("%s: has --json: %t, has --yes: %t; want true, %t", cmd.CommandPath(), json, yes, changes)
		}
	}
}

// Every command says what is next, asks before it does something, and exits with 0 only when it is done.
func TestFleetCommandsAskAndSayWhatIsNext(t *testing.T) {
	t.Parallel()
	const churches = 5
	f := newTestFleet(t, churches)
	f.wantNext(fmt.Sprintf("%d churches are behind schema version %d: %d on version 1.\n"+
		"To migrate them, once this release's workers run: narthex fleet migrate", churches, migrations.TenantVersion()+1, churches))
	f.command(1, "nobody can be asked: use --yes", "rehearse")
	f.command(1, "nobody can be asked: use --yes", "migrate", "--no-rehearsal")
	f.command(1, "no run is active: narthex fleet status", "pause", "--yes")
	f.command(1, `there is no run "x"`, "undo", "x", "--yes")
	f.command(1, "no church that has a database has the id", "migrate", "--yes", "--canary", ids.New())
	f.wantAsked("n", 1, "nothing was done", "rehearse")

	f.worker()
	f.wantSteered()
	f.command(1, "no run is active: narthex fleet status", "cancel", "--yes")
	f.wantEndedAfterATermination()
	f.wantRetriedAndUndone()
}

// wantSteered starts a run, and expects that it can be paused, resumed and cancelled, and that no other can start.
func (f *testFleet) wantSteered() {
	f.t.Helper()
	canary := f.churches[3]
	var started []fleet.Progress
	f.wantJSON(&started, "migrate", "--yes", "--no-wait", "--no-rehearsal", "--soak", "1h", "--canary", canary, "--json")
	run := f.await("it soaks", func(r runStatus) bool { return r.Stage == fleet.Soaking })
	if len(started) != 1 || started[0].RunID != run {
		f.t.Errorf("migrate --no-wait --json prints %+v, want the run %s", started, run)
	}
	f.wantNext(fmt.Sprintf("4 churches are behind schema version %d: 4 on version 1, 1 on version 2.\nA run is migrating churches now.",
		migrations.TenantVersion()+1))
	f.command(1, "--canary: the church "+canary+" is not behind, it has schema version 2", "migrate", "--yes", "--canary", canary)
	f.command(1, "a run over the churches on "+f.admin.Host+" is active", "migrate", "--yes", "--no-rehearsal")
	for _, command := range []string{"pause", "resume", "cancel"} {
		f.command(1, "nobody can be asked", command)
	}
	f.command(1, "nobody can be asked", "retry-failed", run)
	f.command(1, "cancel it first", "undo", run, "--yes")
	f.wantAsked("y", 0, "The run "+run+" is paused.", "pause")
	if got := f.status().Runs[0].State; got != fleet.Paused {
		f.t.Errorf("once pause has ended, the run is %s, want it paused", got)
	}
	f.wantNext("To migrate them, once this release's workers run: narthex fleet resume " + run)
	f.wantState("resume", run, fleet.Running)
	f.wantState("cancel", run, fleet.Cancelled)
}

// wantRetriedAndUndone lets a church fail, and expects that it can be retried, and then the run of the others undone.
func (f *testFleet) wantRetriedAndUndone() {
	f.t.Helper()
	broken := f.churches[0]
	f.exec("tenant_"+broken, `ALTER TABLE branches ADD COLUMN planted date`)
	f.command(1, "1 church failed: narthex fleet status says why", "migrate", "--yes", "--no-rehearsal", "--soak", "0")
	run := f.status().Runs[0].ID
	f.command(1, "1 church failed", "retry-failed", run, "--yes")
	f.exec("tenant_"+broken, `ALTER TABLE branches DROP COLUMN planted`)
	f.command(0, "is completed: 1 of 1 churches", "retry-failed", run, "--yes")
	f.wantNext(fmt.Sprintf("All %d churches have schema version %d.", len(f.churches), migrations.TenantVersion()+1))
	f.command(0, "No church is behind", "migrate")
	f.command(0, "[]", "rehearse", "--json")
	var undone fleet.Progress
	f.wantJSON(&undone, "undo", run, "--yes", "--json")
	if want := len(f.churches) - 3; undone.Tally.Changed != want {
		f.t.Errorf("undo --json prints %+v, want %d churches changed", undone, want)
	}
	f.wantCompleted(run)
}

// wantEndedAfterATermination expects that a run whose workflow was terminated can be ended.
func (f *testFleet) wantEndedAfterATermination() {
	f.t.Helper()
	f.command(0, "has started", "migrate", "--yes", "--no-wait", "--no-rehearsal", "--soak", "1h", "--canary", f.churches[4])
	run := f.await("it soaks", func(r runStatus) bool { return r.Stage == fleet.Soaking && r.State == fleet.Running })
	temporal, err := client.Dial(client.Options{HostPort: sharedTemporal(f.t)})
	if err == nil {
		defer temporal.Close()
		err = temporal.TerminateWorkflow(f.t.Context(), fleet.WorkflowID(f.admin.Host), "", "a test")
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.command(1, "the workflow of the run "+run+" was ended: narthex fleet cancel "+run+" ends the run too", "pause", "--yes")
	f.wantState("cancel", run, fleet.Cancelled)
}

// wantNext expects migrate and fleet status of the next release to say how many churches are behind and what is next.
func (f *testFleet) wantNext(want string) {
	f.t.Helper()
	f.command(0, want, "status")
	file := filepath.Join(testenv.Folder(f.t), "narthex.env")
	if err := os.WriteFile(file, []byte(strings.Join(f.variables, "\n")+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	run := f.next(f.t, nil, "migrate", "--env-file", file)
	if strings.Contains(want, ": narthex ") {
		want += " --env-file " + file + "\n"
	}
	if status := run.Exit(); status != 0 || !strings.Contains(run.Output(), want) {
		f.t.Errorf("migrate: status %d, it prints\n%s\nwant in it\n%s", status, run.Output(), want)
	}
	status := f.status()
	if _, next, _ := strings.Cut(want, "once this release's workers run: "); !strings.HasPrefix(next, status.Next) ||
		(status.Behind == 0) != strings.HasPrefix(want, "All") {
		f.t.Errorf("fleet status --json says %d are behind, next %q; want as in\n%s", status.Behind, status.Next, want)
	}
}

func (f *testFleet) wantJSON(into any, arguments ...string) {
	f.t.Helper()
	run := f.next(f.t, f.variables, append([]string{"fleet"}, arguments...)...)
	status := run.Exit()
	if err := json.Unmarshal([]byte(run.Output()), into); err != nil || status != 0 {
		f.t.Fatalf("fleet %v: status %d, %v\n%s\nwant status 0 and JSON", arguments, status, err, run.Output())
	}
}

// wantState steers the run, and expects that it has obeyed when the command ends.
func (f *testFleet) wantState(command, id string, want fleet.State) {
	f.t.Helper()
	var run ledger.Run
	f.wantJSON(&run, command, id, "--yes", "--json")
	if now := f.status().Runs[0].State; run.ID != id || run.State != want || now != want {
		f.t.Errorf("%s --json prints %+v, and the run is %s: want run %s to be %s", command, run, now, id, want)
	}
}

// wantAsked runs a command on a terminal on which somebody answers.
func (f *testFleet) wantAsked(answer string, wantStatus int, want string, arguments ...string) {
	f.t.Helper()
	terminal, somebody := openTerminal(f.t)
	if _, err := io.WriteString(somebody, answer+"\n"); err != nil {
		f.t.Fatal(err)
	}
	run := f.nextReading(f.t, terminal, f.variables, append([]string{"fleet"}, arguments...)...)
	status := run.Exit()
	if output := run.Output(); status != wantStatus || !strings.Contains(output, "? [y/N]") || !strings.Contains(output, want) {
		f.t.Errorf("fleet %v, answered with %s: status %d, it prints\n%s\nwant a question, status %d and %q",
			arguments, answer, status, output, wantStatus, want)
	}
}

// openTerminal returns a terminal to read from, and what somebody types on.
func openTerminal(t *testing.T) (terminal, somebody *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine makes no terminal:", err)
	}
	t.Cleanup(func() { terminal.Close() })
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		somebody, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { somebody.Close() })
	return terminal, somebody
}

// wantCompleted expects the shell to complete the id of a run.
func (f *testFleet) wantCompleted(run string) {
	f.t.Helper()
	for _, words := range []string{"undo ", "retry-failed ", "pause "} {
		completion := f.next(f.t, f.variables, append([]string{"__complete", "fleet"}, strings.Split(words, " ")...)...)
		if status := completion.Exit(); status != 0 || !strings.Contains(completion.Output(), run+"\t") {
			f.t.Errorf("fleet %s<Tab>: status %d, %s\nwant %s among them", words, status, completion.Output(), run)
		}
	}
}

// A run that is still rehearsing is not in the ledger, but status shows it, and it can be paused, resumed and cancelled.
func TestARunIsSteeredWhileItRehearses(t *testing.T) {
	t.Parallel()
	f := newTestFleet(t, 1)
	f.worker()
	release := f.lock(f.churches[0], holdUpDumps)
	f.command(0, "has started", "migrate", "--yes", "--no-wait", "--soak", "0")
	f.command(1, "is active: narthex fleet status shows it", "migrate", "--yes")
	f.command(0, "A run is rehearsing now.", "status")
	blind := f.next(t, append(f.variables, "TEMPORAL_ADDRESS=127.0.0.1:1"), "fleet", "status")
	const want = "Runs that are rehearsing are not shown: Temporal at 127.0.0.1:1 does not answer"
	if status := blind.Exit(); status != 0 || !strings.Contains(blind.Output(), want) {
		t.Errorf("fleet status without Temporal: status %d, it prints\n%s\nwant status 0 and %q in it", status, blind.Output(), want)
	}
	f.command(1, "no such run is active", "pause", ids.New(), "--yes")
	f.command(0, "is paused", "pause", "--yes")
	f.command(0, "To migrate them, once this release's workers run: narthex fleet resume ", "status")
	f.command(0, "has resumed", "resume", "--yes")
	f.command(0, "is cancelled", "cancel", "--yes")
	f.command(1, "no run is active: narthex fleet status", "cancel", "--yes")
	if runs := f.status().Runs; len(runs) != 0 {
		t.Errorf("after the cancel the ledger has %+v, want no run", runs)
	}

	waiting := f.next(t, f.variables, "fleet", "migrate", "--yes", "--soak", "0")
	waiting.WaitFor("has started")
	waiting.Signal(syscall.SIGINT)
	if status := waiting.Exit(); status != 1 || !strings.Contains(waiting.Output(), "continues: narthex fleet status shows it") {
		t.Errorf("an interrupted migrate: status %d, it prints\n%s\nwant status 1, and that the run continues", status, waiting.Output())
	}
	f.command(0, "is paused", "pause", "--yes")
	release()
	run := f.await("it has rehearsed", func(r runStatus) bool { return r.Stage != fleet.Rehearsing && r.Stage != fleet.Preparing })
	f.wantVersions("while the run is paused", map[string]int{f.churches[0]: migrations.TenantVersion()})
	f.wantState("cancel", run, fleet.Cancelled)
	f.exec("tenant_"+f.churches[0], `ALTER TABLE branches ADD COLUMN planted date`)
	f.command(1, "no church was touched: the rehearsal failed: "+f.churches[0], "migrate", "--yes")
}

// A worker that is killed while it rehearses leaves no pg_dump behind in a church's database.
func TestADumpEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	f := newTestFleet(t, 1)
	worker := f.worker()
	defer f.lock(f.churches[0], holdUpDumps)()
	f.command(0, "has started", "migrate", "--yes", "--no-wait", "--soak", "0")
	f.awaitDumps(1, time.Minute)
	worker.Signal(syscall.SIGKILL)
	worker.Exit()
	f.awaitDumps(0, 15*time.Second) // less than a dump waits for locks
}

// awaitDumps waits until so many dumps wait for a lock.
func (f *testFleet) awaitDumps(want int, limit time.Duration) {
	f.t.Helper()
	const waiting = `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'`
	conn := testenv.Connect(f.t, f.urlOf("postgres"))
	got := -1
	for deadline := time.Now().Add(limit); got != want && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := conn.QueryRow(f.t.Context(), waiting).Scan(&got); err != nil {
			f.t.Fatal(err)
		}
	}
	if got != want {
		f.t.Fatalf("after %s, %d dumps wait for a lock, want %d", limit, got, want)
	}
}
