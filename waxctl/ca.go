package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
)

func (p *program) caCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "certification authorities that connectors offer"}
	cmd.AddCommand(&cobra.Command{Use: "test NAME", Short: "have a connector look whether a CA's settings are right; nothing is issued", Args: cobra.ExactArgs(1),
		RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) error {
			result, err := c.TestCA(ctx, args[0])
			if err != nil {
				return err
			}
			for _, f := range result.Findings {
				word := "ok"
				if !f.OK {
					word = "wrong"
				}
				p.value("%s\t%s\t%s", word, f.Check, f.Detail)
			}
			if !result.OK {
				return withHint(fmt.Errorf("CA %s cannot issue as it is set", result.CA), "change its settings on the connector: waxseal-connector ca set --keyring DIR -f FILE")
			}
			return nil
		})})
	return cmd
}
