// Package estca asks a CA by Enrolment over Secure Transport (RFC 7030): cacerts and simpleenroll, over TLS, with HTTP Basic
// or a client certificate.
//
//	simpleenroll → 200             the certificate
//	             → 202 Retry-After noted with the request; the next attempt after that time sends the same request again
//	             → 400, 422        refused for good
//
// The connector is a registration authority in the sense of section 3.7 where the CA lets its account ask for names and keys
// that are not its own. simplereenroll is not used: its request must have the names and the TLS certificate of the
// certificate that it renews, which only a device itself could show. serverkeygen is not used: the CA would know the key.
package estca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// Options are the settings' options. url of the settings is https:// and the host, without a path.
type Options struct {
	// Username and Password are for HTTP Basic (RFC 7030 section 3.2.3).
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// ClientCertificate and ClientKey (PEM) prove in TLS who the connector is; beside user name and password or alone.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
	// Label is the path segment by which the server tells its CAs or profiles apart (RFC 7030 section 3.2.2), for profiles
	// that name no template; empty: none.
	Label string `json:"label,omitempty"`
	// Labels maps the words that profiles use for template to labels; a word that is missing is a label itself.
	Labels map[string]string `json:"labels,omitempty"`
}

type adapter struct {
	settings ca.Settings
	options  Options
	own      *tls.Certificate
	client   *http.Client
	clock    func() time.Time
}

// New makes the adapter.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o Options
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	o.Password = strings.TrimRight(o.Password, "\r\n") // files end with a line break, passwords do not
	own, err := web.KeyPair("clientCertificate", o.ClientCertificate, "clientKey", o.ClientKey)
	if err != nil {
		return nil, err
	}
	a := &adapter{settings: s, options: o, own: own, clock: env.Clock}
	if err := a.check(); err != nil {
		return nil, err
	}
	a.client, err = s.Client(own)
	return a, err
}

func (a *adapter) check() error {
	o := a.options
	u, err := url.Parse(a.settings.URL)
	switch {
	case (o.Username == "") != (o.Password == ""):
		return errors.New("options: username and passwordFile belong together, and the file must not be empty")
	case o.Username == "" && a.own == nil:
		return errors.New("options: username and passwordFile, or clientCertificateFile and clientKeyFile, are missing")
	case err == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != ""):
		return fmt.Errorf("url %q: it ends after the host; /.well-known/est follows by itself, and a label has an option of its own", a.settings.URL)
	}
	for _, l := range a.labels() {
		if err := checkLabel(l); err != nil {
			return err
		}
	}
	return web.RequireHTTPS("url", a.settings.URL)
}

// label is one path segment of unreserved characters.
func label() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`) }

// checkLabel knows that a label must not be the name of an operation (RFC 7030 section 3.2.2).
func checkLabel(l string) error {
	switch l {
	case "":
		return nil
	case ".", "..", "cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs":
		return fmt.Errorf("options: label %q: that is the name of an operation or of a folder", l)
	}
	if !label().MatchString(l) {
		return fmt.Errorf("options: label %q: it is 1 to 64 letters, digits, full stops, hyphens, underscores and tildes", l)
	}
	return nil
}

// labelFor is the label for what a profile calls its template.
func (a *adapter) labelFor(word string) string {
	if word == "" {
		return a.options.Label
	}
	if l, ok := a.options.Labels[word]; ok {
		return l
	}
	return word
}

// labels are those that may be asked for, each once.
func (a *adapter) labels() []string {
	var out []string
	seen := map[string]bool{}
	for _, word := range append([]string{""}, a.settings.Templates...) {
		if l := a.labelFor(word); !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	return out
}

// Revoke cannot: EST has no operation for it but Full CMC, which servers rarely have.
func (a *adapter) Revoke(context.Context, *x509.Certificate, int) error { return ca.ErrCannotRevoke }
