package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/waxctl/internal/settings"
)

// program holds what the commands share.
type program struct {
	env    Env
	flags  settings.Settings
	config string
}

func (p *program) root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "waxctl", Short: "S/MIME certificates on people's devices, from the operator's chair",
		SilenceErrors: true, SilenceUsage: true,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&p.flags.Server, "server", "", "URL of the server (WAXCTL_SERVER)")
	f.StringVar(&p.flags.CA, "ca", "", "file with the CA of the server's certificate (WAXCTL_CA); empty: the system's roots")
	f.StringVar(&p.flags.TokenFile, "token-file", "", "file with the admin token (WAXCTL_TOKEN_FILE)")
	f.StringVar(&p.flags.EscrowRoot, "escrow-root", "", "fingerprint that waxseal-connector init printed (WAXCTL_ESCROW_ROOT)")
	f.StringVar(&p.flags.StateDir, "state-dir", "", "where pins are kept (WAXCTL_STATE_DIR)")
	f.StringVar(&p.config, "config", "", "configuration file; default ~/.config/waxseal/waxctl.yaml")
	cmd.AddCommand(p.applyCommand(), p.importCommand(), p.getCommand(), p.enrollCommand(), p.explainCommand(),
		p.deviceCommand(), p.connectorCommand(), p.caCommand(), p.partnerCommand(), p.auditCommand(), p.deleteCommand(), p.demoCommand())
	return cmd
}

func (p *program) settings() (settings.Settings, error) {
	s, err := settings.Resolve(p.flags, p.config, p.env.Getenv)
	if err != nil {
		return s, err
	}
	switch {
	case s.Server == "":
		return s, withHint(errors.New("which server?"), "give --server URL, set WAXCTL_SERVER, or write `server: URL` into the configuration file")
	case s.TokenFile == "":
		return s, withHint(errors.New("which admin token?"), "give --token-file FILE; the server writes it to DIR/admin-token")
	}
	return s, nil
}

func (p *program) client() (*api.Client, settings.Settings, error) {
	s, err := p.settings()
	if err != nil {
		return nil, s, err
	}
	c, err := api.Open(s.Server, s.CA, s.TokenFile)
	return c, s, err
}

// say tells a person something; values go to Stdout.
func (p *program) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.env.Stderr, format+"\n", args...)
}

func (p *program) value(format string, args ...any) {
	_, _ = fmt.Fprintf(p.env.Stdout, format+"\n", args...)
}

// withClient is a command that only needs the client.
func (p *program) withClient(f func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, _, err := p.client()
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, args)
	}
}
