package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/runs"
	"narthex/internal/signup"
)

func showSignupCommand() *cobra.Command {
	var named naming
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show {ID | --email}", Short: "Show how a signup stands, step by step", Args: named.arguments,
		Example: "  narthex signups show 01m89x7m6zry4hep2a3rj5z1b8\n  echo pat@example.org | narthex signups show --email",
		RunE: func(cmd *cobra.Command, ids []string) error {
			return asOperator(cmd, func(ctx context.Context, o *signup.Service) error {
				run, err := named.find(ctx, o, cmd.InOrStdin(), ids)
				if err != nil {
					return err
				}
				status, err := o.ReadPending(ctx, run)
				if err != nil {
					return about(run.WorkflowID, err)
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), struct {
						runs.Run
						runs.Status
						Causes map[string]string `json:"causes,omitempty"` // by step or compensation
					}{run, status, causes(o, status)})
				}
				return writeStatus(cmd.OutOrStdout(), o, run, status)
			})
		},
	}
	named.flag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// activities returns a signup's steps in their order, and then what was undone, in that order.
func activities(status runs.Status) (all []runs.Activity) {
	for _, step := range status.Steps {
		all = append(all, step.Activity)
	}
	for i := len(status.Steps) - 1; i >= 0; i-- {
		if undo := status.Steps[i].Undo; undo != nil {
			all = append(all, *undo)
		}
	}
	return all
}

func causes(o *signup.Service, status runs.Status) map[string]string {
	causes := map[string]string{}
	for _, a := range activities(status) {
		if cause := o.Cause(a.Failure); cause != "" {
			causes[a.Name] = cause
		}
	}
	return causes
}

func writeStatus(out io.Writer, o *signup.Service, run runs.Run, status runs.Status) error {
	fmt.Fprintf(out, "workflow  %s\nrun       %s\nstate     %s\nstarted   %s\n", run.WorkflowID, run.RunID, status.State, inUTC(status.StartedAt))
	if status.ClosedAt != nil {
		fmt.Fprintf(out, "ended     %s, after %s\n", inUTC(*status.ClosedAt), took(status.StartedAt, status.ClosedAt))
	}
	if status.FailedStep != "" || status.Reason != "" {
		fmt.Fprintf(out, "failed    %s (%s)\n", dash(status.FailedStep), status.Reason)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nSTEP OR UNDO\tSTATE\tATTEMPTS\tSTARTED\tTOOK\tCAUSE")
	causes := causes(o, status)
	for _, a := range activities(status) {
		started, duration, attempts := "-", "-", "-"
		if a.StartedAt != nil {
			started, duration = a.StartedAt.UTC().Format("15:04:05.000"), took(*a.StartedAt, a.EndedAt)
		}
		if a.Attempts > 0 {
			attempts = fmt.Sprint(a.Attempts)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.State, attempts, started, duration, dash(causes[a.Name]))
	}
	return table.Flush()
}

func watchSignupCommand() *cobra.Command {
	var named naming
	cmd := &cobra.Command{
		Use: "watch {ID | --email}", Short: "Watch a signup until it has ended", Args: named.arguments,
		Long:    "Watch a signup until it has ended. The exit status is 0 if the church was created, and 1 if not.",
		Example: "  narthex signups watch 01m89x7m6zry4hep2a3rj5z1b8",
		RunE: func(cmd *cobra.Command, ids []string) error {
			return asOperator(cmd, func(ctx context.Context, o *signup.Service) error {
				run, err := named.find(ctx, o, cmd.InOrStdin(), ids)
				if err != nil {
					return err
				}
				return watch(ctx, o, run, cmd.OutOrStdout())
			})
		},
	}
	named.flag(cmd)
	return cmd
}

// watch prints a line for each change, and moves a bar on a terminal.
func watch(ctx context.Context, o *signup.Service, run runs.Run, out io.Writer) error {
	bar := newBar(len(o.Steps), "signup")
	seen := map[string]runs.State{}
	var last runs.Status
	err := o.Watch(ctx, run, func(status runs.Status) {
		last = status
		done := 0
		for _, a := range activities(status) {
			if a.State == runs.Completed && a.EndedAt != nil {
				done++
			}
			if a.State != runs.Pending && seen[a.Name] != a.State {
				seen[a.Name] = a.State
				bar.clear()
				fmt.Fprintf(out, "%s  %s\n", a.Name, a.State)
			}
		}
		bar.set(min(done, len(status.Steps)))
	})
	bar.clear()
	if err != nil {
		return about(run.WorkflowID, err)
	}
	fmt.Fprintln(out, became(last))
	if last.State != runs.Completed {
		return errors.New("the church was not created")
	}
	return nil
}

// became says what became of a signup, in one line.
func became(status runs.Status) string {
	switch status.State {
	case runs.Completed:
		return "created, after " + took(status.StartedAt, status.ClosedAt)
	case runs.RolledBack:
		return fmt.Sprintf("rolled back: %s (%s)", dash(status.FailedStep), status.Reason)
	case runs.Failed:
		return "ended from outside, before it could undo what it had made: replay it"
	}
	return "still running"
}

// bar is a progress bar on a terminal, and nothing elsewhere.
type bar struct{ *progressbar.ProgressBar }

func newBar(of int, what string) bar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return bar{}
	}
	return bar{progressbar.NewOptions(of, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false))}
}

// What a terminal does not take is not worth an error.
func (b bar) set(n int) {
	if b.ProgressBar != nil {
		_ = b.Set(n)
	}
}

func (b bar) clear() {
	if b.ProgressBar != nil {
		_ = b.Clear()
	}
}

func cancelSignupCommand() *cobra.Command {
	var named naming
	cmd := &cobra.Command{
		Use: "cancel {ID | --email}", Short: "Stop a running signup: it rolls back", Args: named.arguments,
		Example: "  narthex signups cancel 01m89x7m6zry4hep2a3rj5z1b8",
		RunE: func(cmd *cobra.Command, ids []string) error {
			return asOperator(cmd, func(ctx context.Context, o *signup.Service) error {
				run, err := named.find(ctx, o, cmd.InOrStdin(), ids)
				if err != nil {
					return err
				}
				if err := o.Cancel(ctx, run); errors.Is(err, runs.ErrClosed) {
					return errors.New("this signup has ended: there is nothing to cancel")
				} else if err != nil {
					return about(run.WorkflowID, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "The signup was asked to stop, and rolls back: narthex signups watch %s\n", strings.Join(append(ids, run.WorkflowID)[:1], ""))
				return nil
			})
		},
	}
	named.flag(cmd)
	return cmd
}
