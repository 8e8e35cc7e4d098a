package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/service"
	"narthex/internal/config"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/signups"
	"narthex/internal/telemetry"
)

func newCommand() *cobra.Command {
	var envFile string
	root := &cobra.Command{
		Use:           "narthex",
		Short:         "Signs churches up, each with a database of its own",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if envFile == "" {
				return nil
			}
			return config.LoadFile(envFile)
		},
	}
	root.PersistentFlags().StringVar(&envFile, "env-file", "", "read environment variables from `FILE`; they win over those that are set")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serveCommand(), apiCommand(), workerCommand(), migrateCommand(), signupsCommand(), orphansCommand(), readyCommand(), poolCommand(), keysCommand(), versionCommand())
	return root
}

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the API and the worker in one process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c struct {
				config.Registry
				config.Keys
				config.Queue
				config.API
				config.Codec
				config.Worker
				config.Operations
				config.Log
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			return run(cmd, service.Config{Registry: c.Registry, Keys: c.Keys, Queue: c.Queue, API: &c.API, Codec: c.Codec, Worker: &c.Worker, Operations: c.Operations}, c.Log)
		},
	}
}

func apiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "api", Short: "Run the API alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c struct {
				config.Registry
				config.Keys
				config.Queue
				config.API
				config.Codec
				config.Operations
				config.Log
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			return run(cmd, service.Config{Registry: c.Registry, Keys: c.Keys, Queue: c.Queue, API: &c.API, Codec: c.Codec, Operations: c.Operations}, c.Log)
		},
	}
}

func workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "worker", Short: "Run the worker alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c struct {
				config.Registry
				config.Keys
				config.Queue
				config.Worker
				config.Operations
				config.Log
			}
			if err := config.Parse(&c); err != nil {
				return err
			}
			return run(cmd, service.Config{Registry: c.Registry, Keys: c.Keys, Queue: c.Queue, Worker: &c.Worker, Operations: c.Operations}, c.Log)
		},
	}
	cmd.AddCommand(promoteCommand())
	return cmd
}

func run(cmd *cobra.Command, c service.Config, logging config.Log) (err error) {
	c.Log = telemetry.NewLogger(os.Stderr, logging.LogLevel)
	if c.Temporal, err = service.TemporalOptions(); err != nil {
		return err
	}
	c.Ready = func(http, operations string) { c.Log.Info("ready", "http", http, "operations", operations) }
	return service.Run(cmd.Context(), c)
}

// describe says what kept a command from its work, in words that hold nobody's data.
func describe(err error) string {
	for _, known := range []error{registry.ErrSealKeys, registry.ErrIndexKeys, registry.ErrNotMigrated, secrets.ErrSealed, signups.ErrNoWorker} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return redact.Error(err)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, and the name of the release", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c config.Release
			if err := config.Parse(&c); err != nil {
				return err
			}
			name, err := service.ReleaseName(c)
			if err != nil {
				return err
			}
			build, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("this program carries no build information")
			}
			version := build.Main.Version
			for _, setting := range build.Settings {
				if setting.Key == "vcs.revision" {
					version += " " + setting.Value
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "narthex %s, %s, release %s\n", version, build.GoVersion, name)
			return nil
		},
	}
}
