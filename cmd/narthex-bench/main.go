// Command narthex-bench measures how fast Narthex is, compared with a plain program that does the same without
// Temporal. It runs its own stack and removes it afterwards.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"narthex/internal/children"
)

func main() { os.Exit(execute()) }

func execute() (exitCode int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	children.FollowGoRun(ctx, stop)
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "narthex-bench:", err)
		return 1
	}
	return 0
}

type flags struct {
	samples, tenants int
	only             []string
	out, profile     string
}

func newCommand() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:           "narthex-bench",
		Short:         "Compare Narthex with a plain program, on its own stack",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.Flags().IntVarP(&f.samples, "samples", "n", 100, "samples of each variant")
	root.Flags().IntVar(&f.tenants, "tenants", 1000, "how many churches the server has at the end, about 10 MB each")
	root.Flags().StringSliceVar(&f.only, "only", nil, "measure these `FIGURES` alone: "+strings.Join(figureNames, ", "))
	root.Flags().StringVar(&f.out, "out", "", "write last-run.md and last-run.svg into `DIR`")
	root.Flags().StringVar(
		&f.profile,
		"profile",
		"",
		"write a CPU profile of `narthex serve`, taken during signups that come one by one, to FILE",
	)
	return root
}

// run measures what f asks for, and prints it.
func run(ctx context.Context, f flags, out, progress io.Writer) error {
	if f.samples < 1 || f.tenants < 1 {
		return errors.New("-n and --tenants must be at least 1")
	}
	for _, name := range f.only {
		if !slices.Contains(figureNames, name) {
			return fmt.Errorf("--only %s: the figures are %s", name, strings.Join(figureNames, ", "))
		}
	}
	say := func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }
	stack, err := startStack(ctx, say)
	defer stack.stop()
	defer say("Stopping, and removing all data.")
	var result *report
	if err == nil {
		result, err = measure(ctx, f, stack, say)
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("stopped before everything was measured")
	case err != nil:
		return err
	}
	fmt.Fprint(out, result.markdown())
	if f.out == "" {
		return nil
	}
	return result.write(f.out)
}
