package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/migrations"
)

func fleetRehearseCommand() *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use: "rehearse", Short: "Rehearse the migration on copies of a few churches", Args: cobra.NoArgs,
		Long: `Rehearse the migration to this release's schema on copies of three churches: the largest, the oldest and a random one.
It shows how long the migration takes, which locks it holds, which tables it rewrites, and how long the whole run would
take. The copies are restored from a dump and dropped afterwards. No church is touched. The worker needs PostgreSQL's
client programs.`,
		Example: "  narthex fleet rehearse --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.checkSpeed(); err != nil {
				return err
			}
			return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error { return l.rehearse(ctx, cmd, o) })
		},
	}
	l.speedFlags(cmd)
	cmd.Flags().BoolVar(&l.yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "print JSON")
	return cmd
}

func (l *launch) rehearse(ctx context.Context, cmd *cobra.Command, o *fleetOperator) error {
	servers, err := o.behind(ctx, migrations.TenantVersion())
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		return l.say(cmd, "No church is behind: there is nothing to rehearse.", []fleet.Progress{})
	}
	if err := agree(cmd, l.yes, "Rehearse the migration on copies of a few churches, on the churches' own server?"); err != nil {
		return err
	}
	if err := o.CheckWorker(ctx); err != nil {
		return errors.New(describe(err))
	}
	all := []fleet.Progress{}
	var failed error
	for _, s := range servers {
		in := fleet.Input{
			RunID: ids.New(), Server: s.name, Version: migrations.TenantVersion(), Options: l.options, Rehearse: true, Only: true,
		}
		if err := fleet.Start(ctx, o.Temporal, o.TaskQueue, in); err != nil {
			return startFailure(ctx, s.name, err)
		}
		progress, err := fleet.Wait(ctx, o.Temporal, s.name)
		failed = errors.Join(failed, runEnd(in.RunID, err))
		if err == nil {
			all = append(all, progress)
		}
	}
	if l.asJSON {
		return errors.Join(failed, writeJSON(cmd.OutOrStdout(), all))
	}
	for _, progress := range all {
		failed = errors.Join(failed, writeRehearsal(cmd.OutOrStdout(), progress))
	}
	return failed
}

func writeRehearsal(out io.Writer, p fleet.Progress) error {
	fmt.Fprintf(out, "On copies of %d churches on %s:\n", len(p.Rehearsal.Copies), p.Server)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHURCH\tWHY\tSIZE\tTOOK\tWAL\tDISK\tREWRITES\tLOCKS")
	for _, c := range p.Rehearsal.Copies {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.TenantID, c.Why, megabytes(c.Size), c.Took.Round(time.Millisecond),
			megabytes(c.WAL), megabytes(c.Disk), dash(printable(strings.Join(c.Rewrites, ", "))), dash(printable(strings.Join(c.Locks, ", "))))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "A run over %d churches would take about %s, plus the soak.\n",
		p.Rehearsal.Churches, p.Rehearsal.Predicted.Round(time.Second))
	return err
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
