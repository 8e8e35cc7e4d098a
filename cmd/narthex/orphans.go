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

	"narthex/internal/config"
	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/secrets"
)

func orphansCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "orphans", Short: "See and remove what belongs to no church and no signup", Args: cobra.NoArgs,
		Long: `See and remove what belongs to no church and no signup. A worker looks for orphans once a day. After
7 days, it deletes rows, and renames databases, which it drops a day later. A church whose database is gone (kind
tenant) is only reported.`,
		Example: "  narthex orphans list\n  narthex orphans sweep --dry-run",
	}
	cmd.AddCommand(listOrphansCommand(), sweepOrphansCommand(), removeOrphanCommand(), keepOrphanCommand())
	return cmd
}

// withRegistry opens the registry and calls do with it.
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
		Use: "list", Short: "List the orphans that the last sweep found, and when each is due", Args: cobra.NoArgs,
		Example: "  narthex orphans list\n  narthex orphans list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				orphans, err := reg.Orphans(ctx)
				if err != nil {
					return inOneSentence(ctx, "the orphans cannot be listed", err)
				}
				found := []orphan.Found{}
				for _, o := range orphans {
					found = append(found, orphan.Judge(o, time.Now()))
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
	fmt.Fprintln(table, "KIND\tID\tSERVER\tFIRST SEEN\tRENAMED\tACTION\tDUE")
	for _, f := range found {
		due := strings.TrimSpace(orDash(f.DueAt) + " " + string(f.Next))
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			f.Kind, f.ID, dash(f.Server), inUTC(f.FirstSeenAt), orDash(f.RenamedAt), f.Action, due)
	}
	return table.Flush()
}

func orDash(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return inUTC(*t)
}

func keepOrphanCommand() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "keep ID", Short: "Protect an orphan from sweeps", Args: cobra.ExactArgs(1),
		Example: "  narthex orphans keep 01m89x7m6zry4hep2a3rj5z1b8",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				err := registry.ErrNotFound
				if ids.Valid(args[0]) {
					err = reg.KeepOrphan(ctx, args[0], !undo)
				}
				if errors.Is(err, registry.ErrNotFound) {
					return noOrphan(args[0])
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
