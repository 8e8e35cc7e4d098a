package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/migrations"
)

// fleetStatus is the status of the fleet.
type fleetStatus struct {
	Newest   int             `json:"newest"` // schema version of this program
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

func (s fleetStatus) behind() (churches int) {
	for _, v := range s.Versions {
		if v.Version < s.Newest {
			churches += v.Churches
		}
	}
	return churches
}

func fleetStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show how many churches have which schema version, and the latest runs", Args: cobra.NoArgs,
		Example: "  narthex fleet status\n  narthex fleet status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				status, err := readFleet(ctx, ledger.New(reg.Pool()))
				if err != nil {
					return inOneSentence(ctx, "the fleet's status cannot be read", err)
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), status)
				}
				return writeFleet(cmd.OutOrStdout(), status)
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

func writeFleet(out io.Writer, status fleetStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tVERSION\tCHURCHES\tSINCE")
	for _, v := range status.Versions {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", v.Server, v.Version, v.Churches, inUTC(v.Since))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, schemaAdvice(status))
	for _, run := range status.Runs {
		fmt.Fprintln(out, "\n"+describeRun(run))
		for _, f := range run.Failures {
			fmt.Fprintf(out, "  %s: %s, attempt %d\n", f.TenantID, f.Error, f.Attempts)
		}
		if left := run.Tally.Failed - len(run.Failures); left > 0 {
			fmt.Fprintf(out, "  and %d more\n", left)
		}
	}
	return nil
}

// schemaAdvice says whether churches are behind, and how to migrate them.
func schemaAdvice(status fleetStatus) string {
	if behind := status.behind(); behind > 0 {
		return fmt.Sprintf("%d churches are behind schema version %d: run narthex fleet migrate.", behind, status.Newest)
	}
	return fmt.Sprintf("All churches have schema version %d.", status.Newest)
}

func describeRun(run runStatus) string {
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
		said += " (" + run.Reason + ")"
	}
	return said
}
