// Package web holds what the adapters that speak HTTPS share: one way to send and to read, one way to repeat a CA's words,
// and the findings about a URL that every CA's test begins with.
package web

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/link"
)

// maxWords bounds what is repeated of a CA's own words.
const maxWords = 300

// maxSkew is what a CA's clock may differ: WS-Security timestamps and fresh certificates bear five minutes.
const maxSkew = 5 * time.Minute

// Words makes of a CA's own words what may stand in an error: no control characters, at most 300 bytes.
func Words(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, text)
	clean = strings.Join(strings.Fields(clean), " ")
	if len(clean) <= maxWords {
		return clean
	}
	cut := maxWords - len("…")
	for !utf8.RuneStart(clean[cut]) {
		cut--
	}
	return clean[:cut] + "…"
}

// Answer is what a CA answered, its body bounded.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request and reads the answer. A redirection is an error: no credential follows it.
func Do(client *http.Client, request *http.Request) (Answer, error) {
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("asking the CA: %w", err)
	}
	defer response.Body.Close()
	body, err := ca.ReadAnswer(response.Body)
	if err != nil {
		return Answer{}, err
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		return Answer{}, fmt.Errorf("the CA answers %d and sends the connector to %q: give the final address in the settings", response.StatusCode, Words(response.Header.Get("Location")))
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: body}, nil
}

// ErrCredentials says that the CA does not take the settings' credentials, or gives them no right.
var ErrCredentials = errors.New("the CA does not accept the credentials of the settings")

// Failed says what an HTTP status means that is no success. Such an answer may pass: an admin can put it right.
func Failed(a Answer, words string) error {
	if words = Words(words); words != "" {
		words = ": " + words
	}
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (HTTP %d)%s", ErrCredentials, a.Status, words)
	case http.StatusTooManyRequests:
		return fmt.Errorf("the CA takes no more requests for now (HTTP 429)%s", words)
	}
	return fmt.Errorf("the CA answers HTTP %d%s", a.Status, words)
}

// KeyPair reads the connector's own certificate and key for TLS. certName and keyName are the fields of the options, for
// the error; both empty is nil.
func KeyPair(certName, certificate, keyName, key string) (*tls.Certificate, error) {
	if certificate == "" && key == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil { // the library's words name the mistake and never the key
		return nil, fmt.Errorf("%s and %s: a PEM certificate and its PEM key without a password belong there (%sFile, %sFile): %w", certName, keyName, certName, keyName, err)
	}
	return &pair, nil
}

// RequireHTTPS refuses a URL over which credentials and names would travel readable.
func RequireHTTPS(field, text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%s %q: it begins with https:// and has no user", field, text)
	}
	return nil
}

// OK and Wrong are findings.
func OK(check, format string, args ...any) link.CAFinding {
	return link.CAFinding{Check: check, OK: true, Detail: fmt.Sprintf(format, args...)}
}

// Wrong is a finding of something that is not as it must be.
func Wrong(check, format string, args ...any) link.CAFinding {
	return link.CAFinding{Check: check, Detail: fmt.Sprintf(format, args...)}
}

// Reached is what Reach found: what to show first, what to show last, and whether asking on makes sense.
type Reached struct {
	First []link.CAFinding
	Clock []link.CAFinding
	OK    bool
}

// Reach looks whether a URL answers, whether its certificate is trusted, and what its clock says. Any answer will do.
func Reach(ctx context.Context, client *http.Client, address string, now time.Time) Reached {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Reached{First: []link.CAFinding{Wrong("url", "the address does not parse; it looks like https://ca.corp.test/path")}}
	}
	response, err := client.Do(request)
	if err != nil {
		return Reached{First: unreached(request.URL, err)}
	}
	_ = response.Body.Close()
	found := Reached{OK: true, First: []link.CAFinding{OK("url", "%s answers", request.URL.Host)}}
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		end := response.TLS.PeerCertificates[0].NotAfter
		found.First = append(found.First, OK("certificate", "the server's certificate is trusted and ends on %s", end.Format(time.DateOnly)))
	}
	found.Clock = clock(response.Header.Get("Date"), now)
	return found
}

