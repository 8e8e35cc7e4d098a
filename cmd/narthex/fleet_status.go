package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/migrations"
)

// fleetStatus is the status of the fleet.
type fleetStatus struct {
	Newest   int             `json:"newest"` // schema version of this program
	Behind   int             `json:"behind"` // churches
	Next     string          `json:"next"`   // the command that migrates them; empty if none is behind or a run is migrating them
	Versions []versionStatus `json:"versions"`
	Runs     []runStatus     `json:"runs"` // newest first
}

type versionStatus struct {
	Server   string    `json:"server"`
	Version  int       `json:"version"`
	Churches int       `json:"churches"`
	Since    time.Time `json:"since"` // when the first of them got it
}

type runStatus struct {
	ledger.Run
	Tally    fleet.Tally      `json:"tally"`
	Failures []ledger.Failure `json:"failures,omitempty"`
}

func fleetStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show how many churches have which schema version, and the latest runs", Args: cobra.NoArgs,
		Example: "  narthex fleet status\n  narthex fleet status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, keys *secrets.Keys) error {
				l := ledger.New(reg.Pool())
				status, err := readFleet(ctx, l)
				if err != nil {
					return inOneSentence(ctx, "the fleet's status cannot be read", err)
				}
				unknown := status.addRehearsing(ctx, l, keys)
				status.Next = status.next(cmd)
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), status)
				}
				err = writeFleet(cmd.OutOrStdout(), status)
				if err == nil && unknown != nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "\nRuns that are rehearsing are not shown: "+describe(unknown))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

const (
	runsShown     = 5
	failuresShown = 10
)

func readFleet(ctx context.Context, l *ledger.Ledger) (fleetStatus, error) {
	status := fleetStatus{Newest: migrations.TenantVersion(), Versions: []versionStatus{}, Runs: []runStatus{}}
	versions, err := l.Versions(ctx)
	if err != nil {
		return status, err
	}
	for _, v := range versions {
		status.Versions = append(status.Versions, versionStatus{v.Server(), v.SchemaVersion, v.Churches, v.Since})
		if v.SchemaVersion < status.Newest {
			status.Behind += v.Churches
		}
	}
	newest, err := l.Runs(ctx, runsShown)
	if err != nil {
		return status, err
	}
	for _, run := range newest {
		tally, err := l.Tally(ctx, run.ID)
		if err != nil {
			return status, err
		}
		failures, err := l.Failures(ctx, run.ID, failuresShown)
		if err != nil {
			return status, err
		}
		status.Runs = append(status.Runs, runStatus{run, tally, failures})
	}
	return status, nil
}

const rehearsingLimit = 5 * time.Second // for Temporal to answer; all else is in the ledger

// addRehearsing adds the active runs that the ledger doesn't know yet.
func (s *fleetStatus) addRehearsing(ctx context.Context, l *ledger.Ledger, keys *secrets.Keys) error {
	ctx, cancel := context.WithTimeout(ctx, rehearsingLimit)
	defer cancel()
	known, err := l.Runs(ctx, mostRuns)
	if err != nil {
		return err
	}
	temporal, _, err := dialTemporal(ctx, keys)
	if err != nil {
		return err
	}
	defer temporal.Close()
	o := &fleetOperator{ledger: l, Operator: runs.Operator{Temporal: temporal}}
	found, err := o.rehearsing(ctx, known)
	for _, run := range found {
		if !run.State.Ended() {
			s.Runs = slices.Insert(s.Runs, 0, runStatus{Run: run})
		}
	}
	return err
}

func writeFleet(out io.Writer, status fleetStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tVERSION\tCHURCHES\tSINCE")
	for _, v := range status.Versions {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", v.Server, v.Version, v.Churches, inUTC(v.Since))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, status.words())
	for _, run := range status.Runs {
		fmt.Fprintln(out, "\n"+describeRun(run))
		for _, f := range run.Failures {
			fmt.Fprintf(out, "  %s: %s, attempt %d\n", f.TenantID, printable(f.Error), f.Attempts)
		}
		if left := run.Tally.Failed - len(run.Failures); left > 0 {
			fmt.Fprintf(out, "  and %d more\n", left)
		}
	}
	return nil
}

// words say how many churches are on which version, and how to migrate those that are behind.
func (s fleetStatus) words() string {
	counts := map[int]int{}
	all := 0
	for _, v := range s.Versions {
		counts[v.Version] += v.Churches
		all += v.Churches
	}
	var each []string
	for _, version := range slices.Sorted(maps.Keys(counts)) {
		each = append(each, fmt.Sprintf("%d on version %d", counts[version], version))
	}
	switch {
	case all == 0:
		return "There are no churches yet."
	case all == 1 && counts[s.Newest] == 1:
		return fmt.Sprintf("The only church has schema version %d.", s.Newest)
	case counts[s.Newest] == all:
		return fmt.Sprintf("All %d churches have schema version %d.", all, s.Newest)
	case s.Behind == 0:
		return fmt.Sprintf("No church is behind schema version %d: %s.", s.Newest, strings.Join(each, ", "))
	}
	said := fmt.Sprintf("%s behind schema version %d: %s.\n", areOf(s.Behind), s.Newest, strings.Join(each, ", "))
	if s.Next == "" {
		if !slices.ContainsFunc(s.Runs, func(r runStatus) bool { return r.State == fleet.Running && r.Stage != fleet.Rehearsing }) {
			return said + "A run is rehearsing now."
		}
		return said + "A run is migrating churches now."
	}
	return said + "To migrate them, once this release's workers run: " + s.Next
}

// next returns the command line that migrates churches that are behind, if there is one.
func (s fleetStatus) next(cmd *cobra.Command) string {
	if s.Behind == 0 {
		return ""
	}
	for _, run := range s.Runs {
		switch run.State {
		case fleet.Running:
			return ""
		case fleet.Paused, fleet.Halted:
			return commandLine(cmd, "fleet resume "+run.ID)
		}
	}
	return commandLine(cmd, "fleet migrate")
}

// commandLine returns a command of narthex as it must be typed, with this command's --env-file.
func commandLine(cmd *cobra.Command, words string) string {
	line := cmd.Root().Name() + " " + words
	if file := cmd.Flag("env-file"); file != nil && file.Changed {
		line += " --env-file " + quoted(file.Value.String())
	}
	return line
}

func countOf(churches int) string {
	if churches == 1 {
		return "1 church"
	}
	return fmt.Sprintf("%d churches", churches)
}

func areOf(churches int) string {
	if churches == 1 {
		return "1 church is"
	}
	return fmt.Sprintf("%d churches are", churches)
}

func describeRun(run runStatus) string {
	if run.Stage == fleet.Rehearsing { // all else is known once the ledger has the run
		return fmt.Sprintf("Run %s on %s: %s, %s", run.ID, run.Server, run.State, run.Stage)
	}
	what := fmt.Sprintf("to version %d", run.Version)
	if run.Undoes != "" {
		what = "undoes run " + run.Undoes
	}
	said := fmt.Sprintf("Run %s on %s, %s: %s", run.ID, run.Server, what, run.State)
	if !run.State.Ended() {
		said += ", " + string(run.Stage)
	}
	said += ", " + run.Tally.Words()
	if run.Reason != "" {
		said += " (" + printable(run.Reason) + ")"
	}
	return said
}
