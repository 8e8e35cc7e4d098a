package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/internal/registry"
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
	completes(cmd, "halt-at", []string{"1%", "2%", "5%"})
	completes(cmd, "max-connections", []string{"70%", "80%", "90%"})
	for _, number := range []string{"max-lag", "max-read", "max-vacuums"} {
		completes(cmd, number, nil)
	}
}

// speedFlags are the flags that a rehearsal has too, because its prediction and its copies depend on them.
func (l *launch) speedFlags(cmd *cobra.Command) {
	flags, limits := cmd.Flags(), &l.options.Limits
	flags.IntVar(&l.options.AtOnce, "at-once", fleet.DefaultAtOnce, "change at most `N` databases at a time")
	flags.Float64Var(&l.options.Rate, "rate", 0, "change at most `N` churches a second; 0 is no limit")
	flags.DurationVar(&limits.Lock, "lock-timeout", fleet.DefaultLockTimeout, "let a statement wait for a lock for this `DURATION`")
	flags.DurationVar(&limits.Statement, "statement-timeout", fleet.DefaultStatementTimeout, "let a statement take this `DURATION`")
	flags.DurationVar(&limits.Patience, "lock-patience", fleet.DefaultLockPatience, "retry on taken locks for this `DURATION`, then fail")
	for _, number := range []string{"at-once", "rate", "lock-timeout", "statement-timeout", "lock-patience"} {
		completes(cmd, number, nil)
	}
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

const mostRate = 1_000_000 // churches a second

func (l *launch) checkSpeed() error {
	switch limits := l.options.Limits; {
	case l.options.AtOnce < 1 || l.options.AtOnce > 64:
		return usage("--at-once must be from 1 to 64")
	case !(l.options.Rate >= 0 && l.options.Rate <= mostRate): // NaN neither
		return usage("--rate must be from 0 to %d", mostRate)
	case !bearable(limits.Lock):
		return usage("--lock-timeout must be from 1ms to 24h")
	case !bearable(limits.Statement):
		return usage("--statement-timeout must be from 1ms to 24h")
	case !bearable(limits.Patience):
		return usage("--lock-patience must be from 1ms to 24h")
	}
	return nil
}

// bearable reports whether PostgreSQL takes a limit: it counts in milliseconds, for 24 days at most, and 0 is no limit.
func bearable(limit time.Duration) bool { return limit >= time.Millisecond && limit <= 24*time.Hour }

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
	number, ok := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n > 0 && n <= 100) { // which NaN is not
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
			if cmd.Flags().Changed("canary") && len(l.options.Canaries) == 0 {
				return usage("--canary takes tenant ids")
			}
			if err := l.check(); err != nil {
				return err
			}
			return steerFleet(cmd, func(ctx context.Context, o *fleetOperator) error { return l.migrate(ctx, cmd, o) })
		},
	}
	cmd.Flags().StringSliceVar(&l.options.Canaries, "canary", nil, "change the church of this `ID` first; otherwise the 3 least used")
	cmd.Flags().DurationVar(&l.options.Soak, "soak", fleet.DefaultSoak, "watch the canaries for this `DURATION`; 0 skips it")
	cmd.Flags().BoolVar(&l.unrehearsed, "no-rehearsal", false, "don't rehearse on copies first")
	completes(cmd, "canary", nil)
	completes(cmd, "soak", []string{"0", "15m", "1h"})
	l.flags(cmd)
	return cmd
}

func (l *launch) migrate(ctx context.Context, cmd *cobra.Command, o *fleetOperator) error {
	newest := migrations.TenantVersion()
	servers, err := o.behind(ctx, newest)
	if err != nil {
		return err
	}
	canaries, err := o.canaries(ctx, l.options.Canaries, newest)
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		return l.say(cmd, fmt.Sprintf("No church is behind schema version %d.", newest), []fleet.Progress{})
	}
	all := []fleet.Progress{}
	var failed error
	for _, s := range servers {
		question := fmt.Sprintf("Migrate %s on %s to schema version %d?", countOf(s.churches), s.name, newest)
		in := fleet.Input{RunID: ids.New(), Server: s.name, Version: newest, Options: l.options, Rehearse: !l.unrehearsed}
		in.Options.Canaries = canaries[s.name]
		progress, err := l.launch(ctx, cmd, o, in, question)
		failed = errors.Join(failed, err)
		if progress.RunID != "" {
			all = append(all, progress)
		}
		if err != nil && !l.leave {
			break
		}
	}
	if l.asJSON {
		failed = errors.Join(failed, writeJSON(cmd.OutOrStdout(), all))
	}
	return failed
}

