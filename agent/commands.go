package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/apns"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/profiles"
)

func (c *cli) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(c.Err, nil))
}

func (c *cli) sync() *cobra.Command {
	var wait time.Duration
	var chaos []string
	cmd := &cobra.Command{
		Use:   "sync --state DIR",
		Short: "Talk to the server until it had nothing for two seconds",
		Long: "Polls until the server had nothing for two seconds and what it announced has arrived.\n" +
			"Ends with 1 and the reason if a command failed or was put off, or if something is still missing after --wait.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(func(d simulated) error {
				if err := d.Chaos(chaos...); err != nil {
					return err
				}
				report, err := d.sync(cmd.Context(), wait)
				fmt.Fprintf(c.Err, "%d commands carried out\n", report.commands)
				if report.left {
					fmt.Fprintln(c.Err, "the device is not enrolled any more")
				}
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", apple.DefaultWait, "the longest time that it may take")
	cmd.Flags().StringSliceVar(&chaos, "chaos", nil, "misbehave: duplicate,lost,forgotten,notnow,drop-shared,reject-expired; a PC: duplicate,lost,abort,skew; "+
		"Android: duplicate,lost,reorder,crash-make,crash-install,crash-report,reinstall")
	return cmd
}

func (c *cli) run() *cobra.Command {
	var interval time.Duration
	var chaos []string
	var cfg apple.Config
	cmd := &cobra.Command{
		Use:   "run --state DIR",
		Short: "Keep a device going: it answers pushes, and polls at an interval",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep := func(d simulated) error {
				if err := d.Chaos(chaos...); err != nil {
					return err
				}
				return d.Run(cmd.Context(), interval)
			}
			if c.isPC() || c.isAndroid() {
				return c.with(keep)
			}
			return c.onPhone(cfg, func(d *apple.Device) error { return keep(phone{d}) })
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "time between polls; 0 waits for pushes only, which a PC does not get. Android: between polls that the server does not hold")
	cmd.Flags().StringVar(&cfg.APNs, "apns", "", "URL of the simulated push service, in place of the one given at enrolment")
	cmd.Flags().StringSliceVar(&chaos, "chaos", nil, "as for sync")
	return cmd
}

func (c *cli) unenroll() *cobra.Command {
	return &cobra.Command{
		Use:   "unenroll --state DIR",
		Short: "Remove the MDM profile, disconnect the PC or sign out of the companion app, as the user can: everything that it brought goes with it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(func(d simulated) error { return d.Unenroll(cmd.Context()) })
		},
	}
}

func (c *cli) apns() *cobra.Command {
	var listen, out string
	cmd := &cobra.Command{
		Use:   "apns --listen ADDR --out DIR",
		Short: "Run a stand-in for Apple's push service",
		Long: "Prints its URL, for --apns-url of a server and --apns of a device, and runs until it is interrupted.\n" +
			"DIR gets ca.pem, the push certificate push.pem with push.key, and what was pushed in pushes.jsonl.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return errors.New("no folder for the certificates given: use --out DIR")
			}
			r, err := apns.Serve(device.SystemClock{}, listen, out)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, r.URL)
			return r.Wait(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on")
	cmd.Flags().StringVar(&out, "out", "", "folder for certificates and received pushes")
	return cmd
}

// insteadOfProfiles is where a PC shows what management set up.
const insteadOfProfiles = "tree and policies"

func (c *cli) profiles() *cobra.Command {
	cmd := &cobra.Command{Use: "profiles", Short: "Installed configuration profiles"}
	cmd.AddCommand(&cobra.Command{
		Use: "list --state DIR", Short: "List the installed profiles and who signed them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.viewPhone("profiles", insteadOfProfiles)
			if err != nil {
				return err
			}
			for _, p := range d.Profiles() {
				fmt.Fprintf(c.Out, "%s\t%s\t%s\t%s\n", p.Identifier, p.UUID, p.Name, strings.Join(p.Signers, "; "))
			}
			return nil
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use: "remove IDENTIFIER --state DIR", Short: "Remove a profile by hand, as the user can", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.isPC() || c.isAndroid() {
				return c.onlyPhone("profiles", insteadOfProfiles)
			}
			return c.onPhone(apple.Config{}, func(d *apple.Device) error { return d.RemoveFile(cmd.Context(), args[0]) })
		},
	})
	var out string
	export := &cobra.Command{
		Use: "export --out DIR --state DIR", Short: "Write the installed profiles, opened, as XML property lists", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.viewPhone("profiles", insteadOfProfiles)
			if err != nil {
				return err
			}
			return d.ExportProfiles(out)
		},
	}
	export.Flags().StringVar(&out, "out", "", "folder to write to")
	cmd.AddCommand(export)
	return cmd
}

