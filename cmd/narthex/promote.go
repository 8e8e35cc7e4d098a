package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/process"
	"narthex/internal/config"
	"narthex/internal/release"
)

const promotePatience = 10 * time.Second // with workers that have just been started

func promoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "promote", Short: "Make this program's release current, even if a newer one is", Args: cobra.NoArgs,
		Long: `Make this program's release current: its workers then get all work, including running signups. A newer release
becomes current by itself when its first worker starts, so this command is for going back to an older one. A worker
of this release must be running. The other release's workers get no more work, and can be stopped.`,
		Example: "  narthex --env-file .env worker promote",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c struct {
				config.Queue
				config.Release
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			temporal, _, err := dialTemporal(cmd.Context(), nil)
			if err != nil {
				return err
			}
			defer temporal.Close()
			deployment, err := process.OpenDeployment(temporal, c.Queue, c.Release)
			if err != nil {
				return err
			}
			return promote(cmd, deployment)
		},
	}
}

func promote(cmd *cobra.Command, deployment *release.Deployment) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), promotePatience)
	defer cancel()
	var last error
	current, err := release.Settle(ctx, deployment.Promote, func(err error) {
		if !errors.Is(err, context.DeadlineExceeded) || last == nil {
			last = err
		}
	})
	switch own := deployment.Options().Version.BuildID; {
	case err == nil:
		fmt.Fprintf(cmd.OutOrStdout(), "Release %s is current.\n", current)
		return nil
	case cmd.Context().Err() != nil:
		return errors.New("stopped")
	case errors.Is(last, release.ErrNoWorker):
		return fmt.Errorf("no worker of release %s is running: start one with `narthex worker`", own)
	default:
		return fmt.Errorf("release %s could not be made current: %s", own, describe(last))
	}
}
