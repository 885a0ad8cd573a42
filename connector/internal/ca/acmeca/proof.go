package acmeca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// proof answers one type of challenge: show makes the answer visible, and what it gives takes it away again.
type proof struct {
	kind string
	show func(ctx context.Context, client *acme.Client, name, token string) (hide func(context.Context) error, err error)
	once bool // the answer is sent, and not again while the CA looks at it
}

// proofs are what the settings give the means for.
func (a *adapter) proofs() []proof {
	var out []proof
	if a.options.Webroot != "" {
		out = append(out, proof{kind: "http-01", show: a.showFile})
	}
	if len(a.options.DNSCommand) > 0 {
		out = append(out, proof{kind: "dns-01", show: a.showRecord})
	}
	if len(a.options.EmailCommand) > 0 {
		out = append(out, proof{kind: "email-reply-00", show: a.sendReply, once: true})
	}
	return out
}

// answer has one name confirmed.
func (a *adapter) answer(ctx context.Context, client *acme.Client, z *acme.Authorization) error {
	p, challenge, err := a.choose(z)
	if err != nil {
		return err
	}
	if !isToken(challenge.Token) {
		return errors.New("the CA's challenge has a token that is not base64url (RFC 8555 section 8.1)")
	}
	begun := challenge.Status == acme.StatusProcessing
	if !begun || !p.once {
		hide, err := p.show(ctx, client, z.Identifier.Value, challenge.Token)
		if err != nil {
			return err
		}
		defer a.hide(ctx, hide)
	}
	if !begun {
		if challenge, err = client.Accept(ctx, challenge); err != nil {
			return err
		}
		if challenge.Status == acme.StatusPending && challenge.Error != nil { // step-ca looks at once, and lets one try again
			return unconfirmed(z, challenge.Error)
		}
	}
	return a.patiently(ctx, func(ctx context.Context) error {
		_, err := client.WaitAuthorization(ctx, z.URI)
		return err
	})
}

// unconfirmed is what an authorisation that came to nothing is.
func unconfirmed(z *acme.Authorization, why error) error {
	return &acme.AuthorizationError{URI: z.URI, Identifier: z.Identifier.Value, Errors: []error{why}}
}

// hide takes an answer away, also when the caller's time is up. What stays is of no use to anybody.
func (a *adapter) hide(ctx context.Context, hide func(context.Context) error) {
	if hide != nil {
		_ = hide(context.WithoutCancel(ctx))
	}
}

// choose picks the first proof of ours that the CA offers.
func (a *adapter) choose(z *acme.Authorization) (proof, *acme.Challenge, error) {
	var offered []string
	for _, p := range a.proofs() {
		for _, c := range z.Challenges {
			if c.Type == p.kind {
				return p, c, nil
			}
		}
	}
	for _, c := range z.Challenges {
		offered = append(offered, c.Type)
	}
	return proof{}, nil, fmt.Errorf("the CA wants %q proven by one of [%s], for which the settings give no means: http-01 needs webroot, dns-01 dnsCommand, "+
		"email-reply-00 emailCommand; or have the CA authorise the account for such names", web.Words(z.Identifier.Value), web.Words(strings.Join(offered, " ")))
}

var token = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// isToken: a token becomes a file's name and a command's argument.
func isToken(text string) bool { return token.MatchString(text) }

// wellKnown is the folder of RFC 8555 section 8.3 below a web server's.
const wellKnown = ".well-known/acme-challenge"

// showFile writes the file that http-01 looks for.
func (a *adapter) showFile(_ context.Context, client *acme.Client, _, token string) (func(context.Context) error, error) {
	content, err := client.HTTP01ChallengeResponse(token)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(a.options.Webroot)
	if err != nil {
		return nil, fmt.Errorf("opening webroot: %w", err)
	}
	defer root.Close()
	name := filepath.Join(wellKnown, token)
	if err := root.MkdirAll(wellKnown, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making %s in webroot: %w", wellKnown, err)
	}
	if err := root.WriteFile(name, []byte(content), 0o644); err != nil { // the web server reads it
		return nil, fmt.Errorf("writing into webroot: %w", err)
	}
	return func(context.Context) error { return a.removeFile(name) }, nil
}

func (a *adapter) removeFile(name string) error {
	root, err := os.OpenRoot(a.options.Webroot)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Remove(name)
}

// showRecord has the TXT record of dns-01 made (RFC 8555 section 8.4).
func (a *adapter) showRecord(ctx context.Context, client *acme.Client, name, token string) (func(context.Context) error, error) {
	value, err := client.DNS01ChallengeRecord(token)
	if err != nil {
		return nil, err
	}
	record := "_acme-challenge." + strings.TrimPrefix(name, "*.")
	call := func(ctx context.Context, verb string) error {
		return a.run(ctx, "dnsCommand", a.options.DNSCommand, verb, record, value)
	}
	return func(ctx context.Context) error { return call(ctx, "cleanup") }, call(ctx, "present")
}

// sendReply has the CA's mail answered (RFC 8823 section 3). The token is its second half; the first stands in the mail,
// and only the command sees that.
func (a *adapter) sendReply(ctx context.Context, _ *acme.Client, address, token string) (func(context.Context) error, error) {
	if strings.HasPrefix(address, "-") {
		return nil, errors.New("an address that begins with a hyphen cannot be given to emailCommand")
	}
	thumbprint, err := acme.JWKThumbprint(a.key.Public())
	if err != nil {
		return nil, err
	}
	return nil, a.run(ctx, "emailCommand", a.options.EmailCommand, "reply", address, token, thumbprint)
}

const (
	// commandTime is how long a command may take.
	commandTime = time.Minute
	// maxOutput bounds what is kept of what a command writes.
	maxOutput = 4 << 10
)

// runner runs the command of an option with further arguments.
type runner func(ctx context.Context, option string, command []string, args ...string) error

// runCommand runs a program without a shell. Of the connector's environment it gets PATH alone.
func runCommand(ctx context.Context, option string, command []string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	var out limited
	cmd := exec.CommandContext(ctx, command[0], append(append([]string{}, command[1:]...), args...)...)
	cmd.Env, cmd.Stderr, cmd.WaitDelay = []string{"PATH=" + os.Getenv("PATH")}, &out, time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", option, args[0], err, web.Words(out.String()))
	}
	return nil
}

// limited keeps the beginning of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
