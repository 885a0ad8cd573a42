package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows"
)

// Commands that a PC has and a phone has not.

func (c *cli) logon() *cobra.Command {
	return &cobra.Command{
		Use: "logon user|others|none --state DIR", Short: "PC, Mac: let the user who enrolled it, somebody else or nobody be logged on",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := c.made(); err != nil {
				return err
			}
			f, err := device.ReadFolder(c.state)
			if err != nil {
				return err
			}
			if !c.isPC() && !c.isMac() {
				return errors.New("logon is for PCs and Macs, and this device is neither")
			}
			return f.SetLogon(args[0])
		},
	}
}

func (c *cli) tree() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "tree --state DIR", Short: "PC: list the management tree: path, format, value", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.viewPC("tree")
			if err != nil {
				return err
			}
			enc := json.NewEncoder(c.Out)
			for _, node := range d.Tree() {
				if !asJSON {
					fmt.Fprintf(c.Out, "%s\t%s\t%s\n", node.Path, node.Format, node.Value)
				} else if err := enc.Encode(node); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one object a line")
	return cmd
}

func (c *cli) policies() *cobra.Command {
	return &cobra.Command{
		Use: "policies --state DIR", Short: "PC: list the policies of Outlook and other programs as name=value", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.viewPC("policies")
			if err != nil {
				return err
			}
			policies := d.Policies()
			for _, name := range slices.Sorted(maps.Keys(policies)) {
				fmt.Fprintf(c.Out, "%s=%s\n", name, policies[name])
			}
			return nil
		},
	}
}

func (c *cli) renew() *cobra.Command {
	return &cobra.Command{
		Use: "renew --state DIR", Short: "PC, Android: renew the certificate of the management now, before it is due", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.isAndroid() {
				return c.withAndroid(android.Config{}, func(d *android.Device) error {
					if err := d.Renew(cmd.Context()); err != nil {
						return err
					}
					fmt.Fprintf(c.Err, "renewed: the wrap key's certificate is valid until %s\n", d.WrapKeyUntil().Format("2006-01-02"))
					return nil
				})
			}
			return c.onPC("renew", func(d *windows.Device) error {
				if err := d.Renew(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintf(c.Err, "renewed: the MDM certificate is valid until %s\n", d.Management().NotAfter.Format("2006-01-02"))
				return nil
			})
		},
	}
}

func (c *cli) keychainDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID --state DIR", Short: "PC, Mac, Android: delete a certificate with its key, as its user can", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if c.isAndroid() {
				return c.withAndroid(android.Config{}, func(d *android.Device) error { return d.DeleteKey(args[0]) })
			}
			if c.isMac() {
				return c.withPhone(apple.Config{}, func(d *apple.Device) error { return d.DeleteCertificate(args[0]) })
			}
			return c.onPC("keychain delete", func(d *windows.Device) error { return d.DeleteCertificate(args[0]) })
		},
	}
}

// onPC is withPC for a folder that must hold one already.
func (c *cli) onPC(command string, do func(*windows.Device) error) error {
	if _, err := c.viewPC(command); err != nil {
		return err
	}
	return c.withPC(windows.Config{}, do)
}
