package subcommand

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// tree is a program with a group, a group inside it, and a command that takes words of its own.
func tree() *cobra.Command {
	done := func(cmd *cobra.Command, _ []string) error { cmd.Print("done"); return nil }
	root := &cobra.Command{Use: "prog", SilenceErrors: true, SilenceUsage: true}
	mail := &cobra.Command{Use: "mail"}
	verify := &cobra.Command{Use: "verify", Args: cobra.NoArgs, RunE: done}
	verify.Flags().String("state", "", "")
	keys := &cobra.Command{Use: "keys"}
	keys.AddCommand(&cobra.Command{Use: "list", Args: cobra.NoArgs, RunE: done})
	mail.AddCommand(verify, &cobra.Command{Use: "sign", RunE: done}, keys)
	root.AddCommand(mail, &cobra.Command{Use: "say WORD", Args: cobra.ExactArgs(1), RunE: done})
	return root
}

func run(args ...string) (string, error) {
	var out bytes.Buffer
	root := tree()
	root.SetOut(&out)
	root.SetErr(&out)
	Require(root)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestAGroupWantsOneOfItsCommands(t *testing.T) {
	for args, want := range map[string]string{
		"":                             `no command given to "prog"`,
		"mial":                         `unknown command "mial" for "prog": there are`,
		"mail":                         `no command given to "prog mail": there are keys, sign and verify`,
		"mail verfy":                   `unknown command "verfy" for "prog mail": there are keys, sign and verify`,
		"mail verfy --state x":         `unknown command "verfy" for "prog mail"`,
		"mail --state x verfy":         `unknown command "verfy" for "prog mail"`,
		"mail keys lst":                `unknown command "lst" for "prog mail keys": there is list`,
		"completion bsh":               `unknown command "bsh" for "prog completion"`,
		"mail verify more":             `unknown command "more" for "prog mail verify"`,
		"mail verify --sate directory": "unknown flag: --sate",
	} {
		if out, err := run(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("prog %s: %q, %v; want %q", args, out, err, want)
		}
	}
}

func TestWhatIsRightStaysSo(t *testing.T) {
	for args, want := range map[string]string{
		"mail verify --state x": "done", "mail --state x verify": "done", "mail keys list": "done", "say hello": "done",
		"mail --help": "prog mail COMMAND", "help mail": "prog mail [command]", "--help": "prog [command]", "completion bash": "bash completion",
	} {
		if out, err := run(strings.Fields(args)...); err != nil || !strings.Contains(out, want) {
			t.Errorf("prog %s: %v, %q; want %q", args, err, out, want)
		}
	}
}
