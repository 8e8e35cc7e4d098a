package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/migrations"
)

// launch says how a command starts a run, and whether the command waits for it.
type launch struct {
	options       fleet.Options
	yes, leave    bool
	unrehearsed   bool
	asJSON        bool
	haltAtPercent string
	mostPercent   string // of the connections
}

func (l *launch) flags(cmd *cobra.Command) {
	l.speedFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&l.haltAtPercent, "halt-at", "2%", "halt when this `SHARE` of the churches, and at least 3, have failed")
	flags.DurationVar(&l.options.MaxLag, "max-lag", fleet.DefaultMaxLag, "slow down while a standby lags by more than this `DURATION`")
	flags.StringVar(&l.mostPercent, "max-connections", "80%", "slow down while more than this `SHARE` of the connections are in use")
	flags.DurationVar(&l.options.MaxRead, "max-read", fleet.DefaultMaxRead, "slow down while the p95 of reads is above this `DURATION`")
	flags.IntVar(&l.options.MaxVacuums, "max-vacuums", 0, "slow down while more than `N` autovacuums to prevent wraparound are running")
	flags.BoolVar(&l.leave, "no-wait", false, "don't wait until the run has finished")
	flags.BoolVar(&l.yes, "yes", false, "don't ask for confirmation")
	flags.BoolVar(&l.asJSON, "json", false, "print JSON")
}

// speedFlags are the flags that a rehearsal has too, because its prediction and its copies depend on them.
func (l *launch) speedFlags(cmd *cobra.Command) {
	flags, limits := cmd.Flags(), &l.options.Limits
	flags.IntVar(&l.options.AtOnce, "at-once", fleet.DefaultAtOnce, "change at most `N` databases at a time")
	flags.Float64Var(&l.options.Rate, "rate", 0, "change at most `N` churches a second; 0 is no limit")
	flags.DurationVar(&limits.Lock, "lock-timeout", fleet.DefaultLockTimeout, "let a statement wait for a lock for this `DURATION`")
	flags.DurationVar(&limits.Statement, "statement-timeout", fleet.DefaultStatementTimeout, "let a statement take this `DURATION`")
	flags.DurationVar(&limits.Patience, "lock-patience", fleet.DefaultLockPatience, "retry on taken locks for this `DURATION`, then fail")
}

func (l *launch) check() error {
	share, err := percent(l.haltAtPercent)
	switch {
	case err != nil:
		return usage("--halt-at takes a share like 2%%, not %q", l.haltAtPercent)
	case l.options.Soak < 0:
		return usage("--soak must not be negative")
	}
	l.options.HaltAt = share
	if err := cmp.Or(l.checkSpeed(), l.checkBounds()); err != nil {
		return err
	}
	for _, id := range l.options.Canaries {
		if !ids.Valid(id) {
			return usage("--canary takes tenant ids, and %q is not one", id)
		}
	}
	return nil
}

func (l *launch) checkSpeed() error {
	switch limits := l.options.Limits; {
	case l.options.AtOnce < 1 || l.options.AtOnce > 64:
		return usage("--at-once must be from 1 to 64")
	case l.options.Rate < 0:
		return usage("--rate must not be negative")
	case limits.Lock < time.Millisecond: // PostgreSQL counts in milliseconds, and takes 0 for no limit
		return usage("--lock-timeout must be at least 1ms")
	case limits.Statement < time.Millisecond:
		return usage("--statement-timeout must be at least 1ms")
	case limits.Patience <= 0:
		return usage("--lock-patience must be positive")
	}
	return nil
}

func (l *launch) checkBounds() error {
	share, err := percent(l.mostPercent)
	switch {
	case err != nil:
		return usage("--max-connections takes a share like 80%%, not %q", l.mostPercent)
	case l.options.MaxLag <= 0:
		return usage("--max-lag must be positive")
	case l.options.MaxRead <= 0:
		return usage("--max-read must be positive")
	case l.options.MaxVacuums < 0:
		return usage("--max-vacuums must not be negative")
	}
	l.options.MaxConnections = share
	return nil
}

func percent(text string) (share float64, err error) {
	var n float64
	if _, err := fmt.Sscanf(text, "%g%%", &n); err != nil || !strings.HasSuffix(text, "%") || n <= 0 || n > 100 {
		return 0, errors.New("not a percentage")
	}
	return n / 100, nil
}

