// Command waxseal-connector is the process inside the network that alone holds the escrow key and the CA keys. It dials
// out to the server and takes jobs: device certificates, mail certificates, documents with private keys, revocations.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/internal/clock"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/subcommand"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command(os.Stdout, os.Stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		printError(os.Stderr, err)
		os.Exit(1)
	}
}

// printError adds what a person can do about the errors that have an answer.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "error: %v\n", err)
	var wrong *escrow.WrongRootError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		fmt.Fprintln(w, "hint: --ca FILE of waxseal-connector init names the CA of the server's certificate; the server's own one is ca.pem in its data folder")
	case errors.As(err, &wrong):
		fmt.Fprintf(w, "hint: compare with the file escrow-root of the first connector's keyring; if it says %s, the pin is wrong, else do not trust the server\n", wrong.Got)
	case errors.Is(err, keyring.ErrPassphrase):
		fmt.Fprintln(w, "hint: --passphrase-file FILE names a file with the passphrase in its first line")
	}
}

// flags are those of all three commands.
type flags struct {
	keyring        string
	passphraseFile string
}

func (f *flags) options() (keyring.Options, error) {
	o := keyring.Options{Rand: rand.Reader, Clock: clock.Now}
	if f.passphraseFile == "" {
		return o, nil
	}
	text, err := readLine(f.passphraseFile)
	o.Passphrase = []byte(text)
	return o, err
}

// readLine gives the first line of a small file: a token or a passphrase.
func readLine(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	text := strings.TrimRight(string(line), "\r")
	if text == "" {
		return "", fmt.Errorf("%s is empty: it must hold the secret in its first line", path)
	}
	return text, nil
}

func command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "waxseal-connector",
		Short:         "Hold the keys, issue certificates and seal documents to devices",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(initCommand(stdout, stderr), runCommand(stderr), approveCommand(stderr), caCommand(stdout, stderr))
	subcommand.Require(root)
	return root
}

func commonFlags(cmd *cobra.Command, f *flags) {
	cmd.Flags().StringVar(&f.keyring, "keyring", "", "folder of the keyring")
	cmd.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the keyring, if it has one")
	_ = cmd.MarkFlagRequired("keyring") // fails only for a flag that is not there
}

func initCommand(stdout, stderr io.Writer) *cobra.Command {
	var f flags
	var i setup.Init
	var caFile, tokenFile string
	var bits int
	cmd := &cobra.Command{
		Use:   "init --keyring DIR --server URL --ca FILE --token-file FILE",
		Short: "Make a keyring and register with the server; repeated, it changes nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if i.Options, err = f.options(); err != nil {
				return err
			}
			i.Dir, i.Options.CAKeyBits = f.keyring, bits
			if i.Name == "" {
				i.Name, _ = os.Hostname() // without one, the connector has no name but its fingerprint
			}
			if caFile != "" {
				if i.ServerCA, err = os.ReadFile(caFile); err != nil {
					return err
				}
			}
			if i.EscrowRoot != "" {
				if i.EscrowRoot, err = escrow.ParseFingerprint(i.EscrowRoot); err != nil {
					return err
				}
			}
			i.Token = func() (string, error) { return token(tokenFile) }
			return runInit(cmd.Context(), i, stdout, stderr)
		},
	}
	commonFlags(cmd, &f)
	cmd.Flags().StringVar(&i.Server, "server", "", "URL of the server")
	cmd.Flags().StringVar(&caFile, "ca", "", "PEM file with the CA of the server's certificate; empty: the system's CAs")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the one-time token of waxctl connector token")
	cmd.Flags().StringVar(&i.Name, "name", "", "name of this connector (default: the host name)")
	cmd.Flags().StringVar(&i.EscrowRoot, "escrow-root", "", "fingerprint of the escrow root, for a further connector")
	cmd.Flags().StringVar(&i.RecoveryOut, "recovery-out", "", "file for a recovery key, to be kept off line (first connector)")
	cmd.Flags().IntVar(&bits, "ca-key-bits", 3072, "size of the CA keys")
	_ = cmd.Flags().MarkHidden("ca-key-bits")
	_ = cmd.MarkFlagRequired("server")
	return cmd
}

func token(file string) (string, error) {
	if file == "" {
		return "", errors.New("--token-file is missing: it names a file with the output of waxctl connector token")
	}
	return readLine(file)
}

// runInit prints the fingerprint alone on stdout, and all words on stderr.
func runInit(ctx context.Context, i setup.Init, stdout, stderr io.Writer) error {
	out, err := i.Run(ctx)
	if err != nil {
		return err
	}
	if out.EscrowRoot != "" {
		fmt.Fprintln(stdout, out.EscrowRoot)
	}
	if !out.Changed {
		fmt.Fprintf(stderr, "The keyring %s is complete already; nothing was changed.\n", i.Dir)
		if i.RecoveryOut != "" {
			fmt.Fprintln(stderr, "No recovery key was made: that is done at the first init alone.")
		}
		return nil
	}
	if !out.Further {
		fmt.Fprintf(stderr, "The keyring %s is made. Give the fingerprint of the escrow root to everybody who imports certificates.\n", i.Dir)
		return nil
	}
	fmt.Fprintf(stderr, "Registered as a further connector. Approve it beside the first connector's keyring:\n\n  waxseal-connector approve --keyring DIR %s\n\n", out.Member)
	if i.EscrowRoot == "" && out.EscrowRoot != "" {
		fmt.Fprintln(stderr, "Compare the escrow root with the file escrow-root of that keyring.")
	}
	return nil
}

func runCommand(stderr io.Writer) *cobra.Command {
	var f flags
	c := Config{Clock: clock.Now, Rand: rand.Reader, Sleep: sleep}
	cmd := &cobra.Command{
		Use:   "run --keyring DIR",
		Short: "Take jobs from the server until interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			c.Dir, c.Passphrase = f.keyring, o.Passphrase
			c.Logger = slog.New(slog.NewTextHandler(stderr, nil))
			return Run(cmd.Context(), c)
		},
	}
	commonFlags(cmd, &f)
	cmd.Flags().BoolVar(&c.Once, "once", false, "end when the server has no job")
	cmd.Flags().IntVar(&c.Concurrency, "jobs", 4, "jobs that are worked on at once")
	cmd.Flags().BoolVar(&c.ModernPKCS12, "modern-pkcs12", false, "send AES-256 PKCS#12 to devices with iOS 18 or later")
	return cmd
}

func approveCommand(stderr io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "approve --keyring DIR FINGERPRINT",
		Short: "Take a further connector into the key set and hand it the CA keys, sealed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			k, err := keyring.Open(f.keyring, o)
			if err != nil {
				return err
			}
			client, err := setup.Client(k, nil)
			if err != nil {
				return err
			}
			name, changed, err := setup.Syncer{Keyring: k, Client: client}.Approve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !changed {
				fmt.Fprintf(stderr, "Connector %q is approved already; nothing was changed.\n", name)
				return nil
			}
			fmt.Fprintf(stderr, "Connector %q is approved.\n", name)
			return nil
		},
	}
	commonFlags(cmd, &f)
	return cmd
}
