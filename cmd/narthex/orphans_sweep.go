package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

func sweepOrphansCommand() *cobra.Command {
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use: "sweep", Short: "Look for orphans now, and remove those that are due", Args: cobra.NoArgs,
		Example: "  narthex orphans sweep --dry-run\n  narthex orphans sweep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, sweepErr := sweepOrphans(cmd, orphan.Sweep{DryRun: dry})
			if sweepErr != nil && !errors.Is(sweepErr, orphan.ErrCancelled) {
				return sweepErr
			}
			write := writeResult
			if asJSON {
				write = func(out io.Writer, result orphan.Result) error { return writeJSON(out, result) }
			}
			if err := write(cmd.OutOrStdout(), result); err != nil {
				return err
			}
			return errors.Join(sweepErr, sweepFailure(result))
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what a sweep would find and do; don't record or remove anything")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// sweepOrphans runs a sweep on a worker and waits for it. Its errors are complete sentences.
func sweepOrphans(cmd *cobra.Command, sweep orphan.Sweep) (result orphan.Result, err error) {
	err = asOperator(cmd, signup.Kind, func(ctx context.Context, o *runs.Operator) error {
		if err := o.CheckWorker(ctx); err != nil {
			return errors.New(describe(err))
		}
		var err error
		result, err = orphan.Start(ctx, o.Temporal, o.TaskQueue, sweep)
		switch {
		case err == nil, errors.Is(err, orphan.ErrNotTaken):
			return err
		case errors.Is(err, orphan.ErrCancelled):
			return fmt.Errorf("the sweep did not finish: %w", err)
		}
		return inOneSentence(ctx, "the sweep did not end", err)
	})
	for _, server := range result.Unreachable {
		fmt.Fprintf(cmd.ErrOrStderr(), "The server %s could not be searched.\n", server)
	}
	return result, err
}

func writeResult(out io.Writer, result orphan.Result) error {
	err := writeOrphans(out, result.Found)
	if err != nil || result.Omitted() == 0 {
		return err
	}
	_, err = fmt.Fprintf(out, "and %d more: narthex orphans list\n", result.Omitted())
	return err
}

// sweepFailure returns an error that says what a sweep could not do.
func sweepFailure(result orphan.Result) error {
	switch failed, unreachable := result.Failed(), len(result.Unreachable); {
	case failed > 0:
		return fmt.Errorf("%d orphans could not be removed: the worker's log says why, and the next sweep tries again", failed)
	case unreachable > 0:
		return fmt.Errorf("%d servers could not be searched", unreachable)
	}
	return nil
}

func removeOrphanCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove an orphan now", Args: cobra.ExactArgs(1),
		Long: `Remove an orphan now, before its 7 days are over. A worker makes the same checks as in a sweep: it removes nothing that
is kept, or that belongs to a church or to a running signup or invitation. Rows and entries of the email index are deleted,
which frees the email. A database is renamed, and the sweep drops it a day later.`,
		Example: "  narthex orphans remove 01m89x7m6zry4hep2a3rj5z1b8",
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if !ids.Valid(id) {
				return noOrphan(id)
			}
			result, sweepErr := sweepOrphans(cmd, orphan.Sweep{Only: id})
			if sweepErr != nil && !errors.Is(sweepErr, orphan.ErrCancelled) {
				return sweepErr
			}
			found := 0
			for _, f := range result.Found {
				if f.ID != id {
					continue // a worker of an older release ran it as an ordinary sweep
				}
				found++
				said, err := removed(f)
				sweepErr = errors.Join(sweepErr, err)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), said)
				}
			}
			if found == 0 && sweepErr == nil {
				return noOrphan(id)
			}
			return sweepErr
		},
	}
}

// noOrphan returns the error for an id that belongs to no orphan.
func noOrphan(id string) error {
	return fmt.Errorf("there is no orphan %q: `narthex orphans list` lists them. "+
		"What belongs to a church or to a running signup or invitation is not an orphan", id)
}

// removed says what was done with an orphan that should be removed, or why it was not removed.
func removed(f orphan.Found) (said string, err error) {
	switch f.Action {
	case orphan.Delete:
		if f.Kind == orphan.Entry {
			return fmt.Sprintf("The admin %s is deleted. The email is free.", f.ID), nil
		}
		return fmt.Sprintf("The rows of %s are deleted from the registry. Its email is free.", f.ID), nil
	case orphan.Drop:
		return fmt.Sprintf("The database and the role of %s on %s are dropped.", f.ID, f.Server), nil
	case orphan.Rename:
		return fmt.Sprintf("The database of %s on %s is renamed to orphan_%s. The first sweep after %s drops it.",
			f.ID, f.Server, f.ID, orDash(f.DueAt)), nil
	case orphan.Keep:
		return "", fmt.Errorf("the %s of %s is kept: `narthex orphans keep --undo %s` ends that", f.Kind, f.ID, f.ID)
	case orphan.Report:
		return "", fmt.Errorf("%s is a church whose database is gone: restore the database; the church is never removed", f.ID)
	case orphan.Spare:
		return "", fmt.Errorf("the %s of %s was not removed: it is no longer an orphan", f.Kind, f.ID)
	case orphan.Failed:
		return "", fmt.Errorf("the %s of %s could not be removed: the worker's log says why", f.Kind, f.ID)
	}
	if f.RenamedAt != nil {
		return "", fmt.Errorf("the database of %s has already been renamed: the first sweep after %s drops it", f.ID, orDash(f.DueAt))
	}
	return "", fmt.Errorf("the %s of %s was not removed", f.Kind, f.ID)
}