func (c *cli) keychain() *cobra.Command {
	cmd := &cobra.Command{Use: "keychain", Short: "Certificates and keys of the device"}
	var asJSON bool
	list := &cobra.Command{
		Use: "list --state DIR", Short: "List certificates and identities", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.keychainList(asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "one object a line")
	var out string
	export := &cobra.Command{
		Use: "export --out DIR --state DIR", Short: "Write certificates and private keys as PEM files", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.view()
			if err != nil {
				return err
			}
			if out == "" {
				return errors.New("no folder given: use --out DIR")
			}
			return d.Keychain().Export(out)
		},
	}
	export.Flags().StringVar(&out, "out", "", "folder to write to")
	cmd.AddCommand(list, export, c.keychainDelete())
	return cmd
}

// listedItem is a line of keychain list --json.
type listedItem struct {
	SHA256        string    `json:"sha256"`
	Subject       string    `json:"subject"`
	Addresses     []string  `json:"addresses"`
	NotBefore     time.Time `json:"notBefore"`
	NotAfter      time.Time `json:"notAfter"`
	HasPrivateKey bool      `json:"hasPrivateKey"`
	Profile       string    `json:"profile"`
	Profiles      []string  `json:"profiles"`
	Keychain      string    `json:"keychain,omitempty"` // Mac: login or System, both with a comma between
	Alias         string    `json:"alias,omitempty"`    // Android
	Grants        []string  `json:"grants,omitempty"`   // Android: apps that may use the key
}

func (c *cli) keychainList(asJSON bool) error {
	d, err := c.view()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(c.Out)
	for _, item := range d.Keychain().Items() {
		line := describe(item)
		if r, ok := d.(robot); ok && line.HasPrivateKey {
			line.Alias = item.Holders[0].Payload
			line.Grants = r.Grants(line.Alias)
		}
		if p, ok := d.(phone); ok {
			line.Keychain = strings.Join(p.KeychainsOf(line.SHA256), ",")
		}
		if asJSON {
			if err := enc.Encode(line); err != nil {
				return err
			}
			continue
		}
		kind := "certificate"
		if line.HasPrivateKey {
			kind = "identity"
		}
		place := line.Profile
		if line.Keychain != "" {
			place = line.Keychain + "/" + place
		}
		fmt.Fprintf(c.Out, "%s\t%s\t%s\t%s\t%s\n", line.SHA256[:16], kind, line.NotAfter.Format(time.DateOnly), line.Subject, place)
	}
	return nil
}

func describe(item keychain.Item) listedItem {
	line := listedItem{
		SHA256: item.ID(), Subject: profiles.NameString(item.Certificate.Subject), Addresses: addresses(item.Certificate),
		NotBefore: item.Certificate.NotBefore.UTC(), NotAfter: item.Certificate.NotAfter.UTC(), HasPrivateKey: item.Key != nil,
		Profiles: []string{},
	}
	seen := map[string]bool{}
	for _, holder := range item.Holders {
		if !seen[holder.Profile] {
			seen[holder.Profile] = true
			line.Profiles = append(line.Profiles, holder.Profile)
		}
	}
	if len(line.Profiles) > 0 {
		line.Profile = line.Profiles[0]
	}
	return line
}

func addresses(cert *x509.Certificate) []string {
	if found := apple.Addresses(cert); found != nil {
		return found
	}
	return []string{}
}

func (c *cli) lock() *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use: "lock --state DIR", Short: "Lock the screen, so that the device answers NotNow. Android: as after a restart, before the first unlocking", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := c.made(); err != nil {
				return err
			}
			f, err := device.ReadFolder(c.state)
			if err != nil {
				return err
			}
			if c.isPC() {
				return c.onlyPhone("lock", "logon none")
			}
			return f.SetLocked(!off)
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "unlock")
	return cmd
}

func (c *cli) info() *cobra.Command {
	return &cobra.Command{
		Use: "info --state DIR", Short: "Say which device it is, as JSON", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.view()
			if err != nil {
				return err
			}
			return json.NewEncoder(c.Out).Encode(d.facts())
		},
	}
}
