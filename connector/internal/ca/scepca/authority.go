package scepca

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca/chain"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/cms"
)

// authority is what the CA says of itself, looked at.
type authority struct {
	capabilities
	// certificates are all that GetCACert gave; signers those that may sign answers, recipient is who may read requests.
	certificates, signers []*x509.Certificate
	recipient             *x509.Certificate
}

// capabilities are the words of GetCACaps (RFC 8894 section 3.5.2) that make a difference here.
type capabilities struct{ post, aes, sha256 bool }

// maxCapabilities bounds the lines that are looked at.
const maxCapabilities = 64

// parseCapabilities knows that SCEPStandard stands for AES, POSTPKIOperation and SHA-256. Anything else is passed over, and
// so is a page of a server that does not know the question.
func parseCapabilities(body []byte) capabilities {
	var c capabilities
	lines := bufio.NewScanner(bytes.NewReader(body))
	for n := 0; n < maxCapabilities && lines.Scan(); n++ {
		word := strings.ToLower(strings.TrimSpace(lines.Text()))
		standard := word == "scepstandard"
		c.post = c.post || standard || word == "postpkioperation"
		c.aes = c.aes || standard || word == "aes"
		c.sha256 = c.sha256 || standard || word == "sha-256" || word == "sha-512"
	}
	return c
}

// cipher is AES wherever the CA reads it.
func (a *adapter) cipher(c capabilities) (cms.Cipher, error) {
	switch {
	case c.aes:
		return cms.AES128CBC, nil
	case a.options.Allow3DES:
		return cms.TripleDESCBC, nil
	}
	return 0, errors.New("the CA announces no AES (GetCACaps): bring it up to date, or set allow3DES, which is needed for NDES")
}

// authority asks for the capabilities and the certificates, every time: a CA may change both.
func (a *adapter) authority(ctx context.Context) (authority, error) {
	c, err := a.getCapabilities(ctx)
	if err != nil {
		return authority{}, err
	}
	certs, err := a.getCertificates(ctx)
	if err != nil {
		return authority{}, err
	}
	au := authority{capabilities: c, certificates: certs}
	return au, a.choose(&au)
}

// getCapabilities takes the answer of a server that does not know the question for none (RFC 8894 section 3.5.2).
func (a *adapter) getCapabilities(ctx context.Context) (capabilities, error) {
	answer, err := a.get(ctx, "GetCACaps", a.options.CAIdentifier)
	if err != nil {
		return capabilities{}, err
	}
	switch answer.Status {
	case http.StatusOK:
		return parseCapabilities(answer.Body), nil
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusInternalServerError, http.StatusNotImplemented:
		return capabilities{}, nil
	}
	return capabilities{}, web.Failed(answer, "")
}

func (a *adapter) getCertificates(ctx context.Context) ([]*x509.Certificate, error) {
	answer, err := a.get(ctx, "GetCACert", a.options.CAIdentifier)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("GetCACert: %w", web.Failed(answer, ""))
	}
	certs, err := chain.Parse(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("GetCACert: %w", err)
	}
	return certs, nil
}

// choose finds whom to encrypt to and whom to believe: an RA that can decrypt, else the CA itself (RFC 8894 section 2.2).
// Where there is an RA that is not believed, the CA could not open the request anyway.
func (a *adapter) choose(au *authority) error {
	if a.pin != "" && !slices.ContainsFunc(au.certificates, a.pinned) {
		return fmt.Errorf("no certificate of GetCACert has the fingerprint of caFingerprint; it gave %s", a.list(au.certificates))
	}
	var whyNot []string
	for _, c := range au.certificates {
		if why := a.distrust(c, au.certificates); why != "" {
			whyNot = append(whyNot, why)
		} else {
			au.signers = append(au.signers, c)
		}
	}
	from := registration(au.signers)
	if !slices.ContainsFunc(registration(au.certificates), mayDecrypt) {
		from = chain.Issuing(au.signers)
	}
	if i := slices.IndexFunc(from, mayDecrypt); i >= 0 {
		au.recipient = from[i]
		return nil
	}
	if len(whyNot) == 0 {
		whyNot = []string{"none has an RSA key that may decrypt"}
	}
	return fmt.Errorf("of the certificates that GetCACert gave, requests can be encrypted to none: %s", web.Words(strings.Join(whyNot, "; ")))
}