func fleetMigrateCommand() *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use: "migrate", Short: "Migrate all churches to this release's schema", Args: cobra.NoArgs,
		Long: `Migrate all churches to this release's schema, one server after another. First it rehearses the migration on copies. New churches
get the new schema from then on. Then it migrates a few canaries and watches them, then the others in waves of 1 %, 10 %
and the rest, least used first. The command waits until the run has finished. If you stop it, the run continues.`,
		Example: "  narthex fleet migrate\n  narthex fleet migrate --soak 1h --at-once 2 --yes --no-wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error { return l.migrate(ctx, cmd, o) })
		},
	}
	cmd.Flags().StringSliceVar(&l.options.Canaries, "canary", nil, "change the church of this `ID` first; otherwise the 3 least used")
	cmd.Flags().DurationVar(&l.options.Soak, "soak", fleet.DefaultSoak, "watch the canaries for this `DURATION`; 0 skips it")
	cmd.Flags().BoolVar(&l.unrehearsed, "no-rehearsal", false, "don't rehearse on copies first")
	l.flags(cmd)
	return cmd
}

func (l *launch) migrate(ctx context.Context, cmd *cobra.Command, o *fleetOperator) error {
	newest := migrations.TenantVersion()
	servers, err := o.behind(ctx, newest)
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		return l.say(cmd, fmt.Sprintf("All churches have schema version %d.", newest), []fleet.Progress{})
	}
	var all []fleet.Progress
	var failed error
	for _, s := range servers {
		question := fmt.Sprintf("Migrate %d churches on %s to schema version %d?", s.churches, s.name, newest)
		in := fleet.Input{RunID: ids.New(), Server: s.name, Version: newest, Options: l.options, Rehearse: !l.unrehearsed}
		progress, err := l.launch(ctx, cmd, o, in, question)
		all, failed = append(all, progress), errors.Join(failed, err)
		if err != nil && !l.leave {
			break
		}
	}
	if l.asJSON {
		failed = errors.Join(failed, writeJSON(cmd.OutOrStdout(), all))
	}
	return failed
}

// server is a server with churches that are behind.
type server struct {
	name     string
	churches int
}

func (o *fleetOperator) behind(ctx context.Context, newest int) (servers []server, err error) {
	versions, err := o.ledger.Versions(ctx)
	if err != nil {
		return nil, inOneSentence(ctx, "the churches cannot be counted", err)
	}
	for _, v := range versions {
		if v.SchemaVersion >= newest {
			continue
		}
		if last := len(servers) - 1; last >= 0 && servers[last].name == v.Server() {
			servers[last].churches += v.Churches
		} else {
			servers = append(servers, server{v.Server(), v.Churches})
		}
	}
	return servers, nil
}

func (l *launch) say(cmd *cobra.Command, words string, value any) error {
	if l.asJSON {
		return writeJSON(cmd.OutOrStdout(), value)
	}
	fmt.Fprintln(cmd.OutOrStdout(), words)
	return nil
}

// launch starts a run once somebody has agreed, and waits for its end.
func (l *launch) launch(
	ctx context.Context, cmd *cobra.Command, o *fleetOperator, in fleet.Input, question string,
) (fleet.Progress, error) {
	if err := l.agree(cmd, question); err != nil {
		return fleet.Progress{}, err
	}
	if err := o.CheckWorker(ctx); err != nil {
		return fleet.Progress{}, errors.New(describe(err))
	}
	if err := fleet.Start(ctx, o.Temporal, o.TaskQueue, in); err != nil {
		return fleet.Progress{}, startFailure(ctx, in.Server, err)
	}
	if !l.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "Run %s over the churches on %s has started.\n", in.RunID, in.Server)
	}
	if l.leave {
		return fleet.Progress{RunID: in.RunID, Server: in.Server, Stage: fleet.Preparing, State: fleet.Running}, nil
	}
	progress, err := l.follow(ctx, o, in)
	if err == nil && !l.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "Run %s is %s: %s.\n", in.RunID, progress.State, progress.Tally.Words())
	}
	return progress, errors.Join(err, outcome(progress))
}

func startFailure(ctx context.Context, server string, err error) error {
	if errors.Is(err, fleet.ErrBusy) {
		return fmt.Errorf("a run over the churches on %s is active: narthex fleet status shows it", server)
	}
	return inOneSentence(ctx, "the run could not be started", err)
}

