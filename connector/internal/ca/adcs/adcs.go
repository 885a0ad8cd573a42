// Package adcs asks Microsoft's Active Directory Certificate Services through their HTTPS services: the policy service (CEP,
// [MS-XCEP]) says which templates there are and where to enrol, the enrolment service (CES, [MS-WSTEP]) takes the request.
//
// The connector proves who it is by a user name and a password in the message (WS-Security UsernameToken) or by a client
// certificate in TLS. Kerberos is left out: it needs a machine in the domain. So is enrolling on behalf of others with a
// registration authority's signature: the template lets the requester supply the names instead.
package adcs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/xmltree"
)

// Options are the settings' options. url of the settings is the policy service's.
type Options struct {
	// Username and Password are an account of the domain that may enrol: DOMAIN\user or user@corp.test.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// ClientCertificate and ClientKey (PEM) are used instead of them.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
	// EnrolmentURL is the enrolment service's. Empty: the policy service names it, and it must be on the same host, since it
	// gets the password.
	EnrolmentURL string `json:"enrolmentURL,omitempty"`
	// Template is the name (cn, not the display name) of the template for profiles that name none.
	Template string `json:"template"`
	// Templates maps the words that profiles use to templates' names; a word that is missing is a template's name itself.
	Templates map[string]string `json:"templates,omitempty"`
	// SIDExtension asks for the security extension of KB5014754 where a name of the certificate is the URI
	// tag:microsoft.com,2022-09-14:sid:<SID>. Off by default.
	SIDExtension bool `json:"sidExtension,omitempty"`
}

type adapter struct {
	settings ca.Settings
	options  Options
	own      *tls.Certificate
	client   *http.Client
	clock    func() time.Time
	rand     io.Reader
}

// New makes the adapter.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o Options
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	o.Password = strings.TrimRight(o.Password, "\r\n") // files end with a line break, passwords do not
	own, err := o.check(s)
	if err != nil {
		return nil, err
	}
	client, err := s.Client(own)
	if err != nil {
		return nil, err
	}
	a := &adapter{settings: s, options: o, own: own, client: client, clock: env.Clock, rand: env.Rand}
	if a.rand == nil {
		a.rand = rand.Reader
	}
	return a, nil
}

func (o Options) check(s ca.Settings) (*tls.Certificate, error) {
	own, err := web.KeyPair("clientCertificate", o.ClientCertificate, "clientKey", o.ClientKey)
	if err != nil {
		return nil, err
	}
	switch {
	case own == nil && (o.Username == "" || o.Password == ""):
		return nil, errors.New("options: username and passwordFile, or clientCertificateFile and clientKeyFile, are missing")
	case own != nil && (o.Username != "" || o.Password != ""):
		return nil, errors.New("options: username and clientCertificateFile are both given; the services take one of them")
	case o.Template == "" && len(s.Templates) == 0:
		return nil, errors.New("options: template is missing: the name of the template for profiles that name none")
	}
	if err := web.RequireHTTPS("url", s.URL); err != nil {
		return nil, err
	}
	if o.EnrolmentURL != "" {
		return own, web.RequireHTTPS("options: enrolmentURL", o.EnrolmentURL)
	}
	return own, nil
}

// templateName is the CA's name for what a profile calls its template.
func (a *adapter) templateName(word string) (string, error) {
	if word == "" {
		if a.options.Template == "" {
			return "", ca.Refuse("the profile names no template, and neither does the option template of CA %s", a.settings.Name)
		}
		return a.options.Template, nil
	}
	if name, ok := a.options.Templates[word]; ok {
		return name, nil
	}
	return word, nil
}

// mayEnrolAt tells whether a URL may get the password: the option's, or one of the policy service's own host.
func (a *adapter) mayEnrolAt(text string) bool {
	if text == a.options.EnrolmentURL && text != "" {
		return true
	}
	u, err := url.Parse(text)
	own, ownErr := url.Parse(a.settings.URL)
	return a.options.EnrolmentURL == "" && err == nil && ownErr == nil && u.Scheme == "https" && u.User == nil && strings.EqualFold(u.Host, own.Host)
}

// call sends a message to one of the services.
func (a *adapter) call(ctx context.Context, address, action string, body xmltree.Element) (*xmltree.Node, error) {
	id, err := a.uuid()
	if err != nil {
		return nil, err
	}
	answer, err := soap.Do(ctx, a.client, soap.Call{URL: address, Action: action, MessageID: "urn:uuid:" + id, Header: a.security(id), Body: body})
	var fault *soap.Fault
	if errors.As(err, &fault) && credentialsFault(fault) {
		return nil, fmt.Errorf("%w: %w", web.ErrCredentials, err)
	}
	return answer, err
}

// credentialsFault knows the subcodes of WS-Security 1.0 section 12 and of WCF.
func credentialsFault(f *soap.Fault) bool {
	switch f.Subcode {
	case "FailedAuthentication", "InvalidSecurity", "InvalidSecurityToken", "FailedCheck", "AccessDenied", "MessageExpired":
		return true
	}
	return false
}

// lifetime of a message's timestamp; WCF allows as much difference between the clocks.
const lifetime = 5 * time.Minute

// security holds user name and password (WS-Security UsernameToken Profile 1.0 section 3.1) and the timestamp that WCF's
// TransportWithMessageCredential looks for. TLS keeps both from others' eyes.
func (a *adapter) security(id string) []xmltree.Element {
	if a.own != nil {
		return nil
	}
	const stamp = "2006-01-02T15:04:05.000Z"
	now := a.clock().UTC()
	password := xmltree.Text("o:Password", a.options.Password).
		With("Type", "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText")
	return []xmltree.Element{xmltree.Parent("o:Security",
		xmltree.Parent("u:Timestamp", xmltree.Text("u:Created", now.Format(stamp)), xmltree.Text("u:Expires", now.Add(lifetime).Format(stamp))).With("u:Id", "_0"),
		xmltree.Parent("o:UsernameToken", xmltree.Text("o:Username", a.options.Username), password).With("u:Id", "uuid-"+id),
	).With("s:mustUnderstand", "1", "xmlns:o", soap.NSSecurity, "xmlns:u", soap.NSUtility)}
}

// uuid is a random one (RFC 9562 section 5.4).
func (a *adapter) uuid() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return "", fmt.Errorf("making a message id: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:], nil
}

// Revoke cannot: neither of the services has a word for it. An admin does it with certutil -revoke.
func (a *adapter) Revoke(_ context.Context, leaf *x509.Certificate, reason int) error {
	return fmt.Errorf("%w: certutil -revoke %x %d", ca.ErrCannotRevoke, leaf.SerialNumber, reason)
}
