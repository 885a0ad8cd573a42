// Package acmeca asks a CA by ACME (RFC 8555). The names that such a CA certifies are those that its account may ask for:
// already authorised, or proven by a file of a web server, a DNS record, or a reply to a mail (RFC 8823).
package acmeca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// The kinds of names that an order may be for.
const (
	identifierEmail     = "email"                // RFC 8823: the mail addresses
	identifierDNS       = "dns"                  // RFC 8555: the dns names; no mail certificate comes of it
	identifierPermanent = "permanent-identifier" // draft-ietf-acme-device-attest: the subject's common name
)

// Options are the settings' options of kind acme. url of the settings is the directory's address.
type Options struct {
	// AccountKey (PEM) is the account's private key: EC P-256, P-384 or P-521, or RSA. The account is made if the CA has none.
	AccountKey string `json:"accountKey"`
	// Contact are addresses of the account's holder, as mailto:pki@corp.test.
	Contact []string `json:"contact,omitempty"`
	// AcceptTerms says that you have read the CA's terms of service and agree.
	AcceptTerms bool `json:"acceptTerms,omitempty"`
	// EABKeyID and EABHMAC (base64url) are what the CA gave you for External Account Binding (RFC 8555 section 7.3.4).
	EABKeyID string `json:"eabKeyID,omitempty"`
	EABHMAC  string `json:"eabHMAC,omitempty"`
	// Identifier is the kind of names that orders are for: email (the default), dns or permanent-identifier.
	Identifier string `json:"identifier,omitempty"`
	// Webroot is the folder of the web server of the dns names, for http-01.
	Webroot string `json:"webroot,omitempty"`
	// DNSCommand is a program and its first arguments, for dns-01: it is called with present NAME VALUE or cleanup NAME VALUE.
	DNSCommand []string `json:"dnsCommand,omitempty"`
	// EmailCommand is a program and its first arguments, for email-reply-00: it is called with reply ADDRESS TOKEN THUMBPRINT.
	EmailCommand []string `json:"emailCommand,omitempty"`
	// Profile is the CA's profile (draft-ietf-acme-profiles) for profiles here that name no template.
	Profile string `json:"profile,omitempty"`
	// Profiles maps the words that profiles use for template to profiles of the CA.
	Profiles map[string]string `json:"profiles,omitempty"`
	// RequestValidity asks for the validity of the profile here; many CAs refuse an order that does.
	RequestValidity bool `json:"requestValidity,omitempty"`
}

// waiting is how long one attempt waits for the CA; the next goes on with the same order.
const waiting = 20 * time.Second

type adapter struct {
	settings ca.Settings
	options  Options
	key      crypto.Signer
	hmac     []byte
	web      *http.Client // for ACME: its answers are bounded
	plain    *http.Client // for looking whether the address answers
	clock    func() time.Time
	waiting  time.Duration
	run      runner
	mu       sync.Mutex
	client   *acme.Client // with an account; nil: not looked yet
}

// New makes the adapter of kind acme.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	a := &adapter{settings: s, clock: env.Clock, waiting: waiting, run: runCommand}
	if err := s.DecodeOptions(&a.options); err != nil {
		return nil, err
	}
	if a.options.Identifier == "" {
		a.options.Identifier = identifierEmail
	}
	err := errors.Join(web.RequireHTTPS("url", s.URL), a.openKey(), a.openBinding(), checkProofs(a.options), checkProfiles(s, a.options))
	if err != nil {
		return nil, err
	}
	if a.plain, err = s.Client(nil); err != nil {
		return nil, err
	}
	bounded := *a.plain
	bounded.Transport = boundedTransport{a.plain.Transport}
	a.web = &bounded
	return a, nil
}

// openKey reads the account's key. No error repeats what stands in it.
func (a *adapter) openKey() error {
	text := []byte(a.options.AccountKey)
	if len(strings.TrimSpace(a.options.AccountKey)) == 0 {
		return errors.New("options: accountKey is missing: a private key in PEM (accountKeyFile), as openssl ecparam -name prime256v1 -genkey -noout writes it")
	}
	var key any
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			key, _ = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, _ = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
		}
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve.Params().BitSize >= 256 {
			a.key = k
		}
	case *rsa.PrivateKey:
		a.key = k
	}
	if a.key == nil {
		return errors.New("options: accountKey: a PEM private key without a password, EC P-256, P-384 or P-521 or RSA, is right")
	}
	return nil
}

