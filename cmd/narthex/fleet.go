package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	ledger   *ledger.Ledger
	registry *registry.Registry
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
		o := &fleetOperator{ledger: ledger.New(reg.Pool()), registry: reg, Operator: runs.Operator{
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
	rehearsing, err := o.rehearsing(ctx, newest)
	if err != nil {
		return ledger.Run{}, err
	}
	var found []ledger.Run
	var names []string
	for _, run := range append(rehearsing, newest...) {
		if !run.State.Ended() && (id == "" || run.ID == id) {
			found, names = append(found, run), append(names, run.ID)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && id == "":
		return ledger.Run{}, errors.New("no run is active: narthex fleet status shows the latest runs")
	case len(found) == 0:
		return ledger.Run{}, errors.New("no such run is active: narthex fleet status shows the latest runs")
	}
	return ledger.Run{}, fmt.Errorf("several runs are active, so name one: %s", strings.Join(names, " or "))
}

// rehearsing returns the runs that the ledger doesn't know yet.
func (o *fleetOperator) rehearsing(ctx context.Context, known []ledger.Run) (found []ledger.Run, err error) {
	versions, err := o.ledger.Versions(ctx)
	if err != nil {
		return nil, inOneSentence(ctx, "the churches cannot be counted", err)
	}
	looked := map[string]bool{}
	for _, run := range known {
		looked[run.Server] = looked[run.Server] || !run.State.Ended()
	}
	for _, v := range versions {
		if looked[v.Server()] {
			continue
		}
		looked[v.Server()] = true
		run, err := o.look(ctx, ledger.Run{Server: v.Server()})
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(known, func(r ledger.Run) bool { return r.ID == run.ID }) {
			found = append(found, run)
		}
	}
	return found, nil
}

// look asks the workflow of the last run over a server's churches what it is doing.
func (o *fleetOperator) look(ctx context.Context, run ledger.Run) (ledger.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	at, err := fleet.Look(ctx, o.Temporal, run.Server)
	if errors.Is(err, fleet.ErrNotRunning) {
		at, err = fleet.Progress{State: fleet.Completed}, nil
	}
	if err != nil {
		return run, inOneSentence(ctx, "the run over the churches on "+run.Server+" does not answer", err)
	}
	run.ID, run.Stage, run.State, run.Reason = cmp.Or(at.RunID, run.ID), at.Stage, at.State, at.Reason
	return run, nil
}

const lookLimit = 15 * time.Second

const mostRuns = 20

func fleetPauseCommand() *cobra.Command {
	return (&steering{
		use: "pause [RUN]", short: "Pause a run: it changes no more churches until it is resumed", question: "Pause run %s?",
		said: "The run %s is paused.\n",
		act: func(ctx context.Context, c client.Client, server string) error {
			return fleet.Tell(ctx, c, server, fleet.Pause)
		},
		want: fleet.Paused,
	}).command()
}

func fleetResumeCommand() *cobra.Command {
	return (&steering{
		use: "resume [RUN]", short: "Resume a run that is paused or halted", question: "Resume run %s?", said: "The run %s has resumed.\n",
		act: func(ctx context.Context, c client.Client, server string) error {
			return fleet.Tell(ctx, c, server, fleet.Resume)
		},
		want: fleet.Running,
	}).command()
}

func fleetCancelCommand() *cobra.Command {
	return (&steering{
		use: "cancel [RUN]", short: "Cancel a run: churches that it has changed stay changed", question: "Cancel run %s?",
		said: "The run %s is cancelled.\n", act: fleet.Cancel, want: fleet.Cancelled,
	}).command()
}

// steering is a command that acts on the active run.
type steering struct {
	use, short, question, said string
	act                        func(ctx context.Context, c client.Client, server string) error
	want                       fleet.State // in which the run then is

	yes, asJSON bool
}

func (s *steering) command() *cobra.Command {
	word, _, _ := strings.Cut(s.use, " ")
	cmd := &cobra.Command{
		Use: s.use, Short: s.short, Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeRuns,
		Example: "  narthex fleet " + word + " --yes",
		RunE: func(cmd *cobra.Command, ids []string) error {
			return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error { return s.steer(ctx, cmd, o, strings.Join(ids, "")) })
		},
	}
	cmd.Flags().BoolVar(&s.yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&s.asJSON, "json", false, "print JSON")
	return cmd
}

func (s *steering) steer(ctx context.Context, cmd *cobra.Command, o *fleetOperator, id string) error {
	run, err := o.active(ctx, id)
	if err != nil {
		return err
	}
	if err := agree(cmd, s.yes, fmt.Sprintf(s.question, run.ID)); err != nil {
		return err
	}
	before := run.State
	if before != s.want {
		if err := s.tell(ctx, o, run); err != nil {
			return err
		}
		run, err = o.await(ctx, run, func(r ledger.Run) bool { return r.State == s.want || r.State != before && r.State.Ended() })
		if err != nil {
			return err
		}
	}
	if run.State != s.want && s.want != fleet.Running { // a run that was resumed may have ended already
		return fmt.Errorf("the run %s is %s: it had ended before", run.ID, run.State)
	}
	if s.asJSON {
		return writeJSON(cmd.OutOrStdout(), run)
	}
	fmt.Fprintf(cmd.OutOrStdout(), s.said, run.ID)
	return nil
}

// tell has the run do it. A run whose workflow was terminated can only be ended in the ledger.
func (s *steering) tell(ctx context.Context, o *fleetOperator, run ledger.Run) error {
	err := s.act(ctx, o.Temporal, run.Server)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fleet.ErrNotRunning):
		return fmt.Errorf("the run %s could not be reached: %s", run.ID, redact.Error(err))
	case s.want != fleet.Cancelled:
		return fmt.Errorf("the workflow of the run %s was ended: narthex fleet cancel %s ends the run too", run.ID, run.ID)
	}
	ended := fleet.Progress{RunID: run.ID, Stage: run.Stage, State: fleet.Cancelled, Reason: "its workflow was ended"}
	if err := o.ledger.Enter(ctx, ended); err != nil {
		return inOneSentence(ctx, "the run cannot be ended in the registry", err)
	}
	return nil
}

