package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"narthex/internal/registry"
	"narthex/internal/secrets"
)

func readyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ready", Short: "See the databases that are ready for signups", Args: cobra.NoArgs,
		Example: "  narthex ready status",
	}
	cmd.AddCommand(readyStatusCommand())
	return cmd
}

// poolCommand is the ready command under its old name, for one release. A deprecated command is hidden from help.
func poolCommand() *cobra.Command {
	cmd := readyCommand()
	cmd.Use, cmd.Deprecated = "pool", `use "narthex ready"`
	for _, sub := range cmd.Commands() {
		sub.Deprecated = `use "narthex ready ` + sub.Name() + `"`
	}
	return cmd
}

func readyStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show how many databases are ready, on which server and with which schema", Args: cobra.NoArgs,
		Example: "  narthex ready status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				stock, err := reg.ReadyStock(ctx)
				if err != nil {
					return inOneSentence(ctx, "the ready databases cannot be counted", err)
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), stock)
				}
				return writeStock(cmd.OutOrStdout(), stock)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func writeStock(out io.Writer, stock []registry.ReadyStock) error {
	if len(stock) == 0 {
		_, err := fmt.Fprintln(out, "No database is ready: each signup creates its own.")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tSCHEMA\tTEMPLATE\tREADY\tOLDEST")
	for _, s := range stock {
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%s\n", s.Server, s.SchemaVersion, s.Template, s.Ready, inUTC(s.OldestAt))
	}
	return table.Flush()
}
