// Command waxseal-agent is a simulated iPhone, iPad, Mac, Windows PC or Android device in a folder, for trying out an MDM server without
// hardware: it enrols, follows commands, holds certificates and keys, and signs, encrypts and opens mail with them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/windows"
	"github.com/waxseal/waxseal/internal/subcommand"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// Streams are where a command reads and writes. Values go to Out, everything else to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, args []string, streams Streams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(streams.Err, "error: %v\n", err)
	if text := hint(err); text != "" {
		fmt.Fprintf(streams.Err, "hint: %s\n", text)
	}
	return 1
}

// hint is the next thing to try.
func hint(err error) string {
	switch {
	case errors.Is(err, errNoDevice):
		return "--state names the folder of a device that was made before; waxseal-agent enroll makes one"
	case errors.Is(err, apple.ErrNotEnrolled):
		return "waxseal-agent enroll URL|FILE --platform ios --state DIR"
	case errors.Is(err, windows.ErrNotEnrolled):
		return "waxseal-agent enroll LINK --platform windows --secret-file FILE --state DIR"
	case errors.Is(err, android.ErrNotEnrolled):
		return "waxseal-agent enroll LINK --platform android --state DIR"
	}
	return ""
}

// cli is what all commands share.
type cli struct {
	Streams
	state string
	app   string // package of a mail app on Android
}

func newRoot(streams Streams) *cobra.Command {
	c := &cli{Streams: streams}
	root := &cobra.Command{
		Use:           "waxseal-agent",
		Short:         "A simulated iPhone, iPad, Mac, Windows PC or Android device for an MDM server",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.PersistentFlags().StringVar(&c.state, "state", "", "the folder of the device")
	root.AddCommand(
		c.enroll(), c.sync(), c.run(), c.unenroll(), c.apns(), c.profiles(), c.keychain(), c.mail(), c.lock(), c.info(),
		c.logon(), c.tree(), c.policies(), c.renew(), c.apps(), c.delegation(),
	)
	subcommand.Require(root)
	return root
}
