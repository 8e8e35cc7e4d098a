package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError means that a command was used incorrectly.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func exitStatus(err error) int {
	if _, misused := errors.AsType[usageError](err); misused {
		return exitUsage
	}
	return exitFailure
}

// checkUsage makes every command below root refuse what it doesn't know, as a usageError. A command that only
// groups others shows its help when called alone.
func checkUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{withFlagHint(cmd, err)} })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range allCommands(root) {
		own := cmd.Args
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if cmd.HasSubCommands() && len(args) > 0 {
				return usageError{unknownCommand(cmd, args[0])}
			}
			if own == nil {
				return nil
			}
			err := own(cmd, args)
			if err == nil {
				return nil
			}
			if strings.HasPrefix(err.Error(), "unknown command") { // what cobra.NoArgs says of an argument
				err = fmt.Errorf("%s doesn't take the argument %q", cmd.CommandPath(), args[0])
			}
			return usageError{err}
		}
		if cmd.Run == nil && cmd.RunE == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
		if cmd.Name() == "help" && cmd.Parent() == root {
			cmd.Args = func(_ *cobra.Command, words []string) error { return knownTopic(root, words) }
		}
	}
}

// allCommands returns a command and all below it.
func allCommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			known = append(known, sub.Name())
		}
	}
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(word); len(similar) > 0 {
		return fmt.Errorf("unknown command %q for %q: did you mean %s?", word, cmd.CommandPath(), strings.Join(similar, " or "))
	}
	return fmt.Errorf("unknown command %q for %q: it is one of %s", word, cmd.CommandPath(), strings.Join(known, ", "))
}

// knownTopic checks that words name a command.
func knownTopic(root *cobra.Command, words []string) error {
	cmd := root
	for _, word := range words {
		i := slices.IndexFunc(cmd.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word || sub.HasAlias(word) })
		if i < 0 {
			return usageError{unknownCommand(cmd, word)}
		}
		cmd = cmd.Commands()[i]
	}
	return nil
}

// withFlagHint lists the known flags if err is about an unknown one.
func withFlagHint(cmd *cobra.Command, err error) error {
	if _, unknown := errors.AsType[*pflag.NotExistError](err); !unknown {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			known = append(known, "--"+flag.Name)
		}
	})
	return fmt.Errorf("%w: %s takes %s", err, cmd.CommandPath(), strings.Join(known, ", "))
}

// oneOf refuses a flag's value that is not among the known ones. An empty value was not given.
func oneOf(what, value string, known []string) error {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return usage("there is no %s %q: it is one of %s", what, value, strings.Join(known, ", "))
}

// completes lets the shell complete a flag's values.
func completes(cmd *cobra.Command, flag string, values []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is misspelt in this program
	}
}
