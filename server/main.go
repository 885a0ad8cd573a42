// Command waxseal-server is the process that devices and admins face. It carries what is encrypted to devices and opens
// nothing of it: keys of people and of CAs are in the connector.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waxseal/waxseal/server/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(os.Stderr).ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func command(stderr io.Writer) *cobra.Command {
	var settings config.Settings
	var file string
	cmd := &cobra.Command{
		Use:           "waxseal-server",
		Short:         "Delivers S/MIME certificates to devices; faces devices and admins",
		Long:          "waxseal-server delivers S/MIME certificates to devices.\n\nEvery flag is also an environment variable (--public-url is WAXSEAL_PUBLIC_URL) and a key of the --config file\n(public-url). A flag wins over the environment, that over the file, that over the default.",
		Args:          cobra.NoArgs,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if value, ok := os.LookupEnv(config.EnvName("config")); ok && !cmd.Flags().Changed("config") {
				file = value
			}
			if err := config.Fill(cmd.Flags(), os.LookupEnv, file); err != nil {
				return err
			}
			return Run(cmd.Context(), Config{Settings: settings, Logger: slog.New(slog.NewJSONHandler(stderr, nil)), Terminal: terminal(), Version: version()})
		},
	}
	settings.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML file with settings")
	return cmd
}

// terminal is where a person reads; nil when nobody does, so that the admin token never lands in a log.
func terminal() io.Writer {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return os.Stderr
	}
	return nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
