package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"narthex/internal/runs"
)

// listOptions say which runs to list, and how.
type listOptions struct {
	runs.Filter
	since, until moment
	asJSON       bool
}

func (s *subject) listCommand() *cobra.Command {
	var l listOptions
	cmd := &cobra.Command{
		Use: "list", Short: fmt.Sprintf("List %s, newest first", s.group), Args: cobra.NoArgs,
		Example: s.examples("narthex list --failed --since 1d", "narthex list --outcome rolled_back --until 2026-11-26",
			"narthex list --step "+s.Steps[0].Do+" --since 7d --json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkFilter(&l); err != nil {
				return err
			}
			return asOperator(cmd, s.Kind, func(ctx context.Context, o *runs.Operator) error { return s.list(ctx, o, cmd, l) })
		},
	}
	cmd.Flags().StringVar(&l.Outcome, "outcome", "", "only those with this `OUTCOME`: "+strings.Join(runs.Outcomes(), ", "))
	cmd.Flags().StringVar(&l.FailedStep, "step", "", "only those in which this `STEP` failed, like "+s.Steps[0].Do)
	cmd.Flags().BoolVar(&l.Failed, "failed", false,
		"only those that need somebody: rolled back or terminated and not replayed since, or stuck")
	momentFlag(cmd, &l.since, "since", "only those that started then or later")
	momentFlag(cmd, &l.until, "until", "only those that started earlier")
	cmd.Flags().IntVar(&l.Limit, "limit", 50, "at most `N`")
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "print JSON")
	completes(cmd, "outcome", runs.Outcomes())
	completes(cmd, "step", s.stepNames())
	return cmd
}

func (s *subject) list(ctx context.Context, o *runs.Operator, cmd *cobra.Command, l listOptions) error {
	// Without search attributes, an unfiltered list is empty and a filtered one is refused.
	if err := runs.Ready(ctx, o.Temporal); errors.Is(err, runs.ErrNotPrepared) {
		return err
	}
	entries, more, err := o.List(ctx, l.Filter)
	if err != nil {
		return errors.New(describe(err))
	}
	if l.asJSON {
		err = writeJSON(cmd.OutOrStdout(), append([]runs.Entry{}, entries...))
	} else {
		err = s.writeTable(cmd.OutOrStdout(), entries)
	}
	if err != nil || !more {
		return err
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), "There are more: "+earlier(cmd, entries[len(entries)-1].StartedAt))
	return err
}

// earlier returns the command that lists what this one has left out: what started before a time.
func earlier(cmd *cobra.Command, until time.Time) string {
	words := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		value := flag.Value.String()
		if at, ok := flag.Value.(*moment); ok {
			value = at.Format(time.RFC3339Nano) // 1d will mean another time when the command is run
		}
		switch {
		case flag.Name == "until":
		case value == "true":
			words = append(words, "--"+flag.Name)
		default:
			words = append(words, "--"+flag.Name, quoted(value))
		}
	})
	return strings.Join(append(words, "--until", until.UTC().Format(time.RFC3339Nano)), " ")
}

// quoted quotes a word for a shell.
func quoted(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:", r)
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

func (s *subject) stepNames() (names []string) {
	for _, step := range s.Steps {
		names = append(names, step.Do)
	}
	return names
}

// checkFilter checks the filter, and completes it.
func (s *subject) checkFilter(l *listOptions) error {
	l.Since, l.Until = l.since.Time, l.until.Time
	switch {
	case l.Limit < 1:
		return usage("--limit must be at least 1")
	case !l.Until.IsZero() && !l.Since.Before(l.Until):
		return usage("--since must be before --until")
	}
	if err := oneOf("outcome", l.Outcome, runs.Outcomes()); err != nil {
		return err
	}
	return oneOf("step", l.FailedStep, s.stepNames())
}

// writeTable writes a line for each run. A church has one signup, but it can have many invitations, which differ only
// in their workflow ids.
func (s *subject) writeTable(out io.Writer, entries []runs.Entry) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(workflowID string, columns ...string) {
		if s.OpenID == nil {
			columns = append(columns, workflowID)
		}
		fmt.Fprintln(table, strings.Join(columns, "\t"))
	}
	row("WORKFLOW", "STARTED", "TENANT", "OUTCOME", "FAILED STEP", "TOOK")
	for _, e := range entries {
		row(e.WorkflowID, inUTC(e.StartedAt), e.TenantID, e.Outcome, dash(e.FailedStep), took(e.StartedAt, e.ClosedAt))
	}
	return table.Flush()
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func took(from time.Time, to *time.Time) string {
	if to == nil {
		return "-"
	}
	return to.Sub(from).Round(time.Millisecond).String()
}
