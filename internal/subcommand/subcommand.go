// Package subcommand is what the command lines of the programs have in common: a command that is nothing but a
// group of others fails if none of them is meant. Cobra prints the help and ends with 0, which a script takes as done.
package subcommand

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Require makes the root and every group below it fail, in words, when the subcommand is missing or is none of theirs. It
// is called when the tree is complete and knows where its output goes.
func Require(root *cobra.Command) {
	root.InitDefaultCompletionCmd() // otherwise cobra adds it later
	require(root)
}

func require(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		require(sub)
	}
	if !cmd.HasSubCommands() || cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.Use, cmd.DisableFlagsInUseLine = cmd.Use+" COMMAND", true
	// A flag of the subcommand that was meant is not what is wrong.
	cmd.FParseErrWhitelist.UnknownFlags = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("no command given to %q: %s", cmd.CommandPath(), use(cmd))
		}
		return fmt.Errorf("unknown command %q for %q: %s", args[0], cmd.CommandPath(), use(cmd))
	}
}

// use names the subcommands that there are.
func use(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	slices.Sort(names)
	if len(names) == 1 {
		return "there is " + names[0]
	}
	return "there are " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
