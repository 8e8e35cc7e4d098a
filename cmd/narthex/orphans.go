package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/config"
	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/signups"
)

func orphansCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "orphans", Short: "See and remove what belongs to no church and no signup", Args: cobra.NoArgs,
		Long: `See and remove what belongs to no church and no signup. A worker looks for orphans once a day. One is left
alone for 7 days; then a database is renamed, and dropped a day later; rows are deleted. A church whose
database is gone (kind tenant) is only told of.`,
	}
	cmd.AddCommand(listOrphansCommand(), sweepOrphansCommand(), keepOrphanCommand())
	return cmd
}

// withRegistry opens the registry, and does something with it.
func withRegistry(cmd *cobra.Command, do func(context.Context, *registry.Registry, *secrets.Keys) error) error {
	var c struct {
		config.Registry
		config.Keys
	}
	if err := config.Parse(&c); err != nil {
		return err
	}
	keys := secrets.New(c.SealKeyset, c.IndexKeyset)
	reg, err := registry.Open(cmd.Context(), string(c.RegistryURL), keys)
	if err != nil {
		return err
	}
	defer reg.Close()
	return do(cmd.Context(), reg, keys)
}

func listOrphansCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List what the last sweep has seen", Args: cobra.NoArgs,
		Example: "  narthex orphans list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				orphans, err := reg.Orphans(ctx)
				if err != nil {
					return inOneSentence(ctx, "the orphans cannot be listed", err)
				}
				found := []orphan.Found{}
				for _, o := range orphans {
					found = append(found, orphan.Found{Orphan: o, Action: o.Due(time.Now())})
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), found)
				}
				return writeOrphans(cmd.OutOrStdout(), found)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func writeOrphans(out io.Writer, found []orphan.Found) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "There are no orphans.")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tID\tSERVER\tFIRST SEEN\tRENAMED\tACTION")
	for _, f := range found {
		renamed := "-"
		if f.RenamedAt != nil {
			renamed = inUTC(*f.RenamedAt)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Kind, f.ID, dash(f.Server), inUTC(f.FirstSeenAt), renamed, f.Action)
	}
	return table.Flush()
}

func sweepOrphansCommand() *cobra.Command {
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use: "sweep", Short: "Look for orphans now, and remove those whose time is over", Args: cobra.NoArgs,
		Example: "  narthex orphans sweep --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asOperator(cmd, func(ctx context.Context, o *signups.Operator) error {
				if err := o.CheckWorker(ctx); err != nil {
					return errors.New(describe(err))
				}
				result, err := sweep(ctx, o, dry)
				if errors.Is(err, errNotTaken) {
					return err
				}
				if err != nil {
					return inOneSentence(ctx, "the sweep did not end", err)
				}
				for _, server := range result.Unreachable {
					fmt.Fprintf(cmd.ErrOrStderr(), "The server %s could not be asked.\n", server)
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), result)
				}
				if err := writeOrphans(cmd.OutOrStdout(), result.Found); err != nil || result.Omitted() == 0 {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "and %d more: narthex orphans list\n", result.Omitted())
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what a sweep would find and do: record and remove nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func sweep(ctx context.Context, o *signups.Operator, dry bool) (result orphan.Result, err error) {
	run, err := o.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "sweep-orphans-by-hand-" + rand.Text(), TaskQueue: o.TaskQueue, StaticSummary: "look for orphans, by hand",
	}, orphan.Workflow, orphan.Sweep{DryRun: dry})
	if err != nil {
		return result, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		if !taken(ctx, o, run) {
			stop(errNotTaken)
		}
	}()
	err = run.Get(ctx, &result)
	if errors.Is(context.Cause(ctx), errNotTaken) {
		return result, errNotTaken
	}
	return result, err
}

var errNotTaken = errors.New("no worker has taken it: is another release current? See `narthex worker promote`")

const takePatience = 30 * time.Second

// taken reports whether a worker takes a workflow, and ends it if none does.
func taken(ctx context.Context, o *signups.Operator, run client.WorkflowRun) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(takePatience):
	}
	described, err := o.Temporal.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
	if err != nil || described.GetPendingWorkflowTask().GetState() != enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED {
		return true
	}
	_ = o.Temporal.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "no worker has taken it") // or else one will, later
	return false
}

func keepOrphanCommand() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "keep ID", Short: "Let no sweep remove an orphan", Args: cobra.ExactArgs(1),
		Example: "  narthex orphans keep 01m89x7m6zry4hep2a3rj5z1b8",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				err := registry.ErrNotFound
				if ids.Valid(args[0]) {
					err = reg.KeepOrphan(ctx, args[0], !undo)
				}
				if errors.Is(err, registry.ErrNotFound) {
					return fmt.Errorf("the last sweep has seen no orphan %q: narthex orphans list says which", args[0])
				}
				if err != nil {
					return inOneSentence(ctx, "the orphan cannot be kept", err)
				}
				said := "No sweep will remove %s.\n"
				if undo {
					said = "Sweeps may remove %s again.\n"
				}
				fmt.Fprintf(cmd.OutOrStdout(), said, args[0])
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "let sweeps remove it again")
	return cmd
}