const (
	obeyLimit = 2 * time.Minute // more than one church may take
	obeyPause = 100 * time.Millisecond
)

// await waits until a run has done what it was told.
func (o *fleetOperator) await(ctx context.Context, run ledger.Run, done func(ledger.Run) bool) (ledger.Run, error) {
	id, server := run.ID, run.Server
	var err error
	for deadline := time.Now().Add(obeyLimit); time.Now().Before(deadline) && ctx.Err() == nil; {
		run, err = o.ledger.Run(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			run, err = o.look(ctx, ledger.Run{ID: id, Server: server})
		}
		if err == nil && done(run) {
			return run, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(obeyPause):
		}
	}
	if err != nil {
		return run, inOneSentence(ctx, "the run cannot be read", err)
	}
	return run, fmt.Errorf("the run %s is still %s: it will react when a worker runs", id, run.State)
}

// completeRuns lets the shell complete the id of one of the last runs.
func completeRuns(cmd *cobra.Command, args []string, _ string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if file := cmd.Flag("env-file").Value.String(); file != "" && config.LoadFile(file, func(string) {}) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = withRegistry(cmd, func(ctx context.Context, reg *registry.Registry, _ *secrets.Keys) error { // without one, there are none
		ctx, cancel := context.WithTimeout(ctx, completionLimit)
		defer cancel()
		newest, err := ledger.New(reg.Pool()).Runs(ctx, mostRuns)
		for _, run := range newest {
			found = append(found, cobra.CompletionWithDesc(run.ID, fmt.Sprintf("%s, to version %d, %s", run.Server, run.Version, run.State)))
		}
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

const completionLimit = 2 * time.Second
