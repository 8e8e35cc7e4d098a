package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"narthex/internal/config"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/secrets"
)

func fleetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "fleet", Short: "Migrate all churches' databases to a new schema, and see how they are", Args: cobra.NoArgs,
		Long: `Migrate all churches' databases to a new schema, and see how they are. A run migrates the churches of one
PostgreSQL server: first a few canaries, which it watches for a while, then the others in growing waves. It halts if
too many fail. A run can be undone.`,
		Example: "  narthex fleet status\n  narthex fleet migrate",
	}
	cmd.AddCommand(fleetStatusCommand(), fleetRehearseCommand(), fleetMigrateCommand(), fleetUndoCommand(), fleetRetryCommand(),
		fleetPauseCommand(), fleetResumeCommand(), fleetCancelCommand(), fleetDriftCommand())
	return cmd
}

// fleetOperator is what commands need to steer runs over the fleet.
type fleetOperator struct {
	runs.Operator
	ledger *ledger.Ledger
}

// steerFleet opens the registry and Temporal, and calls do with them. Errors are complete sentences.
func steerFleet(cmd *cobra.Command, do func(context.Context, *fleetOperator) error) error {
	var queue config.Queue
	if err := config.Parse(&queue); err != nil {
		return err
	}
	return withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, keys *secrets.Keys) error {
		temporal, namespace, err := dialTemporal(ctx, keys)
		if err != nil {
			return err
		}
		defer temporal.Close()
		o := &fleetOperator{ledger: ledger.New(reg.Pool()), Operator: runs.Operator{
			Temporal: temporal, Keys: keys, Namespace: namespace, TaskQueue: string(queue.TaskQueue),
		}}
		err = do(ctx, o)
		if err != nil && ctx.Err() != nil {
			return errors.New("stopped")
		}
		return err
	})
}

// active returns the active run with this id or, without an id, the only active run.
func (o *fleetOperator) active(ctx context.Context, id string) (ledger.Run, error) {
	newest, err := o.ledger.Runs(ctx, mostRuns)
	if err != nil {
		return ledger.Run{}, inOneSentence(ctx, "the runs cannot be listed", err)
	}
	var found []ledger.Run
	var names []string
	for _, run := range newest {
		if !run.State.Ended() && (id == "" || run.ID == id) {
			found, names = append(found, run), append(names, run.ID)
		}
	}
	switch len(found) {
	case 0:
		return ledger.Run{}, errors.New("no such run is active: narthex fleet status shows the latest runs")
	case 1:
		return found[0], nil
	}
	return ledger.Run{}, fmt.Errorf("several runs are active, so name one: %s", strings.Join(names, " or "))
}

const mostRuns = 20

func fleetPauseCommand() *cobra.Command {
	return steeringCommand("pause [RUN]", "Pause a run: it changes no more churches until it is resumed", "The run %s is paused.\n",
		func(ctx context.Context, c client.Client, server string) error {
			return fleet.Tell(ctx, c, server, fleet.Pause)
		})
}

func fleetResumeCommand() *cobra.Command {
	return steeringCommand("resume [RUN]", "Resume a run that is paused or halted", "The run %s has resumed.\n",
		func(ctx context.Context, c client.Client, server string) error {
			return fleet.Tell(ctx, c, server, fleet.Resume)
		})
}

func fleetCancelCommand() *cobra.Command {
	return steeringCommand("cancel [RUN]", "Cancel a run: churches that it has changed stay changed", "The run %s is cancelled.\n",
		fleet.Cancel)
}

// steeringCommand returns a command that acts on the active run.
func steeringCommand(use, short, said string, act func(context.Context, client.Client, string) error) *cobra.Command {
	word, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(1),
		Example: "  narthex fleet " + word,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error {
				run, err := o.active(ctx, strings.Join(ids, ""))
				if err != nil {
					return err
				}
				if err := act(ctx, o.Temporal, run.Server); err != nil {
					return fmt.Errorf("the run %s could not be reached: %s", run.ID, redact.Error(err))
				}
				fmt.Fprintf(cmd.OutOrStdout(), said, run.ID)
				return nil
			})
		},
	}
}