// canaries returns chosen canaries by server. A server without one gets the usual ones.
func (o *fleetOperator) canaries(ctx context.Context, chosen []string, newest int) (map[string][]string, error) {
	byServer := map[string][]string{}
	for _, id := range chosen {
		church, err := o.registry.FleetChurch(ctx, id)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			return nil, fmt.Errorf("--canary: no church that has a database has the id %s", id)
		case err != nil:
			return nil, inOneSentence(ctx, "the canary cannot be looked up", err)
		case church.Version >= newest:
			return nil, fmt.Errorf("--canary: the church %s is not behind, it has schema version %d", id, church.Version)
		}
		byServer[church.Server] = append(byServer[church.Server], id)
	}
	return byServer, nil
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
	if err := agree(cmd, l.yes, question); err != nil {
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
		return fleet.Progress{RunID: in.RunID, Server: in.Server, Stage: fleet.Rehearsing, State: fleet.Running}, nil
	}
	return l.finish(ctx, cmd, o, in)
}

// finish waits until a run has finished, and says how it went.
func (l *launch) finish(ctx context.Context, cmd *cobra.Command, o *fleetOperator, in fleet.Input) (fleet.Progress, error) {
	progress, err := l.follow(ctx, o, in)
	if ctx.Err() != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "Run %s continues: narthex fleet status shows it.\n", in.RunID)
	}
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

// agree asks for confirmation on a terminal, unless --yes was given, and fails without a terminal.
func agree(cmd *cobra.Command, yes bool, question string) error {
	if yes {
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
	case errors.Is(err, fleet.ErrRefused), errors.Is(err, fleet.ErrRehearsal), errors.Is(err, fleet.ErrCancelled):
		return fmt.Errorf("run %s: %s", id, printable(err.Error()))
	}
	return fmt.Errorf("run %s: %s", id, describe(err))
}

const followPause = 200 * time.Millisecond

// outcome returns an error unless the run has done everything that it was asked to do.
func outcome(p fleet.Progress) error {
	switch {
	case p.State == fleet.Halted || p.State == fleet.Paused:
		return fmt.Errorf("the run %s is %s: %s. narthex fleet status says more, narthex fleet resume resumes it",
			p.RunID, p.State, printable(p.Reason))
	case p.Tally.Failed > 0:
		return fmt.Errorf("%s failed: narthex fleet status says why, narthex fleet retry-failed %s retries them",
			countOf(p.Tally.Failed), p.RunID)
	}
	return nil
}

func oneRun(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("give the id of one run: narthex fleet status shows the last ones")
	}
	return nil
}

func fleetUndoCommand() *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use: "undo RUN", Short: "Undo a run, on exactly the churches that it has changed",
		Args: oneRun, ValidArgsFunction: completeRuns,
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
		Use: "retry-failed RUN", Short: "Retry the churches that failed in a run, and no others",
		Args: oneRun, ValidArgsFunction: completeRuns,
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
		start := l.launch
		if !of.State.Ended() {
			in.RunID, start = of.ID, l.retryRunning
		}
		progress, err := start(ctx, cmd, o, in, fmt.Sprintf(question, id))
		if l.asJSON && progress.RunID != "" {
			err = errors.Join(err, writeJSON(cmd.OutOrStdout(), progress))
		}
		return err
	})
}

// retryRunning has an active run retry its failed churches, and waits until it has finished.
func (l *launch) retryRunning(
	ctx context.Context, cmd *cobra.Command, o *fleetOperator, in fleet.Input, question string,
) (fleet.Progress, error) {
	if in.Undoes != "" {
		return fleet.Progress{}, fmt.Errorf("the run %s is active: cancel it first", in.RunID)
	}
	if err := agree(cmd, l.yes, question); err != nil {
		return fleet.Progress{}, err
	}
	if err := fleet.Tell(ctx, o.Temporal, in.Server, fleet.Retry); err != nil {
		return fleet.Progress{}, inOneSentence(ctx, "the run could not be reached", err)
	}
	run, err := o.await(ctx, ledger.Run{ID: in.RunID, Server: in.Server}, func(r ledger.Run) bool {
		return r.State == fleet.Running || r.State.Ended()
	})
	if err != nil {
		return fleet.Progress{}, err
	}
	if !l.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "The run %s is retrying its failed churches.\n", in.RunID)
	}
	if l.leave {
		return fleet.Progress{RunID: run.ID, Server: run.Server, Stage: run.Stage, State: run.State}, nil
	}
	return l.finish(ctx, cmd, o, in)
}
