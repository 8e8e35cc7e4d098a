package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestMisspeltWordsExitWith2AndASuggestion(t *testing.T) {
	t.Parallel()
	wantMisused(t, `unknown command "serv" for "narthex": did you mean serve?`, nil, "serv")
	wantMisused(t, `unknown command "lst" for "narthex signups": did you mean list?`, nil, "signups", "lst")
	wantMisused(t, `unknown command "lst" for "narthex invitations": did you mean list?`, nil, "invitations", "lst")
	wantMisused(t, `unknown command "bogus" for "narthex orphans": it is one of `, nil, "orphans", "bogus")
	wantMisused(t, `unknown command "drft" for "narthex fleet": did you mean drift?`, nil, "fleet", "drft")
	wantMisused(t, `narthex fleet drift doesn't take the argument "bogus"`, nil, "fleet", "drift", "bogus")
	wantMisused(t, `unknown command "promot" for "narthex worker": did you mean promote?`, nil, "worker", "promot")
	wantMisused(t, `unknown command "bsh" for "narthex completion": did you mean bash or fish or zsh?`, nil, "completion", "bsh")
	wantMisused(t, `unknown command "signup" for "narthex": did you mean signups?`, nil, "help", "signup")
	wantMisused(t, `narthex signups list doesn't take the argument "bogus"`, nil, "signups", "list", "bogus")
	wantMisused(t, `unknown flag: --outcom: narthex signups list takes --`, nil, "signups", "list", "--outcom", "created")
	wantMisused(t, `there is no outcome "made": it is one of created, `, nil, "signups", "list", "--outcome", "made")
	wantMisused(t, `there is no step "MakeDatabase": it is one of CreateDatabase, `, nil, "signups", "list", "--step", "MakeDatabase")
	wantMisused(t, `there is no step "CreateDatabase": it is one of CreateInvitedAdmin, `, nil,
		"invitations", "list", "--step", "CreateDatabase")
	wantMisused(t, `it must be like 24h, 7d, 2026-11-26`, nil, "signups", "list", "--since", "yesterday")
	wantMisused(t, `it must be like 24h, 7d, 2026-11-26`, nil, "invitations", "list", "--until", "tomorrow")
	wantMisused(t, `--since must be before --until`, nil, "signups", "list", "--since", "1d", "--until", "7d")
	wantMisused(t, `give one ID`, nil, "signups", "watch")
	wantMisused(t, `give one ID`, nil, "invitations", "cancel")
	wantMisused(t, `--failed needs a --since`, nil, "invitations", "replay", "--failed")
	wantMisused(t, `there is no stage "stop": it is one of replace, `, nil, "keys", "rotate", "--stage", "stop")
	wantMisused(t, `there is no variable of keys "REGISTRY_URL"`, nil, "keys", "rotate", "REGISTRY_URL")
}

func TestFleetOptionsOutOfRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flag, value, want string }{
		{"--at-once", "0", "--at-once must be from 1 to 64"},
		{"--at-once", "65", "--at-once must be from 1 to 64"},
		{"--at-once", "many", `invalid argument "many" for "--at-once"`},
		{"--rate", "-1", "--rate must be from 0 to 1000000"},
		{"--rate", "NaN", "--rate must be from 0 to 1000000"},
		{"--rate", "Inf", "--rate must be from 0 to 1000000"},
		{"--soak", "soon", `invalid argument "soon" for "--soak"`},
		{"--soak", "-1s", "--soak must not be negative"},
		{"--halt-at", "2", `--halt-at takes a share like 2%, not "2"`},
		{"--halt-at", "0%", `--halt-at takes a share like 2%, not "0%"`},
		{"--halt-at", "101%", `--halt-at takes a share like 2%, not "101%"`},
		{"--halt-at", "NaN%", `--halt-at takes a share like 2%, not "NaN%"`},
		{"--halt-at", "2%%", `--halt-at takes a share like 2%, not "2%%"`},
		{"--canary", "", "--canary takes tenant ids"},
		{"--canary", "grace", `--canary takes tenant ids, and "grace" is not one`},
		{"--lock-timeout", "0", "--lock-timeout must be from 1ms to 24h"},
		{"--lock-timeout", "10us", "--lock-timeout must be from 1ms to 24h"},
		{"--statement-timeout", "0", "--statement-timeout must be from 1ms to 24h"},
		{"--statement-timeout", "600h", "--statement-timeout must be from 1ms to 24h"},
		{"--lock-patience", "0", "--lock-patience must be from 1ms to 24h"},
		{"--max-lag", "0", "--max-lag must be positive"},
		{"--max-read", "-1s", "--max-read must be positive"},
		{"--max-connections", "80", `--max-connections takes a share like 80%, not "80"`},
		{"--max-vacuums", "-1", "--max-vacuums must not be negative"},
	} {
		wantMisused(t, c.want, nil, "fleet", "migrate", c.flag, c.value)
	}
	wantMisused(t, "--at-once must be from 1 to 64", nil, "fleet", "rehearse", "--at-once", "65")
	wantMisused(t, "give the id of one run", nil, "fleet", "undo")
	wantMisused(t, "give the id of one run", nil, "fleet", "retry-failed")
	wantMisused(t, "--lock-patience must be from 1ms to 24h", nil, "fleet", "undo", "01m89x7m6zry4hep2a3rj5z1b8", "--lock-patience", "-1s")
}

