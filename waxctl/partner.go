package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/api"
)

// maxChain bounds what is read of a file of certificates.
const maxChain = 256 << 10

func (p *program) partnerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "partner", Short: "certification authorities of others that ask the server whether requests are right"}
	cmd.AddCommand(p.partnerAddCommand(), p.partnerListCommand(), p.partnerRemoveCommand())
	return cmd
}

func (p *program) partnerAddCommand() *cobra.Command {
	var request api.PartnerRequest
	var files []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "add a partner CA; print its app id and, once, its secret", Args: cobra.ExactArgs(1),
		Long: "Prints the app id on the first line and the secret on the second, which cannot be shown again. docs/cas/partner.md says into\n" +
			"which settings of the CA they belong.",
		RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) (err error) {
			request.Name = args[0]
			if request.Chain, err = chainOf(files); err != nil {
				return err
			}
			partner, err := c.AddPartner(ctx, request)
			if err != nil {
				return err
			}
			p.say("AAD_APP_ID is the first line, AAD_APP_KEY the second; it is shown this once. TENANT=waxseal, AUTH_AUTHORITY, MSAL_GRAPH_RESOURCE_URL and\n"+
				"INTUNE_RESOURCE_URL are %s", partner.Server)
			p.value("%s\n%s", partner.AppID, partner.Secret)
			return nil
		}),
	}
	cmd.Flags().StringVar(&request.URL, "url", "", "where devices ask the CA by SCEP")
	cmd.Flags().StringArrayVar(&files, "issuer-cert", nil, "PEM: the issuing certificate, then those above it up to the root, in one file or several")
	_ = cmd.MarkFlagRequired("url")
	_ = cmd.MarkFlagRequired("issuer-cert")
	return cmd
}

// chainOf reads the certificates of PEM files, in their order.
func chainOf(files []string) ([][]byte, error) {
	var chain [][]byte
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading --issuer-cert: %w", err)
		}
		raw, err := io.ReadAll(io.LimitReader(f, maxChain))
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading --issuer-cert: %w", err)
		}
		before := len(chain)
		for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				chain = append(chain, block.Bytes)
			}
		}
		if len(chain) == before {
			return nil, fmt.Errorf("--issuer-cert: %s holds no certificate in PEM form", name)
		}
	}
	return chain, nil
}

func (p *program) partnerListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "list", Short: "list partner CAs", Args: cobra.NoArgs,
		RunE: p.withClient(func(ctx context.Context, c *api.Client, _ []string) error {
			partners, err := api.All(ctx, c.Partners)
			if err != nil {
				return err
			}
			return p.print(output, partners, func(w io.Writer) {
				var rows [][]string
				for _, x := range partners {
					rows = append(rows, []string{x.Name, x.URL, x.AppID, x.Subject, day(x.NotAfter), day(x.CreatedAt)})
				}
				table(w, []string{"PARTNER", "URL", "APP ID", "ISSUER", "UNTIL", "SINCE"}, rows)
			})
		})}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (p *program) partnerRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove NAME", Short: "remove a partner CA: its access ends at once, its certificates stay", Args: cobra.ExactArgs(1),
		RunE: p.withClient(func(ctx context.Context, c *api.Client, args []string) error {
			if err := c.RemovePartner(ctx, args[0]); err != nil {
				return err
			}
			p.say("partner %s is removed", args[0])
			return nil
		})}
}