func (a *adapter) openBinding() error {
	o := a.options
	if (o.EABKeyID == "") != (o.EABHMAC == "") {
		return errors.New("options: eabKeyID and eabHMAC belong together: the CA gives both")
	}
	var err error
	text := strings.TrimRight(strings.TrimSpace(o.EABHMAC), "=")
	if a.hmac, err = base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text)); err != nil {
		return errors.New("options: eabHMAC is not base64url")
	}
	return nil
}

func checkProofs(o Options) error {
	switch o.Identifier {
	case identifierEmail, identifierDNS, identifierPermanent:
	default:
		return fmt.Errorf("options: identifier %q: email, dns and permanent-identifier are possible", o.Identifier)
	}
	if o.Webroot != "" && !filepath.IsAbs(o.Webroot) {
		return fmt.Errorf("options: webroot %q: an absolute path is right", o.Webroot)
	}
	for field, command := range map[string][]string{"dnsCommand": o.DNSCommand, "emailCommand": o.EmailCommand} {
		if len(command) > 0 && !filepath.IsAbs(command[0]) {
			return fmt.Errorf("options: %s %q: a list is right whose first entry is the absolute path of a program", field, command[0])
		}
	}
	for _, contact := range o.Contact {
		if !strings.HasPrefix(contact, "mailto:") {
			return fmt.Errorf("options: contact %q: mailto:pki@corp.test is right", contact)
		}
	}
	return nil
}

func checkProfiles(s ca.Settings, o Options) error {
	for _, word := range s.Templates {
		if o.Profiles[word] == "" {
			return fmt.Errorf("options: profiles has no profile of the CA for the template %q", word)
		}
	}
	return nil
}

// Enroll goes on with the order of an earlier attempt, or makes one; proves what the CA wants proven; and fetches the
// certificate. Of alternate chains (RFC 8555 section 7.4.2) the ledger needs none: it builds the chain from its settings.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	ids, err := a.identifiers(q.Intent)
	if err != nil {
		return nil, err
	}
	csr, err := ca.Request(q.Intent, "")
	if err != nil {
		return nil, err
	}
	client, err := a.account(ctx)
	if err != nil {
		return nil, err
	}
	chain, err := a.certificate(ctx, client, q, ids, csr)
	if err != nil {
		return nil, a.explain(err)
	}
	certs, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	return web.Leaf(certs, q.Intent.PublicKey)
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.New("the CA's answer has a certificate that does not parse")
		}
		out = append(out, c)
	}
	return out, nil
}

// boundedTransport bounds answers, follows no redirection, and goes nowhere without TLS: the ACME library reads all that it
// is given, and goes wherever the CA's directory says.
type boundedTransport struct{ next http.RoundTripper }

func (b boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("the CA names an address that does not begin with https:// (%s)", web.Words(r.URL.Host))
	}
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		_ = response.Body.Close()
		return nil, fmt.Errorf("the CA answers %d and sends the connector to %q: give the final address in the settings", response.StatusCode, web.Words(response.Header.Get("Location")))
	}
	response.Body = http.MaxBytesReader(nil, response.Body, ca.MaxAnswer)
	return response, nil
}

// Revoke revokes by the account (RFC 8555 section 7.6). A CA that does not take the reason gets the request without one.
func (a *adapter) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	client, err := a.account(ctx)
	if err != nil {
		return err
	}
	dir, err := client.Discover(ctx)
	if err != nil {
		return a.explain(err)
	}
	if dir.RevokeURL == "" {
		return ca.ErrCannotRevoke
	}
	err = client.RevokeCert(ctx, nil, leaf.Raw, acme.CRLReasonCode(reason))
	if problemType(err) == "badRevocationReason" && reason != 0 {
		err = client.RevokeCert(ctx, nil, leaf.Raw, acme.CRLReasonUnspecified)
	}
	if err != nil {
		return fmt.Errorf("revoking certificate %X: %w", leaf.SerialNumber, a.explain(err))
	}
	return nil
}
