package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/waxctl/internal/pfximport"
	"github.com/waxseal/waxseal/waxctl/internal/pin"
	"github.com/waxseal/waxseal/waxctl/internal/settings"
)

type importFlags struct {
	user, purpose, passwordFile string
	json                        bool
}

func (p *program) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{Use: "import", Short: "bring certificates that people already have"}
	pfxCmd := &cobra.Command{
		Use: "pfx FILE…", Short: "seal the keys of PFX files to the connectors and store them for a user", Args: cobra.MinimumNArgs(1),
		Long:    "Seals the keys of PFX files to the connectors, here, and stores them for a user. The password in the first line of --password-file is that of all the files.",
		Example: "  waxctl import pfx alice-2016.pfx alice-2019.pfx --user alice@corp.test --password-file password.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, s, err := p.client()
			if err != nil {
				return err
			}
			return p.importPFX(cmd.Context(), c, s, f, args)
		},
	}
	pfxCmd.Flags().StringVar(&f.user, "user", "", "UPN of the user whose certificates they are")
	pfxCmd.Flags().StringVar(&f.purpose, "purpose", "", "smimeEncryption, smimeSigning or unassigned; default: by key usage")
	pfxCmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password, one for all the PFX files")
	pfxCmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per certificate")
	for _, name := range []string{"user", "password-file"} {
		_ = pfxCmd.MarkFlagRequired(name)
	}
	cmd.AddCommand(pfxCmd)
	return cmd
}

func (p *program) importPFX(ctx context.Context, c *api.Client, s settings.Settings, f importFlags, files []string) error {
	password, err := readPassword(f.passwordFile)
	if err != nil {
		return err
	}
	importer, err := p.importer(ctx, c, s, f)
	if err != nil {
		return err
	}
	failed := 0
	done := p.progress(len(files))
	for _, file := range files {
		if err := p.importFile(ctx, c, importer, file, password, f.json); err != nil {
			failed++
			sentence, hint := pfximport.Explain(err)
			p.say("error: %s: %s", file, sentence)
			if hint != "" {
				p.say("hint: %s", hint)
			}
		}
		done()
	}
	if failed > 0 {
		return errReported
	}
	return nil
}

func (p *program) importFile(ctx context.Context, c *api.Client, im pfximport.Importer, file, password string, asJSON bool) error {
	raw, err := readBounded(file, pfx.MaxSize)
	if err != nil {
		return err
	}
	sealed, err := im.Open(raw, password)
	if err != nil {
		return fmt.Errorf("%w; nothing of this file was stored", err)
	}
	for i, s := range sealed {
		answer, err := c.Import(ctx, s.Request)
		if err != nil {
			return fmt.Errorf("%d of %d certificates were stored, then the server refused: %w", i, len(sealed), err)
		}
		p.imported(file, s, answer.Created, asJSON)
	}
	return nil
}

func (p *program) imported(file string, s pfximport.Sealed, created, asJSON bool) {
	if s.Warning != "" {
		p.say("warning: %s: %s", file, s.Warning)
	}
	if asJSON {
		line, _ := json.Marshal(map[string]any{"file": file, "subject": s.Subject, "sha256": s.Request.Record.CertSHA256,
			"purpose": s.Request.Purpose, "recordId": s.Request.Record.ID, "created": created})
		p.value("%s", line)
		return
	}
	if !created {
		p.say("%s: %s is stored already, nothing changed", file, s.Subject)
		return
	}
	p.say("%s: %s stored for %s (%s)", file, s.Subject, s.Request.User, s.Request.Purpose)
}

// importer gathers the user, the owners of addresses and the verified key set.
func (p *program) importer(ctx context.Context, c *api.Client, s settings.Settings, f importFlags) (pfximport.Importer, error) {
	switch profiles.Purpose(f.purpose) {
	case "", profiles.PurposeUnassigned, profiles.PurposeSMIMESigning, profiles.PurposeSMIMEEncryption:
	default:
		return pfximport.Importer{}, withHint(fmt.Errorf("purpose %q is not known", f.purpose), "smimeEncryption, smimeSigning or unassigned")
	}
	user, err := c.User(ctx, f.user)
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == 404 {
		return pfximport.Importer{}, withHint(fmt.Errorf("user %s is not known", f.user), "write a User object and `waxctl apply -f` it first")
	}
	if err != nil {
		return pfximport.Importer{}, err
	}
	owner, err := owners(ctx, c)
	if err != nil {
		return pfximport.Importer{}, err
	}
	members, err := p.members(ctx, c, s)
	if err != nil {
		return pfximport.Importer{}, err
	}
	return pfximport.Importer{Owner: owner, Members: members, Rand: p.env.Rand, Purpose: profiles.Purpose(f.purpose),
		User: pfximport.User{ID: user.ID, UPN: user.UPN, Spec: profiles.User{DisplayName: user.DisplayName, Addresses: user.Addresses, FormerAddresses: user.FormerAddresses}}}, nil
}

func owners(ctx context.Context, c *api.Client) (pfximport.Owner, error) {
	users, err := api.All(ctx, c.Users)
	if err != nil {
		return nil, err
	}
	byAddress := map[string]string{}
	for _, u := range users {
		for _, a := range u.Addresses {
			byAddress[strings.ToLower(a)] = u.UPN
		}
	}
	return func(a string) string { return byAddress[strings.ToLower(a)] }, nil
}

// members are whom to seal to: the key set as it verifies under the pinned escrow root, never the server's word.
func (p *program) members(ctx context.Context, c *api.Client, s settings.Settings) ([]escrow.Member, error) {
	signed, err := c.KeySet(ctx)
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == 404 {
		return nil, withHint(errors.New("there is no connector yet that could hold keys"), "run `waxseal-connector init` first (docs/operations.md)")
	}
	if err != nil {
		return nil, err
	}
	pins := pin.Store{Dir: s.StateDir}
	result, err := pins.Check(s.Server, s.EscrowRoot, signed)
	var wrong *escrow.WrongRootError
	if errors.As(err, &wrong) {
		return nil, withHint(err, "if the escrow root was replaced on purpose, compare the fingerprint with KEYRING/escrow-root on the connector and pass it once with --escrow-root")
	}
	if err != nil {
		return nil, err
	}
	if result.FirstUse {
		p.say("pinned the escrow root at first use: %s", result.Root)
		p.say("compare it with the file escrow-root in the keyring of the first connector")
	}
	return result.Set.Members, nil
}

func readPassword(file string) (string, error) {
	raw, err := readBounded(file, 64<<10)
	if err != nil {
		return "", err
	}
	text := strings.TrimPrefix(string(raw), "\ufeff") // editors on Windows begin a file with it
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return "", withHint(fmt.Errorf("%s is written in UTF-16", file), "save the password file as UTF-8")
	}
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), nil
}

func readBounded(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%d bytes are too many, at most %d", info.Size(), limit)
	}
	return os.ReadFile(file)
}

// progress shows a bar on a terminal when there are many files.
func (p *program) progress(n int) (step func()) {
	stderr, ok := p.env.Stderr.(*os.File)
	if !ok || n < 5 || !term.IsTerminal(int(stderr.Fd())) {
		return func() {}
	}
	bars := mpb.New(mpb.WithOutput(stderr), mpb.WithWidth(40))
	bar := bars.AddBar(int64(n), mpb.PrependDecorators(decor.Name("importing ")), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d")))
	return bar.Increment
}
