package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
)

// JSON itself allows some control characters that a terminal obeys.
func TestJSONHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	const name, want = "a\x1b\x7f\u009b31m", `a\u001b\u007f\u009b31m`
	for what, write := range map[string]func(out *bytes.Buffer) error{
		"a value": func(out *bytes.Buffer) error { return writeJSON(out, []string{name}) },
		"drift": func(out *bytes.Buffer) error {
			return (&driftPrinter{out: out, asJSON: true}).add(fleet.Drift{Differences: []string{name}})
		},
	} {
		var out bytes.Buffer
		err := write(&out)
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s is printed (%v) as\n%q\nwant %s in it", what, err, out.String(), want)
		}
	}
}

// A church may choose names that clear the screen, or look like another line of the output.
func TestNamesInAChurchesDatabaseDoNotReachTheTerminalAsCommands(t *testing.T) {
	t.Parallel()
	const name, want = "a\x1b[2J\u009b31m\r\n\u202eb", `a\x1b[2J\u009b31m\r\n\u202eb`
	for what, write := range map[string]func(out *bytes.Buffer) error{
		"a rehearsal": func(out *bytes.Buffer) error {
			c := fleet.Copy{Locks: []string{"ShareLock on " + name}, Rewrites: []string{name}}
			return writeRehearsal(out, fleet.Progress{Rehearsal: &fleet.Rehearsal{Copies: []fleet.Copy{c}}})
		},
		"drift": func(out *bytes.Buffer) error {
			return (&driftPrinter{out: out}).add(fleet.Drift{Differences: []string{name + ": table not in the schema"}})
		},
		"a failed church": func(out *bytes.Buffer) error {
			failures := []ledger.Failure{{Error: "the value is already taken (23505 on " + name + ")"}}
			return writeFleet(out, fleetStatus{Runs: []runStatus{{Failures: failures}}})
		},
		"a halted run": func(out *bytes.Buffer) error {
			return writeFleet(out, fleetStatus{Runs: []runStatus{{Run: ledger.Run{Reason: "23505 on " + name}}}})
		},
		"why a run has paused": func(out *bytes.Buffer) error {
			_, err := out.WriteString(outcome(fleet.Progress{State: fleet.Paused, Reason: name}).Error())
			return err
		},
		"why a run was refused": func(out *bytes.Buffer) error {
			_, err := out.WriteString(runEnd("1", fmt.Errorf("%w: the rehearsal failed: %s", fleet.ErrRefused, name)).Error())
			return err
		},
	} {
		var out bytes.Buffer
		err := write(&out)
		dangerous := strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
		if err != nil || dangerous || !strings.Contains(out.String(), want) {
			t.Errorf("%s is printed (%v) as\n%q\nwant %s in it, and nothing that isn't printable", what, err, out.String(), want)
		}
	}
}
