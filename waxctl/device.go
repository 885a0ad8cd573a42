package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

func (p *program) enrollCommand() *cobra.Command {
	var request api.LinkRequest
	var platform string
	cmd := &cobra.Command{Use: "enroll", Short: "bring devices in"}
	link := &cobra.Command{
		Use: "link", Short: "make an enrolment link for one device of a user; print the URL", Args: cobra.NoArgs,
		Long: "Prints the URL that brings one device of the user in. For windows that is a link which opens the enrolment in Windows' settings,\n" +
			"and a second line has the one-time secret that the user types there as the password.",
		RunE: p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
			request.Platform = profiles.Platform(platform)
			answer, err := c.EnrollmentLink(ctx, request)
			if err != nil {
				return err
			}
			for _, w := range answer.Warnings {
				p.say("warning: %s: %s", w.Reason, w.Detail)
			}
			p.say("the link works for one %s, until %s", deviceNames()[request.Platform], when(answer.Expires))
			p.value("%s", answer.URL)
			if answer.Token != "" {
				p.say("Google installs the companion app: enrol the device with the token of the second line, or the code of the third")
				p.value("%s\n%s", answer.Token, answer.QRCode)
			}
			if answer.Secret != "" {
				p.say("on the PC: open the link, or Settings, Accounts, Access work or school, Enroll only in device management; sign in as %s with this secret", request.User)
				p.value("%s", answer.Secret)
			}
			return nil
		}),
	}
	link.Flags().StringVar(&request.User, "user", "", "UPN of the user whose device it is")
	link.Flags().StringVar(&platform, "platform", string(profiles.IOS), "ios, macos, windows or android")
	link.Flags().StringVar(&request.Expires, "expires", "72h", "how long the link works")
	_ = link.MarkFlagRequired("user")
	cmd.AddCommand(link)
	return cmd
}

// deviceNames are what people call the devices of a platform: a link for an iPhone is none for a Mac.
func deviceNames() map[profiles.Platform]string {
	return map[profiles.Platform]string{profiles.IOS: "iPhone or iPad", profiles.MacOS: "Mac", profiles.Windows: "PC", profiles.Android: "Android device"}
}

// deviceLeft is the state in which nothing can be asked of a device any more.
const deviceLeft = "left"

func (p *program) deviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "device", Short: "act on one device"}
	verbs := []struct {
		use, short, done string
		act              func(c *api.Client) func(context.Context, string) (api.Device, error)
	}{
		{"retire", "take everything off the device that came from here, the enrolment last", "it is removed at the next check-in; `waxctl explain device %s` shows when it was seen to be gone",
			func(c *api.Client) func(context.Context, string) (api.Device, error) { return c.Retire }},
		{"wipe", "erase the device", "it is erased at the next check-in; `waxctl explain device %s`",
			func(c *api.Client) func(context.Context, string) (api.Device, error) { return c.Wipe }},
		{"sync", "look again at what it has, and try again what failed", "it is looked at again at the next check-in; `waxctl explain device %s`",
			func(c *api.Client) func(context.Context, string) (api.Device, error) { return c.Sync }},
	}
	for _, v := range verbs {
		cmd.AddCommand(&cobra.Command{Use: v.use + " ID", Short: v.short, Args: cobra.ExactArgs(1),
			RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) error {
				d, err := v.act(c)(ctx, args[0])
				if err != nil {
					return err
				}
				if d.State == deviceLeft {
					p.say("device %s of %s has left already; there is nothing to do", d.ID, d.User)
					return nil
				}
				p.say("device %s of %s is %s; "+v.done, d.ID, d.User, d.State, d.ID)
				return nil
			})})
	}
	return cmd
}

func (p *program) explainCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "explain", Short: "say what should be where, what is there, and why not"}
	device := &cobra.Command{Use: "device ID", Short: "explain one device", Args: cobra.ExactArgs(1),
		RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.Explain(ctx, args[0])
			if err != nil {
				return err
			}
			return p.print(output, e, func(w io.Writer) { explain(w, e) })
		})}
	device.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	cmd.AddCommand(device)
	return cmd
}

func explain(w io.Writer, e api.Explain) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("%s %s (%s %s) of %s: %s%s, last seen %s", e.Device.Platform, e.Device.ID, e.Device.Model, e.Device.OSVersion, e.Device.User,
		e.Device.State, suffix(", removal ", e.Removal), when(e.Device.LastSeen))
	for _, warning := range e.Warnings {
		say("warning: %s: %s", warning.Reason, warning.Detail)
	}
	rows := documentRows(e)
	switch {
	case len(rows) == 0 && e.Device.State == deviceLeft:
		say("there is no record of a document that it had")
		return
	case len(rows) == 0:
		say("no document is assigned to it")
		return
	}
	table(w, documentHeader(e), rows)
	for _, d := range e.Documents {
		for _, note := range d.Notes {
			say("%s: not on %s: %s", d.ID, e.Device.Platform, note)
		}
	}
}

// documentHeader has the channel for Macs alone, where the same document may come by the device's and by the user's.
func documentHeader(e api.Explain) []string {
	if e.Device.Platform == profiles.MacOS {
		return []string{"DOCUMENT", "STATUS", "REASON", "FOR", "CHANNEL", "DETAIL"}
	}
	return []string{"DOCUMENT", "STATUS", "REASON", "FOR", "DETAIL"}
}

func documentRows(e api.Explain) [][]string {
	var rows [][]string
	add := func(channel, last string, cells ...string) {
		if e.Device.Platform == profiles.MacOS {
			cells = append(cells, channel)
		}
		rows = append(rows, append(cells, last))
	}
	for _, d := range e.Documents {
		add(d.Channel, d.Detail, d.ID, d.Status, string(d.Reason), strings.Join(d.Profiles, ","))
		for _, c := range d.Credentials {
			add("", c.Subject, "  "+short(c.SHA256), credentialState(d, c), until(c), strings.Join(c.Addresses, ","))
		}
	}
	return rows
}

func credentialState(d api.Document, c api.Credential) string {
	switch d.Reason {
	case platforms.ReasonRemovalVerified, platforms.ReasonRemovalReported:
		return "removed"
	case platforms.ReasonRemovalUnconfirmed:
		return "unconfirmed"
	}
	state := "not there"
	if c.Installed {
		state = "there"
	}
	if c.Current {
		state += ", current"
	}
	return state
}

func until(c api.Credential) string { return day(c.NotBefore) + " to " + day(c.NotAfter) }

func suffix(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (p *program) connectorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "connector", Short: "bring connectors in"}
	cmd.AddCommand(&cobra.Command{Use: "token", Short: "make a one-time registration token (1 h); print it", Args: cobra.NoArgs,
		RunE: p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
			t, err := c.ConnectorToken(ctx)
			if err != nil {
				return err
			}
			p.say("the token works once, until %s: waxseal-connector init --token-file FILE …", when(t.Expires))
			p.value("%s", t.Token)
			return nil
		})})
	return cmd
}

func (p *program) auditCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "audit", Short: "print the audit log, oldest first", Args: cobra.NoArgs,
		RunE: p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
			entries, err := api.All(ctx, c.Audit)
			if err != nil {
				return err
			}
			return p.print(output, entries, func(w io.Writer) {
				var rows [][]string
				for _, e := range entries {
					rows = append(rows, []string{when(e.At), e.Actor, e.Action, e.Object, e.Outcome, detail(e.Detail)})
				}
				table(w, []string{"AT", "WHO", "DID", "TO", "OUTCOME", "DETAIL"}, rows)
			})
		})}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}