// unreached says in an admin's words what is in the way.
func unreached(u *url.URL, err error) []link.CAFinding {
	var dns *net.DNSError
	var untrusted *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return []link.CAFinding{Wrong("url", "the name %s is not found in DNS: correct url, or the connector's name servers", u.Hostname())}
	case errors.As(err, &untrusted):
		return []link.CAFinding{OK("url", "%s answers", u.Host),
			Wrong("certificate", "the server's certificate is not trusted: %s. tlsRootsFile names the CA that issued it", Words(untrusted.Err.Error()))}
	case errors.As(err, &op) && op.Op == "dial":
		return []link.CAFinding{Wrong("url", "no connection to %s: %s. Look at the port, the firewall and the proxy", u.Host, Words(op.Err.Error()))}
	}
	return []link.CAFinding{Wrong("url", "%s does not answer: %s", u.Host, Words(reason(err)))}
}

// reason leaves the address out, which the finding has said.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}

func clock(date string, now time.Time) []link.CAFinding {
	at, err := http.ParseTime(date)
	if err != nil {
		return nil
	}
	difference := now.Sub(at).Round(time.Second)
	if difference.Abs() > maxSkew {
		return []link.CAFinding{Wrong("clock", "the CA's clock and the connector's differ by %s: at most %s is right, set both by NTP", difference.Abs(), maxSkew)}
	}
	return []link.CAFinding{OK("clock", "the clocks differ by %s", difference.Abs())}
}

// Issuer looks whether a CA's certificate is among those that the ledger accepts.
func Issuer(s ca.Settings, certificate *x509.Certificate) link.CAFinding {
	issuers, err := s.IssuerCertificates()
	if err != nil {
		return Wrong("issuer", "%v", err)
	}
	for _, i := range issuers {
		if i.Equal(certificate) {
			return OK("issuer", "%s is among the issuers", certificate.Subject)
		}
	}
	return Wrong("issuer", "%s is not among the issuers: put its certificate and those above it into issuersFile", certificate.Subject)
}

// OwnCertificate looks at the dates of the connector's own certificate for this CA.
func OwnCertificate(check string, own *tls.Certificate, now time.Time) link.CAFinding {
	if own.Leaf == nil {
		return Wrong(check, "the connector's own certificate does not parse")
	}
	switch leaf := own.Leaf; {
	case now.Before(leaf.NotBefore):
		return Wrong(check, "the connector's own certificate %s is valid from %s only", leaf.Subject, leaf.NotBefore.Format(time.DateOnly))
	case now.After(leaf.NotAfter):
		return Wrong(check, "the connector's own certificate %s ended on %s: get a new one", leaf.Subject, leaf.NotAfter.Format(time.DateOnly))
	default:
		return OK(check, "the connector's own certificate %s ends on %s", leaf.Subject, leaf.NotAfter.Format(time.DateOnly))
	}
}

// Leaf gives the certificate for a key, DER, and the others after it: CAs send chains in any order.
func Leaf(certificates []*x509.Certificate, key crypto.PublicKey) ([][]byte, error) {
	public, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, ca.Refuse("the key is a %T, which no certificate can be for", key)
	}
	var leaf, others [][]byte
	for _, c := range certificates {
		if public.Equal(c.PublicKey) && leaf == nil {
			leaf = [][]byte{c.Raw}
		} else {
			others = append(others, c.Raw)
		}
	}
	if leaf != nil {
		return append(leaf, others...), nil
	}
	for _, c := range certificates { // the ledger refuses it, keeps it and has it revoked
		if !c.IsCA {
			return [][]byte{c.Raw}, nil
		}
	}
	return nil, errors.New("the CA answered without a certificate of an end entity")
}
