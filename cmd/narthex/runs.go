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

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"narthex/internal/config"
	"narthex/internal/email"
	"narthex/internal/invitation"
	"narthex/internal/runs"
	"narthex/internal/secrets"
	"narthex/internal/signup"
)

// subject is what a group of commands is about. All subjects have the same commands, which act only on their runs.
type subject struct {
	runs.Kind
	group  string // the command that holds the others
	one    string // "a signup"
	long   string
	makes  string // what exists once a run has completed
	replay string // what a replay does, and what it refuses
}

var signups = subject{
	Kind: signup.Kind, group: "signups", one: "a signup", makes: "church",
	long: `See signups, replay failed ones, cancel running ones. An ID is a tenant id, a workflow id, or the signupId
that the API returned. With --email, the command reads an email from standard input instead.`,
	replay: `Start failed signups again, each with its own input: the same email, ids and password. A
signup is refused if it is running or has succeeded, or if another church has its email by now. A signup that
was terminated continues with what it has created. --failed replays all that were rolled back or terminated,
except those whose email was taken.`,
}

var invitations = subject{
	Kind: invitation.Kind, group: "invitations", one: "an invitation", makes: "invitation",
	long: `See invitations of admins, replay failed ones, cancel running ones. An ID is a workflow id, or the tenant id of
a church that has invited only one person. With --email, the command reads an email from standard input instead.`,
	replay: `Start failed invitations again, each with its own input: the same email, role and token. An invitation is
refused if it is running or has succeeded, or if another church has its email by now. An invitation that was
terminated continues with what it has created. If it becomes available a day or more late, it can be accepted
for 7 days from then on. If the API answered an invitation with an error, nobody has its token: have an admin
invite again instead. Do the same if a link has expired. --failed replays all that were rolled back or
terminated, except those whose email was taken.`,
}

func (s *subject) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: s.group, Short: fmt.Sprintf("See %s, replay failed ones, cancel running ones", s.group), Args: cobra.NoArgs, Long: s.long,
		Example: s.examples("narthex list --failed --since 1d"),
	}
	cmd.AddCommand(s.listCommand(), s.showCommand(), s.watchCommand(), s.replayCommand(), s.cancelCommand())
	return cmd
}

// examples returns the examples for a command's help, with the group's name before each line.
func (s *subject) examples(lines ...string) string {
	for i, line := range lines {
		lines[i] = "  " + strings.ReplaceAll(line, "narthex ", "narthex "+s.group+" ")
	}
	return strings.Join(lines, "\n")
}

// asOperator opens what the commands work with, and calls do with it.
func asOperator(cmd *cobra.Command, kind runs.Kind, do func(context.Context, *runs.Operator) error) error {
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
	err = do(cmd.Context(), &runs.Operator{
		Kind: kind, Temporal: temporal, Keys: keys, Namespace: namespace, TaskQueue: string(c.TaskQueue),
	})
	if err != nil && cmd.Context().Err() != nil {
		return errors.New("stopped")
	}
	return err
}

// withRun finds the run that a command's arguments or its standard input name, and calls do with it.
func (s *subject) withRun(cmd *cobra.Command, n naming, ids []string, do func(context.Context, *runs.Operator, runs.Run) error) error {
	return asOperator(cmd, s.Kind, func(ctx context.Context, o *runs.Operator) error {
		run, err := s.find(ctx, o, n, cmd.InOrStdin(), ids)
		if err != nil {
			return err
		}
		return do(ctx, o, run)
	})
}

// naming says how a command's run is named.
type naming struct{ email bool }

func (n *naming) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&n.email, "email", false, "read the email from standard input, instead of an ID")
}

// arguments checks that there is either an ID or --email.
func (n *naming) arguments(_ *cobra.Command, ids []string) error {
	if i := slices.IndexFunc(ids, func(id string) bool { return strings.Contains(id, "@") }); i >= 0 {
		return errors.New("don't pass an email as an argument, because other users of this machine can read it: use --email and standard input")
	}
	if n.email && len(ids) > 0 || !n.email && len(ids) != 1 {
		return errors.New("give one ID, or --email and an email on standard input")
	}
	return nil
}

func (s *subject) find(ctx context.Context, o *runs.Operator, n naming, in io.Reader, ids []string) (runs.Run, error) {
	if !n.email {
		run, err := o.Find(ctx, ids[0])
		return run, s.about(ids[0], err)
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
		return runs.Run{}, errors.New("the email on standard input " + problem)
	}
	run, err := o.FindByEmail(ctx, address)
	return run, s.about("of this email", err)
}

// about says which run an error is about, without personal data.
func (s *subject) about(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, runs.ErrNotFound):
		return fmt.Errorf("there is no %s %s (Temporal keeps them for 30 days)", s.Noun, id)
	case errors.Is(err, runs.ErrSeveral):
		return fmt.Errorf("there are several %s of %s: use a workflow id, which `narthex %s list` shows", s.group, id, s.group)
	}
	return fmt.Errorf("%s %s: %s", s.Noun, id, describe(err))
}

func writeJSON(out io.Writer, value any) error {
	encoded, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", escapeControls(encoded))
	return err
}
