package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
)

// Commands that only an Android device has.

func (c *cli) apps() *cobra.Command {
	cmd := &cobra.Command{Use: "apps", Short: "Android: installed apps"}
	cmd.AddCommand(
		c.appsList(),
		c.appVerb("install", "Install an app, or update it", func(f *device.Folder, pkg string) error { return android.InstallApp(f, pkg) }),
		c.appVerb("remove", "Remove an app; keys that were granted to it stay", changing((*framework.World).Remove)),
		c.appVerb("reinstall", "Remove an app and install it again, which loses what it was granted; "+android.Package+" loses its enrolment", changing((*framework.World).Reinstall)),
	)
	return cmd
}

func (c *cli) appsList() *cobra.Command {
	return &cobra.Command{
		Use: "list --state DIR", Short: "List the installed apps: package, UID, version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := c.viewAndroid("apps")
			if err != nil {
				return err
			}
			world := d.Phone().World
			for _, pkg := range world.Packages() {
				fmt.Fprintf(c.Out, "%s\t%d\t%s\n", pkg, world.Apps[pkg].UID, world.Apps[pkg].Version)
			}
			return nil
		},
	}
}

// changing makes a verb of the world one of the state folder.
func changing(verb func(*framework.World, string) error) func(*device.Folder, string) error {
	return func(f *device.Folder, pkg string) error {
		return android.ChangeWorld(f, func(w *framework.World) error { return verb(w, pkg) })
	}
}

func (c *cli) appVerb(name, short string, do func(*device.Folder, string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " PACKAGE --state DIR", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := c.viewAndroid("apps")
			if err != nil {
				return err
			}
			return do(d.Folder(), args[0])
		},
	}
}

func (c *cli) delegation() *cobra.Command {
	return &cobra.Command{
		Use: "delegation grant|revoke cert_install|cert_selection --state DIR", Short: "Android: let the companion app have a scope of the device's owner, or take it away",
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := c.viewAndroid("delegation")
			if err != nil {
				return err
			}
			if args[0] != "grant" && args[0] != "revoke" {
				return fmt.Errorf("delegation %s: use grant or revoke", args[0])
			}
			return android.ChangeWorld(d.Folder(), func(w *framework.World) error { return w.Delegate(args[1], args[0] == "grant") })
		},
	}
}
