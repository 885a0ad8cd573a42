package windows

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/agent/scep"
)

const (
	// maxSCEPAnswer bounds what a SCEP server may send.
	maxSCEPAnswer = 256 << 10
	// userAgentSCEP is what a PC calls itself to a SCEP server (windows.md section 3.2).
	userAgentSCEP = "Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/sv_svc)"
)

// scepClient asks a SCEP server over HTTP.
type scepClient struct {
	http        *http.Client
	base        string // with /pkiclient.exe
	post        bool   // the server takes POST
	authorities []*x509.Certificate
}

// learn asks what the server can do and who it is. The message is always "default".
func (c *scepClient) learn(ctx context.Context, hashes, thumbprint string) error {
	body, _, err := c.get(ctx, "GetCACaps", "default")
	if err != nil {
		return err
	}
	can := map[string]bool{}
	for word := range strings.FieldsSeq(string(body)) {
		can[strings.ToLower(word)] = true
	}
	standard := can["scepstandard"] // RFC 8894 section 3.5.2: implies AES, SHA-256 and POST
	if !standard && !can["sha-256"] && !can["sha-512"] && strings.Contains(hashes, "SHA-2") {
		return failed(hrNoCapability, "the SCEP server's capabilities do not name SHA-256, which HashAlgorithm wants")
	}
	c.post = standard || can["postpkioperation"]
	body, kind, err := c.get(ctx, "GetCACert", "default")
	if err != nil {
		return err
	}
	if c.authorities, err = scep.Authorities(body, kind); err != nil {
		return failed(hrBadAnswer, "%w", err)
	}
	return c.trusted(thumbprint)
}

// trusted looks for the CA that CAThumbprint names among those of the server. Source: "ClientCertificateInstall CSP".
func (c *scepClient) trusted(print string) error {
	for _, cert := range c.authorities {
		if strings.EqualFold(thumbprint(cert), print) {
			return nil
		}
	}
	return failed(hrNotOurCA, "no certificate of the SCEP server has the CAThumbprint")
}

// round sends one message and takes the certificate out of the answer.
func (c *scepClient) round(ctx context.Context, exchange *scep.Exchange, write func() (*scep.Message, error)) (*x509.Certificate, error) {
	message, err := write()
	if err != nil {
		return nil, failed(hrBadAnswer, "making the SCEP message: %w", err)
	}
	answer, err := c.operate(ctx, message.DER)
	if err != nil {
		return nil, err
	}
	reply, err := exchange.Read(answer, message, c.authorities)
	switch {
	case err != nil:
		return nil, failed(hrBadAnswer, "the SCEP server's answer: %w", err)
	case reply.Status == scep.Pending:
		return nil, errPending
	}
	cert, err := exchange.Accept(reply)
	switch {
	case errors.Is(err, scep.ErrOtherKey):
		return nil, failed(hrOtherKey, "%w", err)
	case err != nil:
		return nil, failed(hrRefused, "%w", err)
	}
	return cert, nil
}

// operate sends a PKIOperation, by POST where the server takes it.
func (c *scepClient) operate(ctx context.Context, message []byte) ([]byte, error) {
	if !c.post {
		body, _, err := c.get(ctx, "PKIOperation", base64.StdEncoding.EncodeToString(message))
		return body, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"?operation=PKIOperation", bytes.NewReader(message))
	if err != nil {
		return nil, failed(hrUnreachable, "ServerURL is malformed")
	}
	req.Header.Set("Content-Type", "application/x-pki-message")
	body, _, err := c.do(req, "PKIOperation")
	return body, err
}

func (c *scepClient) get(ctx context.Context, operation, message string) ([]byte, string, error) {
	query := url.Values{"operation": {operation}, "message": {message}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"?"+query.Encode(), nil)
	if err != nil {
		return nil, "", failed(hrUnreachable, "ServerURL is malformed")
	}
	return c.do(req, operation)
}

func (c *scepClient) do(req *http.Request, operation string) ([]byte, string, error) {
	req.Header.Set("User-Agent", userAgentSCEP)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", failed(unreachable(err), "the SCEP server cannot be reached for %s: %w", operation, withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSCEPAnswer+1))
	switch {
	case err != nil:
		return nil, "", failed(unreachable(err), "reading the SCEP server's answer to %s: %w", operation, withoutURL(err))
	case resp.StatusCode != http.StatusOK:
		return nil, "", failed(hrHTTP|uint32(resp.StatusCode), "the SCEP server answers %s to %s", resp.Status, operation)
	case len(body) > maxSCEPAnswer:
		return nil, "", failed(hrBadAnswer, "the SCEP server's answer to %s is longer than %d bytes", operation, maxSCEPAnswer)
	}
	return body, resp.Header.Get("Content-Type"), nil
}

// unreachable is how Windows numbers a failed connection.
func unreachable(err error) uint32 {
	var tlsError *tls.CertificateVerificationError
	var slow net.Error
	switch {
	case errors.As(err, &tlsError):
		return hrTLS
	case errors.As(err, &slow) && slow.Timeout():
		return hrTimeout
	}
	return hrUnreachable
}
