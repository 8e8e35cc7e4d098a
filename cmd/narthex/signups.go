package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/config"
	"narthex/internal/email"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/internal/signup"
)

func signupsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "signups", Short: "See signups, replay those that failed, cancel those that run", Args: cobra.NoArgs,
		Long: `See signups, replay those that failed, cancel those that run. Where an ID is asked for, it is a tenant
id, a workflow id, or the id that the API gave out; --email reads an email from standard input instead.`,
	}
	cmd.AddCommand(listSignupsCommand(), showSignupCommand(), watchSignupCommand(), replaySignupsCommand(), cancelSignupCommand())
	return cmd
}

// asOperator opens what the commands work with, and does something with it.
func asOperator(cmd *cobra.Command, do func(context.Context, *signup.Service) error) error {
	var c struct {
		config.Keys
		config.Queue
	}
	if err := config.Parse(&c); err != nil {
		return err
	}
	keys := secrets.New(c.SealKeyset, c.IndexKeyset)
	temporal, namespace, err := dialTemporal(cmd.Context(), keys)
	if err != nil {
		return err
	}
	defer temporal.Close()
	err = do(cmd.Context(), &signup.Service{Operator: runs.Operator{
		Kind: signup.Kind, Temporal: temporal, Keys: keys, Namespace: namespace, TaskQueue: string(c.TaskQueue),
	}})
	if err != nil && cmd.Context().Err() != nil {
		return errors.New("stopped")
	}
	return err
}

// naming is how a command's signup is named.
type naming struct{ email bool }

func (n *naming) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&n.email, "email", false, "read the email of the signup from standard input, instead of an ID")
}

// arguments checks that there is either an ID or --email.
func (n *naming) arguments(_ *cobra.Command, ids []string) error {
	if i := slices.IndexFunc(ids, func(id string) bool { return strings.Contains(id, "@") }); i >= 0 {
		return errors.New("an email is no argument, which other users of this machine can read: give it on standard input, with --email")
	}
	if n.email && len(ids) > 0 || !n.email && len(ids) != 1 {
		return errors.New("give one ID, or --email and an email on standard input")
	}
	return nil
}

// find returns the run that the arguments, or standard input, name.
func (n *naming) find(ctx context.Context, o *signup.Service, in io.Reader, ids []string) (runs.Run, error) {
	if !n.email {
		run, err := o.Find(ctx, ids[0])
		return run, about(ids[0], err)
	}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(os.Stderr, "Email: ")
	}
	line, err := bufio.NewReader(io.LimitReader(in, 1000)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return runs.Run{}, errors.New("standard input cannot be read")
	}
	address := email.Normalise(line)
	if problem := email.Check(address); problem != "" {
		return runs.Run{}, errors.New("what standard input holds " + problem)
	}
	run, err := o.FindByEmail(ctx, address)
	return run, about("of this email", err)
}

// about says which signup an error is about. It holds no personal data.
func about(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, runs.ErrNotFound):
		return fmt.Errorf("there is no signup %s (Temporal keeps one for 30 days)", id)
	}
	return fmt.Errorf("signup %s: %s", id, describe(err))
}

func listSignupsCommand() *cobra.Command {
	var filter runs.Filter
	var since moment
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List signups, newest first", Args: cobra.NoArgs,
		Example: "  narthex signups list --outcome rolled_back --since 1d\n  narthex signups list --step CreateDatabase --since 2026-11-26 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFilter(filter); err != nil {
				return err
			}
			filter.Since = since.Time
			return asOperator(cmd, func(ctx context.Context, o *signup.Service) error {
				entries, _, err := o.List(ctx, filter)
				if err != nil {
					return errors.New(describe(err))
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), append([]runs.Entry{}, entries...))
				}
				return writeTable(cmd.OutOrStdout(), entries)
			})
		},
	}
	cmd.Flags().StringVar(&filter.Outcome, "outcome", "", "only those with this `OUTCOME`: "+strings.Join(runs.Outcomes(), ", "))
	cmd.Flags().StringVar(&filter.FailedStep, "step", "", "only those in which this `STEP` failed, like CreateDatabase")
	momentFlag(cmd, &since, "since", "only those that started after this")
	cmd.Flags().IntVar(&filter.Limit, "limit", 50, "at most `N`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	completes(cmd, "outcome", runs.Outcomes())
	completes(cmd, "step", stepNames())
	return cmd
}

func stepNames() (names []string) {
	for _, step := range signup.Steps {
		names = append(names, step.Do)
	}
	return names
}

func checkFilter(filter runs.Filter) error {
	if filter.Limit < 1 {
		return usage("--limit must be at least 1")
	}
	if err := oneOf("outcome", filter.Outcome, runs.Outcomes()); err != nil {
		return err
	}
	return oneOf("step", filter.FailedStep, stepNames())
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func writeTable(out io.Writer, entries []runs.Entry) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STARTED\tTENANT\tOUTCOME\tFAILED STEP\tTOOK")
	for _, e := range entries {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", inUTC(e.StartedAt), e.TenantID, e.Outcome, dash(e.FailedStep), took(e.StartedAt, e.ClosedAt))
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