func registration(certs []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return c.IsCA })
}

// mayDecrypt is lenient with CAs, whose certificates rarely say so.
func mayDecrypt(c *x509.Certificate) bool {
	_, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && (c.IsCA || c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageKeyEncipherment != 0)
}

// distrust says why a certificate of GetCACert is neither the CA's nor that of its RA; empty: it is. Whoever is between the
// connector and a plain http address could show the certificate of just anybody whom the CA knows, and read the challenge.
func (a *adapter) distrust(c *x509.Certificate, all []*x509.Certificate) string {
	if a.clock().After(c.NotAfter) {
		return fmt.Sprintf("%s ended on %s", c.Subject, c.NotAfter.Format(time.DateOnly))
	}
	if a.pinned(c) || slices.ContainsFunc(a.issuers, c.Equal) {
		return ""
	}
	if c.IsCA {
		return fmt.Sprintf("%s is a CA that is neither in issuersFile nor pinned by caFingerprint", c.Subject)
	}
	issued := func(i *x509.Certificate) bool { return c.CheckSignatureFrom(i) == nil }
	if !slices.ContainsFunc(a.issuers, issued) && !slices.ContainsFunc(all, func(i *x509.Certificate) bool { return a.pinned(i) && issued(i) }) {
		return fmt.Sprintf("%s was issued by no CA of issuersFile", c.Subject)
	}
	if !strings.HasPrefix(a.settings.URL, "https:") && !saysRegistration(c) {
		return fmt.Sprintf("%s does not say that it is an RA's: use https, or pin it by caFingerprint", c.Subject)
	}
	return ""
}

// saysRegistration knows the extended key usages of RAs: Microsoft's Certificate Request Agent and id-kp-cmcRA (RFC 6402).
func saysRegistration(c *x509.Certificate) bool {
	for _, use := range c.UnknownExtKeyUsage {
		if s := use.String(); s == "1.3.6.1.4.1.311.20.2.1" || s == "1.3.6.1.5.5.7.3.28" {
			return true
		}
	}
	return false
}

func (a *adapter) pinned(c *x509.Certificate) bool { return a.pin != "" && a.pin == sum(c) }

func sum(c *x509.Certificate) string {
	s := sha256.Sum256(c.Raw)
	return hex.EncodeToString(s[:])
}

func (a *adapter) list(certs []*x509.Certificate) string {
	var out []string
	for _, c := range certs[:min(len(certs), 3)] {
		out = append(out, fmt.Sprintf("%s of %s", sum(c), c.Subject.CommonName))
	}
	return web.Words(strings.Join(out, ", "))
}

// get asks by GET. An empty message is left out.
func (a *adapter) get(ctx context.Context, operation, message string) (web.Answer, error) {
	return a.send(ctx, http.MethodGet, operation, message, nil)
}

// operate sends a message: by POST where the CA knows it, else within the address (RFC 8894 section 4.1).
func (a *adapter) operate(ctx context.Context, c capabilities, der []byte) (web.Answer, error) {
	if c.post {
		return a.send(ctx, http.MethodPost, "PKIOperation", "", der)
	}
	return a.send(ctx, http.MethodGet, "PKIOperation", base64.StdEncoding.EncodeToString(der), nil)
}

func (a *adapter) send(ctx context.Context, method, operation, message string, body []byte) (web.Answer, error) {
	query := "?operation=" + operation
	if message != "" {
		query += "&message=" + url.QueryEscape(message)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.settings.URL+query, bytes.NewReader(body))
	if err != nil {
		return web.Answer{}, fmt.Errorf("the address %q: %w", a.settings.URL, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/x-pki-message")
	}
	answer, err := web.Do(a.client, request)
	var failed *url.Error
	if errors.As(err, &failed) { // its words would repeat the address, and with it the message
		err = fmt.Errorf("asking the CA (%s): %w", operation, failed.Err)
	}
	return answer, err
}
