package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/ids"
	"narthex/internal/runs"
)

func (s *subject) showCommand() *cobra.Command {
	var named naming
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show {ID | --email}", Short: fmt.Sprintf("Show %s step by step", s.one), Args: named.arguments,
		Example: s.examples("narthex show 01m89x7m6zry4hep2a3rj5z1b8", "echo pat@example.org | narthex show --email"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withRun(cmd, named, args, func(ctx context.Context, o *runs.Operator, run runs.Run) error {
				status, err := o.ReadPending(ctx, run)
				if err != nil {
					return s.about(run.WorkflowID, err)
				}
				shown := shownRun{
					Run: run, TenantID: status.TenantID, ChurchID: status.TenantID, Database: ids.DatabaseName(status.TenantID),
					Server: status.Server, Outcome: status.Outcome, Status: status, Causes: causes(o, status),
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), shown)
				}
				return writeStatus(cmd.OutOrStdout(), shown)
			})
		},
	}
	named.flag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shownRun is what is shown of a run.
type shownRun struct {
	runs.Run
	TenantID string `json:"tenantId"`
	ChurchID string `json:"churchId"`
	Database string `json:"database"`
	Server   string `json:"server,omitempty"` // where the database was to be made
	Outcome  string `json:"outcome"`
	runs.Status
	Causes map[string]string `json:"causes,omitempty"` // by step or compensation
}

// activities returns a signup's steps in order, followed by the compensations in the order in which they ran.
func activities(status runs.Status) (all []runs.Activity) {
	for _, step := range status.Steps {
		all = append(all, step.Activity)
	}
	for _, step := range slices.Backward(status.Steps) {
		if step.Undo != nil {
			all = append(all, *step.Undo)
		}
	}
	return all
}

func causes(o *runs.Operator, status runs.Status) map[string]string {
	causes := map[string]string{}
	for _, a := range activities(status) {
		if cause := o.Cause(a.Failure); cause != "" {
			causes[a.Name] = cause
		}
	}
	return causes
}

func writeStatus(out io.Writer, run shownRun) error {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "%-9s %s\n", name, value)
		}
	}
	line("tenant", run.TenantID)
	line("church", run.ChurchID)
	line("database", run.Database)
	line("server", run.Server)
	line("workflow", run.WorkflowID)
	line("run", run.RunID)
	line("outcome", run.Outcome)
	line("started", inUTC(run.StartedAt))
	if run.ClosedAt != nil {
		line("ended", inUTC(*run.ClosedAt)+", after "+took(run.StartedAt, run.ClosedAt))
	}
	if run.FailedStep != "" || run.Reason != "" {
		line("failed", failure(run.Status))
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nSTEP OR UNDO\tSTATE\tATTEMPTS\tSTARTED\tTOOK\tCAUSE")
	for _, a := range activities(run.Status) {
		started, duration, attempts := "-", "-", "-"
		if a.StartedAt != nil {
			started, duration = a.StartedAt.UTC().Format("15:04:05.000"), took(*a.StartedAt, a.EndedAt)
		}
		if a.Attempts > 0 {
			attempts = fmt.Sprint(a.Attempts)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.State, attempts, started, duration, dash(run.Causes[a.Name]))
	}
	return table.Flush()
}

func (s *subject) watchCommand() *cobra.Command {
	var named naming
	cmd := &cobra.Command{
		Use: "watch {ID | --email}", Short: fmt.Sprintf("Watch %s until it ends", s.one), Args: named.arguments,
		Long:    fmt.Sprintf("Watch %s until it ends. The exit status is 0 if the %s was created, and 1 if not.", s.one, s.makes),
		Example: s.examples("narthex watch 01m89x7m6zry4hep2a3rj5z1b8"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return s.withRun(cmd, named, ids, func(ctx context.Context, o *runs.Operator, run runs.Run) error {
				return s.watch(ctx, o, run, cmd.OutOrStdout())
			})
		},
	}
	named.flag(cmd)
	return cmd
}

// watch prints a line for each change, and moves a bar on a terminal.
func (s *subject) watch(ctx context.Context, o *runs.Operator, run runs.Run, out io.Writer) error {
	bar := newBar(len(o.Steps), s.Noun)
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
		return s.about(run.WorkflowID, err)
	}
	fmt.Fprintln(out, became(last))
	if last.State != runs.Completed {
		return fmt.Errorf("the %s was not created", s.makes)
	}
	return nil
}

// became describes a run's outcome in one line.
func became(status runs.Status) string {
	switch status.State {
	case runs.Completed:
		return "created, after " + took(status.StartedAt, status.ClosedAt)
	case runs.Failed:
		return "terminated before it could be undone: replay it"
	case runs.Running:
		if status.FailedStep == "" {
			return "still running"
		}
	}
	return strings.ReplaceAll(status.Outcome, "_", " ") + ": " + failure(status)
}

// failure says in which step a run failed, and why.
func failure(status runs.Status) string {
	return fmt.Sprintf("%s (%s)", dash(status.FailedStep), status.Reason)
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

// set moves the bar. It ignores errors of the terminal.
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

func (s *subject) cancelCommand() *cobra.Command {
	var named naming
	cmd := &cobra.Command{
		Use: "cancel {ID | --email}", Short: fmt.Sprintf("Cancel a running %s, which then rolls back", s.Noun), Args: named.arguments,
		Example: s.examples("narthex cancel 01m89x7m6zry4hep2a3rj5z1b8"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return s.withRun(cmd, named, ids, func(ctx context.Context, o *runs.Operator, run runs.Run) error {
				if err := o.Cancel(ctx, run); errors.Is(err, runs.ErrClosed) {
					return fmt.Errorf("this %s has ended: there is nothing to cancel", s.Noun)
				} else if err != nil {
					return s.about(run.WorkflowID, err)
				}
				id := append(ids, run.WorkflowID)[0]
				fmt.Fprintf(cmd.OutOrStdout(), "The %s was asked to stop, and rolls back: narthex %s watch %s\n", s.Noun, s.group, id)
				return nil
			})
		},
	}
	named.flag(cmd)
	return cmd
}