// Every command refuses arguments that it doesn't know. None of them does anything here, because nothing is configured.
func TestEveryCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, cmd := range allCommands(newCommand()) {
		words := strings.Fields(cmd.CommandPath())[1:]
		for _, more := range [][]string{{"--no-such-flag"}, {"no-such-word", "nor-this", "pat@example.org"}} {
			root := newCommand()
			root.SetArgs(append(words, more...))
			if err := root.Execute(); err == nil || exitStatus(err) != exitUsage {
				t.Errorf("%s %v: %v, want an error of usage", cmd.CommandPath(), more, err)
			}
		}
	}
}

func TestEveryCommandHasAnExampleThatIsValid(t *testing.T) {
	t.Parallel()
	for _, cmd := range allCommands(newCommand()) {
		if cmd.Name() == "help" || cmd.Deprecated != "" || strings.HasPrefix(cmd.CommandPath(), "narthex completion") {
			continue // cobra's own commands have examples in their texts
		}
		if !strings.Contains(cmd.Example, strings.TrimPrefix(cmd.CommandPath(), "narthex ")) {
			t.Errorf("the help of %s has no example: %q", cmd.CommandPath(), cmd.Example)
		}
		for line := range strings.Lines(cmd.Example) {
			checkExample(t, line)
		}
	}
}

func checkExample(t *testing.T, line string) {
	t.Helper()
	_, words, found := strings.Cut(strings.TrimSpace(line), "narthex ")
	words, _, _ = strings.Cut(words, " >")
	root := newCommand()
	cmd, rest, err := root.Find(strings.Fields(words))
	if !found || err != nil {
		t.Errorf("%q: %v", line, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%q: %v", line, err)
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%q: %v", line, err)
	}
}

func TestShellsCompleteValues(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"signups list --outcome ":        "rollback_stuck",
		"signups list --step Create":     "CreateTenantAdmin",
		"invitations list --outcome ":    "rollback_stuck",
		"invitations list --step Create": "CreateInvitedTenantAdmin",
		"keys rotate --stage ":           "retire",
		"keys rotate SEAL":               "SEAL_KEYSET",
		"completion ":                    "bash",
	} {
		status, output := narthex(t, nil, append([]string{cobra.ShellCompRequestCmd}, strings.Split(words, " ")...)...)
		if status != 0 || !strings.Contains(output, want) {
			t.Errorf("narthex %s<Tab>: status %d, %s, want %s among them", words, status, output, want)
		}
	}
	status, output := narthex(t, nil, "--help")
	if status != 0 || !strings.Contains(output, "completion ") || !strings.Contains(output, "--version") {
		t.Errorf("the help (status %d) lacks completion or --version:\n%s", status, output)
	}
}

func TestVersionFlag(t *testing.T) {
	t.Parallel()
	_, want := narthex(t, nil, "version")
	if status, output := narthex(t, nil, "--version"); status != 0 || output != want {
		t.Errorf("--version: status %d, %s, want %s", status, output, want)
	}
}

func TestTimesAreUTCWhereverTheProcessRuns(t *testing.T) {
	t.Parallel()
	variables := append(environment(t, "127.0.0.1:1"), "TZ=Pacific/Auckland")
	wantPrinted(t, variables, "migrate")
	conn := connectToRegistry(t, variables)
	if _, err := conn.Exec(t.Context(), `INSERT INTO orphans (kind, server, id, tenant_id, signup_id, first_seen_at)
		VALUES ('tenant', '', '01m89x7m6zry4hep2a3rj5z1b8', '01m89x7m6zry4hep2a3rj5z1b8', '', '2026-11-26 09:00+00')`); err != nil {
		t.Fatal(err)
	}
	if output := wantPrinted(t, variables, "orphans", "list", "--json"); !strings.Contains(output, "2026-11-26T09:00:00Z") {
		t.Errorf("it prints %s, want 2026-11-26T09:00:00Z", output)
	}
}
