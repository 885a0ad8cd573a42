package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/profiles"
)

// listing is one kind of thing that `get` shows.
type listing struct {
	header []string
	read   func(ctx context.Context, c *api.Client) (items any, rows [][]string, err error)
}

// listed builds a listing from a page reader and a row writer.
func listed[T any](read func(*api.Client) func(context.Context, api.PageQuery) (api.Page[T], error), row func(T) []string, header ...string) listing {
	return listing{header: header, read: func(ctx context.Context, c *api.Client) (any, [][]string, error) {
		items, err := api.All(ctx, read(c))
		var rows [][]string
		for _, i := range items {
			rows = append(rows, row(i))
		}
		return items, rows, err
	}}
}

func listings() map[string]listing {
	return map[string]listing{
		"users": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.User], error) { return c.Users },
			func(u api.User) []string {
				return []string{u.UPN, u.DisplayName, strings.Join(u.Addresses, ","), strings.Join(u.Groups, ",")}
			}, "UPN", "NAME", "ADDRESSES", "GROUPS"),
		"groups": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Group], error) { return c.Groups },
			func(g api.Group) []string { return []string{g.Name, strings.Join(g.Users, ",")} }, "GROUP", "USERS"),
		"profiles": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Profile], error) {
			return c.Profiles
		},
			func(pr api.Profile) []string {
				return []string{string(pr.Object.Kind), pr.Object.Name, strings.Join(pr.Assignments, ",")}
			}, "KIND", "NAME", "ASSIGNED BY"),
		"devices": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Device], error) {
			return c.Devices
		},
			func(d api.Device) []string {
				return []string{d.ID, d.User, string(d.Platform), d.Model, d.OSVersion, d.State, d.Removal, when(d.LastSeen)}
			}, "DEVICE", "USER", "PLATFORM", "MODEL", "OS", "STATE", "REMOVAL", "LAST SEEN"),
		"certificates": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Certificate], error) {
			return c.Certificates
		},
			func(c api.Certificate) []string {
				return []string{short(c.SHA256), c.Kind, c.User, c.Subject, day(c.NotBefore), day(c.NotAfter), c.Profile, c.DeviceID, certificateStatus(c)}
			}, "SHA256", "KIND", "USER", "SUBJECT", "FROM", "UNTIL", "PROFILE", "DEVICE", "STATUS"),
		"escrow": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.EscrowRecord], error) {
			return c.EscrowRecords
		},
			func(r api.EscrowRecord) []string {
				return []string{r.ID, r.User, string(r.Purpose), short(r.CertSHA256), fmt.Sprint(len(r.SealedTo))}
			}, "RECORD", "USER", "PURPOSE", "CERTIFICATE", "SEALED TO"),
		"connectors": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Connector], error) {
			return c.Connectors
		},
			func(c api.Connector) []string { return []string{c.ID, c.Name, c.State, c.Member, when(c.LastSeen)} },
			"CONNECTOR", "NAME", "STATE", "FINGERPRINT", "LAST SEEN"),
		"cas": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.CA], error) { return c.CAs },
			func(c api.CA) []string {
				return []string{c.Name, c.Kind, c.Subject, day(c.NotAfter), strings.Join(c.Templates, " "), strings.Join(c.Connectors, " ")}
			}, "CA", "KIND", "SUBJECT", "UNTIL", "TEMPLATES", "CONNECTORS"),
		"jobs": listed(func(c *api.Client) func(context.Context, api.PageQuery) (api.Page[api.Job], error) { return c.Jobs },
			func(j api.Job) []string {
				return []string{j.ID, j.Kind, j.User, j.DocumentID, j.State, fmt.Sprint(j.Attempt), j.Reason, j.Error}
			}, "JOB", "KIND", "USER", "DOCUMENT", "STATE", "ATTEMPT", "REASON", "ERROR"),
	}
}

// certificateStatus is that of the record, and history for what is kept but is not what mail is written with.
func certificateStatus(c api.Certificate) string {
	if c.History {
		return "history"
	}
	return c.Status
}

func (p *program) getCommand() *cobra.Command {
	var output, within string
	cmd := &cobra.Command{
		Use: "get users|groups|profiles|devices|certificates|escrow|connectors|cas|jobs", Short: "list what the server knows", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if within != "" {
				return p.expiring(args[0], within, output)(cmd, args)
			}
			l, ok := listings()[args[0]]
			if !ok {
				return withHint(fmt.Errorf("there are no %s to get", args[0]), "users, groups, profiles, devices, certificates, escrow, connectors, cas or jobs")
			}
			return p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
				items, rows, err := l.read(ctx, c)
				if err != nil {
					return err
				}
				return p.print(output, items, func(w io.Writer) { table(w, l.header, rows) })
			})(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	cmd.Flags().StringVar(&within, "expiring", "", "certificates: what ends within a time such as 30d, CAs and the server's own too")
	return cmd
}

// print writes a value in the chosen form.
func (p *program) print(output string, v any, asTable func(io.Writer)) error {
	switch output {
	case "table":
		asTable(plain{p.env.Stdout})
		return nil
	case "json":
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		p.value("%s", raw)
		return nil
	case "yaml":
		return p.printYAML(v)
	}
	return withHint(fmt.Errorf("output %q is not known", output), "-o table, -o json or -o yaml")
}

// printYAML writes profiles in the admin's file format, so that they can be applied again; the rest as plain YAML.
func (p *program) printYAML(v any) error {
	if list, ok := v.([]api.Profile); ok {
		var objects []profiles.Object
		for _, item := range list {
			objects = append(objects, item.Object)
		}
		raw, err := manifest.Export(objects)
		p.value("%s", strings.TrimSuffix(string(raw), "\n"))
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	raw, err = yaml.JSONToYAML(raw)
	p.value("%s", strings.TrimSuffix(string(raw), "\n"))
	return err
}

// plain keeps foreign text, such as the name that a device gives itself, from commanding the terminal.
type plain struct{ w io.Writer }

func (p plain) Write(text []byte) (int, error) {
	_, err := io.WriteString(p.w, strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, string(text)))
	return len(text), err
}

func table(w io.Writer, header []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range append([][]string{header}, rows...) {
		for i, cell := range r {
			if r[i] = strings.ReplaceAll(cell, "\n", "; "); cell == "" {
				r[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush()
}

func short(sha string) string { return sha[:min(12, len(sha))] }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
