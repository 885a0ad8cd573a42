package sender

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/web"
)

// signatureHeader holds a detached CMS signature over the exact body (apple.md section 1.4, windows.md section 2.1).
const signatureHeader = "Mdm-Signature"

// maxHeader bounds what is decoded of a header; real signatures have about 2 KiB.
const maxHeader = 32 << 10

// certificate finds whose message this is. A signature counts first, then the certificate of the connection, then a
// trusted proxy's word. It proves possession of the key and nothing more.
func (s *Sender) certificate(r *http.Request, body []byte) (*x509.Certificate, error) {
	if value := r.Header.Get(signatureHeader); value != "" {
		return signer(value, body)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return r.TLS.PeerCertificates[0], nil
	}
	if value := s.proxied(r); value != "" {
		cert, err := parseCertificateHeader(value)
		if err != nil {
			return nil, &identity.Refusal{Reason: "the proxy's certificate header cannot be read: " + err.Error()}
		}
		return cert, nil
	}
	return nil, &identity.Refusal{Reason: "the message has no " + signatureHeader + " header and came without a client certificate"}
}

// proxied is the certificate header of a trusted proxy; anybody else's is not looked at.
func (s *Sender) proxied(r *http.Request) string {
	if s.cfg.ProxyHeader == "" || !web.Contains(s.cfg.TrustedProxies, web.Peer(r)) {
		return ""
	}
	return r.Header.Get(s.cfg.ProxyHeader)
}

func signer(value string, body []byte) (*x509.Certificate, error) {
	if len(value) > maxHeader {
		return nil, &identity.Refusal{Reason: "the " + signatureHeader + " header is too long"}
	}
	ber, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, &identity.Refusal{Reason: "the " + signatureHeader + " header is not base64"}
	}
	signed, err := cms.VerifyDetached(ber, body)
	if err != nil {
		return nil, &identity.Refusal{Reason: "the " + signatureHeader + " header does not verify: " + err.Error()}
	}
	return signed.Signer, nil
}

// parseCertificateHeader reads the two forms in which proxies hand on a client certificate: RFC 9440, which is base64 of
// the DER between colons, and a PEM block that is escaped for URLs ($ssl_client_escaped_cert of nginx).
func parseCertificateHeader(value string) (*x509.Certificate, error) {
	if len(value) > maxHeader {
		return nil, errors.New("it is too long")
	}
	if inner, ok := strings.CutPrefix(value, ":"); ok {
		inner, ok = strings.CutSuffix(inner, ":")
		if !ok {
			return nil, errors.New("it begins with a colon and does not end with one")
		}
		der, err := base64.StdEncoding.DecodeString(inner)
		if err != nil {
			return nil, errors.New("there is no base64 between the colons")
		}
		return x509.ParseCertificate(der)
	}
	// A plus sign is base64 here and never a space.
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, errors.New("it is neither between colons nor escaped for URLs")
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("it is not one PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
