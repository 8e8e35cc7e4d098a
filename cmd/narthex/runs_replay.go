package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"narthex/internal/registry"
	"narthex/internal/runs"
	"narthex/internal/secrets"
)

// replayOptions say which of a subject's runs to replay, and how quickly.
type replayOptions struct {
	subject *subject
	named   naming
	failed  bool
	since   moment
	rate    float64
	atOnce  int
	wait    time.Duration
}

func (s *subject) replayCommand() *cobra.Command {
	r := replayOptions{subject: s}
	cmd := &cobra.Command{
		Use:   "replay {ID... | --email | --failed --since TIME}",
		Short: fmt.Sprintf("Start failed %s again, each with its own input", s.group),
		Long:  s.replay, Args: r.arguments,
		Example: s.examples("narthex replay 01m89x7m6zry4hep2a3rj5z1b8", "narthex replay --failed --since 1d --rate 1"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return withRegistry(cmd, func(_ context.Context, reg *registry.Registry, _ *secrets.Keys) error {
				return asOperator(cmd, s.Kind, func(ctx context.Context, o *runs.Operator) error {
					o.Emails = reg
					return r.run(ctx, o, cmd, ids)
				})
			})
		},
	}
	r.named.flag(cmd)
	cmd.Flags().BoolVar(&r.failed, "failed", false, "replay all that failed within --since")
	momentFlag(cmd, &r.since, "since", "with --failed: those that started after this")
	cmd.Flags().Float64Var(&r.rate, "rate", 2, "start at most `N` a second")
	cmd.Flags().IntVar(&r.atOnce, "at-once", 4, "run at most `N` at once")
	cmd.Flags().DurationVar(&r.wait, "wait", time.Minute, "wait for each at most this `DURATION`")
	return cmd
}

func (r *replayOptions) arguments(cmd *cobra.Command, ids []string) error {
	switch {
	case r.rate <= 0 || r.atOnce < 1 || r.wait <= 0:
		return errors.New("--rate, --at-once and --wait must be more than 0")
	case r.failed == r.since.IsZero():
		return errors.New("--failed needs a --since, like 24h, and --since needs --failed")
	case r.failed && (r.named.email || len(ids) > 0):
		return errors.New("give either IDs, --email or --failed")
	case r.failed, len(ids) > 1 && !r.named.email && !strings.Contains(strings.Join(ids, ""), "@"):
		return nil
	}
	return r.named.arguments(cmd, ids)
}

// target is a run to replay, with the name by which the operator knows it.
type target struct {
	name string
	runs.Run
}

func (r *replayOptions) run(ctx context.Context, o *runs.Operator, cmd *cobra.Command, ids []string) error {
	if err := o.CheckWorker(ctx); err != nil {
		return errors.New(describe(err))
	}
	found, err := r.find(ctx, o, cmd, ids)
	if err != nil {
		return err
	}
	return r.replay(ctx, o, cmd, found)
}

func (r *replayOptions) find(ctx context.Context, o *runs.Operator, cmd *cobra.Command, ids []string) (found []target, err error) {
	if r.failed {
		return failedSince(ctx, o, r.since.Time)
	}
	if r.named.email {
		ids = []string{"of this email"}
	}
	for _, id := range ids {
		run, err := r.subject.find(ctx, o, r.named, cmd.InOrStdin(), []string{id})
		if err != nil {
			return nil, err
		}
		latest, err := o.Latest(ctx, run)
		if err != nil {
			return nil, r.subject.about(id, err)
		}
		if !slices.ContainsFunc(found, func(t target) bool { return t.Run == latest.Run }) {
			found = append(found, target{id, latest.Run})
		}
	}
	return found, nil
}

// failedSince returns the failed runs that may succeed if they are replayed.
func failedSince(ctx context.Context, o *runs.Operator, since time.Time) (found []target, err error) {
	entries, err := o.Replayable(ctx, since)
	if err != nil {
		return nil, errors.New(describe(err))
	}
	for _, e := range entries {
		found = append(found, target{e.TenantID, e.Run})
	}
	return found, nil
}

// replay replays the runs, and prints the outcome of each.
func (r *replayOptions) replay(ctx context.Context, o *runs.Operator, cmd *cobra.Command, found []target) error {
	bar := newBar(len(found), "replay")
	var mu sync.Mutex
	ended, refused, failed := 0, 0, 0
	report := func(t target, result string, err error) {
		mu.Lock()
		defer mu.Unlock()
		ended++
		switch {
		case errors.Is(err, errNotReplayed):
			refused++
		case err != nil:
			failed++
		}
		bar.clear()
		fmt.Fprintf(cmd.OutOrStdout(), "%d of %d, %s: %s\n", ended, len(found), t.name, result)
		bar.set(ended)
	}
	limiter := rate.NewLimiter(rate.Limit(r.rate), 1)
	var group errgroup.Group
	group.SetLimit(r.atOnce)
	for _, t := range found {
		if limiter.Wait(ctx) != nil {
			break
		}
		group.Go(func() error {
			result, err := r.one(ctx, o, t)
			report(t, result, err)
			return nil
		})
	}
	_ = group.Wait() // the reports have the errors
	bar.clear()
	switch {
	case ended < len(found):
		return fmt.Errorf("stopped after %d of %d %s", ended, len(found), r.subject.group)
	case refused > 0 && failed > 0:
		return fmt.Errorf("%d of %d %s were not replayed, and %d were not created", refused, len(found), r.subject.group, failed)
	case refused > 0:
		return fmt.Errorf("%d of %d %s were not replayed", refused, len(found), r.subject.group)
	case failed > 0:
		return fmt.Errorf("%d of %d %s were not created", failed, len(found), r.subject.group)
	case len(found) == 0:
		fmt.Fprintln(cmd.OutOrStdout(), "There is nothing to replay.")
	}
	return nil
}

// What can keep a replay from creating something.
var (
	errNotReplayed = errors.New("not replayed")
	errNotCreated  = errors.New("not created")
)

// one replays a run, and says what came of it. Errors: errNotReplayed, errNotCreated.
func (r *replayOptions) one(ctx context.Context, o *runs.Operator, t target) (result string, err error) {
	run, err := o.Replay(ctx, t.Run)
	for _, reason := range []error{runs.ErrRunning, runs.ErrSucceeded, runs.ErrOtherRunning, runs.ErrEmailTaken} {
		if errors.Is(err, reason) {
			return "not replayed: " + reason.Error(), errNotReplayed
		}
	}
	if err != nil {
		return "not replayed: " + describe(err), errNotReplayed
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	status, err := o.AwaitEnd(ctx, run)
	if err != nil {
		return "replayed, but its status could not be read: " + describe(err), errNotCreated
	}
	if status.State != runs.Completed {
		return became(status), errNotCreated
	}
	return became(status), nil
}