// agree asks for confirmation on a terminal, and fails without one.
func (l *launch) agree(cmd *cobra.Command, question string) error {
	if l.yes {
		return nil
	}
	file, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("this is not a terminal, so nobody can be asked: use --yes to continue without asking")
	}
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answer, _ := bufio.NewReader(file).ReadString('\n')
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "y" && word != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// follow shows the run's progress until it has ended, or is halted or paused.
func (l *launch) follow(ctx context.Context, o *fleetOperator, in fleet.Input) (fleet.Progress, error) {
	ended := make(chan error, 1)
	var last fleet.Progress
	go func() {
		var err error
		last, err = fleet.Wait(ctx, o.Temporal, in.Server)
		ended <- err
	}()
	var shown bar
	defer func() { shown.clear() }()
	for {
		select {
		case err := <-ended:
			return last, runEnd(in.RunID, err)
		case <-time.After(followPause):
		}
		run, err := o.ledger.Run(ctx, in.RunID)
		if errors.Is(err, ledger.ErrNotFound) {
			continue // it is preparing
		}
		tally, tallyErr := o.ledger.Tally(ctx, in.RunID)
		if err = errors.Join(err, tallyErr); err != nil {
			continue // the registry may answer again
		}
		if shown.ProgressBar == nil {
			shown = newBar(tally.All(), "churches")
		}
		shown.set(tally.Changed + tally.Gone)
		if run.State == fleet.Halted || run.State == fleet.Paused {
			return fleet.Progress{RunID: run.ID, Server: run.Server, Stage: run.Stage, State: run.State, Reason: run.Reason, Tally: tally}, nil
		}
	}
}

// runEnd says why a run did not complete.
func runEnd(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fleet.ErrRefused), errors.Is(err, fleet.ErrCancelled):
		return fmt.Errorf("run %s: %w", id, err)
	}
	return fmt.Errorf("run %s: %s", id, describe(err))
}

const followPause = 200 * time.Millisecond

// outcome returns an error unless the run has done everything that it was asked to do.
func outcome(p fleet.Progress) error {
	switch {
	case p.State == fleet.Halted || p.State == fleet.Paused:
		return fmt.Errorf("the run %s is %s: %s. narthex fleet status says more, narthex fleet resume resumes it", p.RunID, p.State, p.Reason)
	case p.Tally.Failed > 0:
		return fmt.Errorf("%d churches failed: narthex fleet status says why, narthex fleet retry-failed %s retries them",
			p.Tally.Failed, p.RunID)
	}
	return nil
}

func fleetUndoCommand() *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use: "undo RUN", Short: "Undo a run, on exactly the churches that it has changed", Args: cobra.ExactArgs(1),
		Long:    `Undo a run, on exactly the churches that it has changed. This is refused if a down migration may lose data.`,
		Example: "  narthex fleet undo 01m89x7m6zry4hep2a3rj5z1b8 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.again(cmd, args[0], "Undo run %s?", func(in *fleet.Input) { in.Undoes, in.Version = args[0], 0 })
		},
	}
	l.flags(cmd)
	return cmd
}

func fleetRetryCommand() *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use: "retry-failed RUN", Short: "Retry the churches that failed in a run, and no others", Args: cobra.ExactArgs(1),
		Example: "  narthex fleet retry-failed 01m89x7m6zry4hep2a3rj5z1b8 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.again(cmd, args[0], "Retry the churches that failed in run %s?", func(in *fleet.Input) { in.Retries = args[0] })
		},
	}
	l.flags(cmd)
	return cmd
}

// again starts a run over another run's churches. If that run is active, it retries its failed churches itself.
func (l *launch) again(cmd *cobra.Command, id, question string, over func(*fleet.Input)) error {
	if err := l.check(); err != nil {
		return err
	}
	return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error {
		of, err := o.ledger.Run(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			return fmt.Errorf("there is no run %q: narthex fleet status shows the latest runs", id)
		}
		if err != nil {
			return inOneSentence(ctx, "the run cannot be read", err)
		}
		in := fleet.Input{RunID: ids.New(), Server: of.Server, Version: of.Version, Options: l.options}
		over(&in)
		if !of.State.Ended() {
			return l.retryRunning(ctx, cmd, o, of, in)
		}
		progress, err := l.launch(ctx, cmd, o, in, fmt.Sprintf(question, id))
		if l.asJSON {
			err = errors.Join(err, writeJSON(cmd.OutOrStdout(), progress))
		}
		return err
	})
}

func (l *launch) retryRunning(ctx context.Context, cmd *cobra.Command, o *fleetOperator, of ledger.Run, in fleet.Input) error {
	if in.Undoes != "" {
		return fmt.Errorf("the run %s is active: cancel it first", of.ID)
	}
	if err := fleet.Tell(ctx, o.Temporal, of.Server, fleet.Retry); err != nil {
		return inOneSentence(ctx, "the run could not be reached", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "The run %s is retrying its failed churches.\n", of.ID)
	return nil
}
