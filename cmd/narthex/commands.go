package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/process"
	"narthex/internal/config"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/internal/telemetry"
)

func newCommand() *cobra.Command {
	var envFile string
	var version bool
	root := &cobra.Command{
		Use:   "narthex",
		Short: "Signs churches up, each with its own database",
		Example: "  narthex --env-file .env serve\n  narthex signups list --since 1d\n" +
			"  narthex completion bash > /etc/bash_completion.d/narthex",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if envFile == "" {
				return nil
			}
			return config.LoadFile(envFile, func(warning string) { fmt.Fprintln(os.Stderr, "narthex: warning:", warning) })
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(cmd)
			}
			return cmd.Help()
		},
	}
	root.PersistentFlags().StringVar(&envFile, "env-file", "",
		"read environment variables from `FILE`; they override those in the environment")
	root.Flags().BoolVar(&version, "version", false, "print the version, and the name of the release")
	root.AddCommand(serveCommand(), apiCommand(), workerCommand(), migrateCommand(), signups.command(), invitations.command(),
		orphansCommand(), fleetCommand(), readyCommand(), poolCommand(), keysCommand(), versionCommand())
	checkUsage(root)
	return root
}

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the API and the worker in one process", Args: cobra.NoArgs,
		Example: "  narthex --env-file .env serve",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd, config.Process{API: &config.API{}, Codec: &config.Codec{}, Worker: &config.Worker{}})
		},
	}
}

func apiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "api", Short: "Run only the API", Args: cobra.NoArgs,
		Example: "  narthex --env-file .env api",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd, config.Process{API: &config.API{}, Codec: &config.Codec{}})
		},
	}
}

func workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "worker", Short: "Run only the worker", Args: cobra.NoArgs,
		Example: "  narthex --env-file .env worker",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd, config.Process{Worker: &config.Worker{}})
		},
	}
	cmd.AddCommand(promoteCommand())
	return cmd
}

// run runs the parts that are not nil, configured by the environment.
func run(cmd *cobra.Command, parts config.Process) error {
	if err := config.Parse(&parts); err != nil {
		return err
	}
	temporal, err := process.TemporalOptions()
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(os.Stderr, parts.Log)
	return process.Run(cmd.Context(), process.Config{
		Process: parts, Temporal: temporal, Log: log,
		Serving: func(http, operations string) { log.Info("serving", "http", http, "operations", operations) },
		Ready:   func(http, operations string) { log.Info("ready", "http", http, "operations", operations) },
	})
}

// describe says why a command failed, without personal data.
func describe(err error) string {
	for _, known := range []error{registry.ErrSealKeys, registry.ErrIndexKeys, registry.ErrNotMigrated, secrets.ErrSealed, runs.ErrNoWorker} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return redact.Error(err)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, and the name of the release", Args: cobra.NoArgs,
		Example: "  narthex version",
		RunE:    func(cmd *cobra.Command, _ []string) error { return printVersion(cmd) },
	}
}

func printVersion(cmd *cobra.Command) error {
	var c config.Release
	if err := config.Parse(&c); err != nil {
		return err
	}
	name, err := process.ReleaseName(c)
	if err != nil {
		return err
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this program has no build information")
	}
	version := build.Main.Version
	isRevision := func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" }
	if i := slices.IndexFunc(build.Settings, isRevision); i >= 0 {
		version += " " + build.Settings[i].Value
	}
	fmt.Fprintf(cmd.OutOrStdout(), "narthex %s, %s, release %s\n", version, build.GoVersion, name)
	return nil
}
