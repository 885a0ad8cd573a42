package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/profiles"
)

// expiring lists what ends soon.
func (p *program) expiring(what, within, output string) func(*cobra.Command, []string) error {
	return p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
		if what != "certificates" {
			return withHint(errors.New("--expiring goes with certificates"), "waxctl get certificates --expiring 30d")
		}
		d, err := profiles.ParseDuration(within)
		if err != nil {
			return withHint(fmt.Errorf("--expiring: %w", err), "a number and a unit, such as 30d or 12h")
		}
		items, err := c.Expiring(ctx, d.Time())
		if err != nil {
			return err
		}
		return p.print(output, items, func(w io.Writer) {
			var rows [][]string
			for _, i := range items {
				who := i.User
				if who == "" {
					who = i.Name
				}
				rows = append(rows, []string{day(i.NotAfter), i.Kind, who, i.Subject, i.Profile, i.DeviceID, i.Remedy})
			}
			table(w, []string{"UNTIL", "KIND", "WHOSE", "SUBJECT", "PROFILE", "DEVICE", "WHAT TO DO"}, rows)
		})
	})
}
