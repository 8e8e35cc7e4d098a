// Command narthex-dev runs the whole stack on one machine, for development: PostgreSQL, Temporal with
// its UI, the API and the worker.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"narthex/internal/children"
)

func main() {
	time.Local = time.UTC // output and logs are the same wherever the process runs
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "narthex-dev:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	children.FollowGoRun(ctx, stop)
	return newCommand().ExecuteContext(ctx)
}

func newCommand() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:           "narthex-dev",
		Short:         "Run the whole stack: PostgreSQL, Temporal and its UI, the API and the worker",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return runStack(cmd.Context(), f, cmd.OutOrStdout()) },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.Flags().StringVar(&f.data, "data", ".narthex", "keep all data in `DIR`")
	root.Flags().StringVar(&f.http, "http", "127.0.0.1:8080", "`ADDRESS` of the API")
	root.Flags().StringVar(&f.temporal, "temporal", "127.0.0.1:7233", "`ADDRESS` of Temporal")
	root.Flags().StringVar(&f.ui, "ui", "127.0.0.1:8233", "`ADDRESS` of Temporal's UI")
	root.Flags().StringVar(&f.postgres, "postgres", "127.0.0.1:54329", "`ADDRESS` of PostgreSQL")
	root.Flags().StringVar(&f.codec, "codec", "127.0.0.1:8234", "`ADDRESS` of the codec endpoint, which decrypts payloads for the UI")
	root.Flags().StringVar(&f.operations, "operations", "127.0.0.1:9464", "`ADDRESS` of metrics and profiles")
	root.Flags().BoolVar(&f.throttle, "throttle", false, "throttle clients on this machine too")
	root.Flags().BoolVar(&f.cluster, "cluster", false,
		"run Temporal's services, two APIs and two workers as separate processes, all on PostgreSQL")
	root.AddCommand(temporalCommand(), temporalServiceCommand(), narthexServiceCommand())
	return root
}
