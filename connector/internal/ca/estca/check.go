package estca

import (
	"context"
	"encoding/asn1"
	"errors"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca/chain"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// noRequest is an empty SEQUENCE: no CA can take it for a request, but it looks at who sends it first.
func noRequest() []byte { return []byte{0x30, 0x00} }

// Test looks at the settings as an admin would: address, certificate, for each label the CA's certificates, the credentials
// and what the CA wants in requests, clock. It asks for no certificate.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.client, strings.TrimRight(a.settings.URL, "/")+"/.well-known/est/cacerts", a.clock())
	out := reached.First
	if a.own != nil { // one that ended is why some servers end the connection
		out = append(out, web.OwnCertificate("client certificate", a.own, a.clock()))
	}
	if !reached.OK {
		return out
	}
	for _, l := range a.labels() {
		out = append(out, a.testLabel(ctx, l)...)
	}
	return append(out, reached.Clock...)
}

func (a *adapter) testLabel(ctx context.Context, label string) []link.CAFinding {
	name := "without a label"
	if label != "" {
		name = "label " + label
	}
	out := []link.CAFinding{a.testCredentials(ctx, label, name)}
	if !out[0].OK {
		return out
	}
	out = append(out, a.testCertificates(ctx, label, name))
	return append(out, a.testAttributes(ctx, label, name)...)
}

// testCredentials sends what is no request. Refused for that, it came past the credentials.
func (a *adapter) testCredentials(ctx context.Context, label, name string) link.CAFinding {
	answer, err := a.send(ctx, http.MethodPost, label, "simpleenroll", noRequest())
	switch {
	case err != nil:
		return web.Wrong("credentials", "%s: %s", name, web.Words(err.Error()))
	case answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden:
		return web.Wrong("credentials", "%s: %s", name, web.Words(web.Failed(answer, plainText(answer)).Error()))
	case isPage(answer):
		return web.Wrong("credentials", "%s: %s", name, web.Words(web.Failed(answer, pageWords).Error()))
	case answer.Status == http.StatusNotFound || answer.Status == http.StatusMethodNotAllowed:
		return web.Wrong("label", "%s: the server knows no simpleenroll there (HTTP %d): correct label, or the port in url", name, answer.Status)
	case answer.Status == http.StatusTooManyRequests || answer.Status > http.StatusInternalServerError:
		return web.Wrong("credentials", "%s: %s", name, web.Words(web.Failed(answer, plainText(answer)).Error()))
	case answer.Status < http.StatusBadRequest:
		return web.Wrong("label", "%s: the server takes what is no request (HTTP %d): it is no EST server", name, answer.Status)
	}
	return web.OK("credentials", "%s: they are accepted", name)
}

func (a *adapter) testCertificates(ctx context.Context, label, name string) link.CAFinding {
	answer, err := a.send(ctx, http.MethodGet, label, "cacerts", nil)
	if err == nil && answer.Status != http.StatusOK {
		err = web.Failed(answer, plainText(answer))
	}
	if err != nil {
		return web.Wrong("issuer", "%s: cacerts: %s", name, web.Words(err.Error()))
	}
	certs, err := parseBag(answer.Body)
	if err != nil {
		return web.Wrong("issuer", "%s: cacerts: %v", name, err)
	}
	return chain.Finding(a.settings, certs)
}

// What csrattrs may ask for that the connector's requests do not have.
const (
	oidChallenge = "1.2.840.113549.1.9.7"
	maxAttrs     = 64
)

// testAttributes reads what the CA wants in requests (RFC 7030 section 4.5.2). It is no must, and so it never fails.
func (a *adapter) testAttributes(ctx context.Context, label, name string) []link.CAFinding {
	answer, err := a.send(ctx, http.MethodGet, label, "csrattrs", nil)
	if err != nil || answer.Status != http.StatusOK || len(answer.Body) == 0 {
		return nil
	}
	oids, err := parseAttributes(answer.Body)
	if err != nil || len(oids) == 0 {
		return nil
	}
	for _, oid := range oids {
		if oid == oidChallenge {
			return []link.CAFinding{web.OK("request", "%s: the CA would like requests tied to their TLS connection (challengePassword), which the connector does not do; if the CA insists on it, it refuses", name)}
		}
	}
	return []link.CAFinding{web.OK("request", "%s: the CA would like to see %s in requests; they have what the profile says", name, web.Words(strings.Join(oids, ", ")))}
}

// parseAttributes reads CsrAttrs: OIDs alone, and attributes of which the type is looked at.
func parseAttributes(body []byte) ([]string, error) {
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	var items []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &items); err != nil || len(rest) > 0 || len(items) > maxAttrs {
		return nil, errors.New("csrattrs does not parse")
	}
	var out []string
	for _, item := range items {
		var oid asn1.ObjectIdentifier
		if item.Class == asn1.ClassUniversal && item.Tag == asn1.TagSequence {
			if _, err := asn1.Unmarshal(item.Bytes, &oid); err != nil {
				return nil, errors.New("csrattrs has an attribute without a type")
			}
		} else if _, err := asn1.Unmarshal(item.FullBytes, &oid); err != nil {
			return nil, errors.New("csrattrs has neither an OID nor an attribute")
		}
		out = append(out, oid.String())
	}
	return out, nil
}
