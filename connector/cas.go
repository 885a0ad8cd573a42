package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/connector/internal/authorities"
	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/internal/manifest"
)

// caCommand is about the CAs of others that the connector may ask.
func caCommand(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Certification authorities of others: set, list, test, remove; the connector's own: roll"}
	cmd.AddCommand(caSet(stderr), caList(stdout), caTest(stdout), caRemove(stderr), caRoll(stderr))
	return cmd
}

func caRoll(stderr io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "roll --keyring DIR",
		Short: "Make the next issuing CA of the connector's own CA; beside the first connector's keyring, which may be running",
		Long: "Makes the next issuing CA under the root of the connector's own S/MIME CA. New certificates come from it at once; the former one\n" +
			"issues no more and goes on saying which of its certificates are revoked. Devices trust the root and need nothing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := openKeyring(f)
			if err != nil {
				return err
			}
			client, err := setup.Client(k, nil)
			if err != nil {
				return err
			}
			next, err := setup.Syncer{Keyring: k, Client: client}.Roll(cmd.Context())
			if next == nil {
				return err
			}
			fmt.Fprintf(stderr, "%s issues from now on, until %s: %s\n", next.Name, next.Certificate.NotAfter.Format(time.DateOnly), next.Certificate.Subject)
			if err != nil {
				fmt.Fprintf(stderr, "The server will hear of it from the running connector, not now: %v\n", err)
			}
			return nil
		},
	}
	commonFlags(cmd, &f)
	return cmd
}

func openKeyring(f flags) (*keyring.Keyring, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	return keyring.Open(f.keyring, o)
}

func env(k *keyring.Keyring) ca.Env {
	return ca.Env{Clock: k.Now, Rand: k.Rand(), Logger: slog.New(slog.DiscardHandler)}
}

func caSet(stderr io.Writer) *cobra.Command {
	var f flags
	var file string
	cmd := &cobra.Command{
		Use:   "set --keyring DIR -f FILE",
		Short: "Keep a CA's settings, sealed to this connector; a running connector goes by them at once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := openKeyring(f)
			if err != nil {
				return err
			}
			s, err := readSettings(file)
			if err != nil {
				return err
			}
			if _, err := authorities.Check(s, env(k)); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			raw, err := json.Marshal(s)
			if err != nil {
				return err
			}
			former := formerSettings(k, s.Name)
			if err := k.SetCASettings(s.Name, raw); err != nil {
				return err
			}
			fmt.Fprintf(stderr, "CA %q (%s) is set%s. Try it: waxseal-connector ca test --keyring DIR %s\n", s.Name, s.Kind, former, s.Name)
			tellServer(cmd.Context(), k, stderr)
			return nil
		},
	}
	commonFlags(cmd, &f)
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file with the settings (docs/cas)")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

// formerSettings says whose place new settings take, if anybody's.
func formerSettings(k *keyring.Keyring, name string) string {
	all, err := authorities.Settings(k)
	if err != nil {
		return "" // damaged ones may be replaced, too
	}
	for _, s := range all {
		if s.Name == name {
			return fmt.Sprintf(", in place of the one of kind %s at %s", s.Kind, s.URL)
		}
	}
	return ""
}

// tellTime is how long a command waits for a server that does not answer: what it has to do is done.
const tellTime = 10 * time.Second

// tellServer says which CAs there are now. What the server does not take, it hears from the running connector.
func tellServer(ctx context.Context, k *keyring.Keyring, stderr io.Writer) {
	if !k.Settings().Complete {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	client, err := setup.Client(k, nil)
	if err == nil {
		err = setup.Syncer{Keyring: k, Client: client}.Publish(ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "The server does not hear of it now: %v\nThe running connector tells it as soon as it can, or when it starts.\n", err)
	}
}

// readSettings wants every field known: a word that is not understood would be a wish that is not met.
func readSettings(file string) (ca.Settings, error) {
	var s ca.Settings
	raw, err := manifest.Settings(file)
	if err != nil {
		return s, err
	}
	if err := ca.Decode(raw, &s); err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func caList(stdout io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use: "list --keyring DIR", Short: "List the CAs: name, kind, URL; never a secret", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			k, err := openKeyring(f)
			if err != nil {
				return err
			}
			all, err := authorities.Settings(k)
			for _, s := range all {
				fmt.Fprintf(stdout, "%s\t%s\t%s\n", s.Name, s.Kind, s.URL)
			}
			return err
		},
	}
	commonFlags(cmd, &f)
	return cmd
}

func caTest(stdout io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use: "test --keyring DIR NAME", Short: "Ask a CA whether its settings are right; no certificate is issued", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := openKeyring(f)
			if err != nil {
				return err
			}
			all, err := authorities.Settings(k)
			if err != nil {
				return err
			}
			for _, s := range all {
				if s.Name != args[0] {
					continue
				}
				up, err := authorities.Check(s, env(k))
				if err != nil {
					return err
				}
				wrong := false
				for _, finding := range up.Test(cmd.Context()) {
					word := "ok   "
					if !finding.OK {
						word, wrong = "wrong", true
					}
					fmt.Fprintf(stdout, "%s  %s: %s\n", word, finding.Check, finding.Detail)
				}
				if wrong {
					return fmt.Errorf("CA %s cannot issue as it is set", s.Name)
				}
				return nil
			}
			return fmt.Errorf("this keyring has no settings for a CA %q: waxseal-connector ca list shows which there are", args[0])
		},
	}
	commonFlags(cmd, &f)
	return cmd
}

func caRemove(stderr io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use: "remove --keyring DIR NAME", Short: "Forget a CA's settings; what it issued can then not be revoked by this connector", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := openKeyring(f)
			if err != nil {
				return err
			}
			if args[0] == "softca" {
				return errors.New("softca is the connector's own CA; profiles that do not name it do not use it")
			}
			if err := k.DropCASettings(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(stderr, "CA %q is forgotten. Profiles that name it wait, and what it issued cannot be revoked by this connector, until it is set again.\n", args[0])
			tellServer(cmd.Context(), k, stderr)
			return nil
		},
	}
	commonFlags(cmd, &f)
	return cmd
}
