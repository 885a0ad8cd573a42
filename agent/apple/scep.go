package apple

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/agent/scep"
)

// maxSCEPAnswer bounds what a SCEP server may send.
const maxSCEPAnswer = 256 << 10

// scep enrols for the certificate of a SCEP payload (RFC 8894) and adds the identity to the keychain.
func (in *installation) scep(ctx context.Context, p payload) error {
	r, err := readSCEP(p)
	if err != nil {
		return err
	}
	client := &scepClient{request: r, http: in.device.plainClient(in.profile), clock: in.device.cfg.Clock}
	if err := client.learn(ctx); err != nil {
		return err
	}
	key, err := in.device.cfg.NewKey(r.keySize)
	if err != nil {
		return fail(domainSCEP, 22001, "cannot make a key of %d bits: %v", r.keySize, err)
	}
	cert, err := client.enrol(ctx, key)
	if err != nil {
		return err
	}
	if err := in.add(keychain.Item{Certificate: cert, Key: key}, p); err != nil {
		return fail(domainSCEP, 22008, "cannot store the identity: %v", err)
	}
	return in.addChain(cert, client.authorities, p)
}

func (in *installation) addChain(leaf *x509.Certificate, certs []*x509.Certificate, p payload) error {
	for _, cert := range chainOf(leaf, certs) {
		if err := in.add(keychain.Item{Certificate: cert}, p); err != nil {
			return err
		}
	}
	return nil
}

type scepClient struct {
	request     *scepRequest
	http        *http.Client
	clock       Clock
	post        bool // the server takes POST
	authorities []*x509.Certificate
}

// learn asks what the server can do and who it is.
func (c *scepClient) learn(ctx context.Context) error {
	caps, _, err := c.get(ctx, "GetCACaps", c.request.name)
	if err != nil {
		return err
	}
	words := map[string]bool{}
	for _, word := range strings.Fields(string(caps)) {
		words[strings.ToLower(word)] = true
	}
	standard := words["scepstandard"] // RFC 8894 3.5.2: implies AES, SHA-256 and POST
	if !standard && !words["sha-1"] && !words["sha-256"] && !words["sha-512"] {
		return fail(domainSCEP, 22006, "the SCEP server's capabilities name neither SHA-1, SHA-256 nor SHA-512")
	}
	c.post = standard || words["postpkioperation"]
	body, kind, err := c.get(ctx, "GetCACert", c.request.name)
	if err != nil {
		return err
	}
	return c.takeAuthorities(body, kind)
}

// takeAuthorities reads one certificate or a bag of them, and compares the fingerprint if the profile has one.
func (c *scepClient) takeAuthorities(body []byte, kind string) error {
	var err error
	if c.authorities, err = scep.Authorities(body, kind); err != nil {
		return fail(domainSCEP, 22002, "%v", err)
	}
	if c.request.fingerprint == nil {
		return nil
	}
	for _, cert := range c.authorities {
		if bytes.Equal(digestLike(c.request.fingerprint, cert.Raw), c.request.fingerprint) {
			return nil
		}
	}
	return fail(domainSCEP, 22002, "no certificate of the SCEP server has the CAFingerprint of the profile")
}

// digestLike hashes with the algorithm that gives a digest of the same length.
func digestLike(digest, data []byte) []byte {
	switch len(digest) {
	case sha1.Size:
		sum := sha1.Sum(data)
		return sum[:]
	case sha256.Size224:
		sum := sha256.Sum224(data)
		return sum[:]
	case sha512.Size384:
		sum := sha512.Sum384(data)
		return sum[:]
	case sha512.Size:
		sum := sha512.Sum512(data)
		return sum[:]
	}
	sum := sha256.Sum256(data)
	return sum[:]
}

// enrol sends the request and asks again while the server says PENDING: the first retry at once, the others after
// RetryDelay.
func (c *scepClient) enrol(ctx context.Context, key *rsa.PrivateKey) (*x509.Certificate, error) {
	exchange, csr, err := c.prepare(key)
	if err != nil {
		return nil, err
	}
	reply, err := c.round(ctx, exchange, func() (*scep.Message, error) { return exchange.Request(csr) })
	for try := 0; err == nil && reply.Status == scep.Pending; try++ {
		if try >= c.request.retries {
			return nil, fail(domainSCEP, 22013, "the SCEP server still says PENDING after %d retries", try)
		}
		if err := c.pause(ctx, try); err != nil {
			return nil, err
		}
		reply, err = c.round(ctx, exchange, exchange.Poll)
	}
	if err != nil {
		return nil, err
	}
	cert, err := exchange.Accept(reply)
	switch {
	case errors.Is(err, scep.ErrOtherKey):
		return nil, fail(domainSCEP, 22007, "%v", err)
	case err != nil:
		return nil, fail(domainSCEP, 22013, "%v", err)
	}
	return cert, nil
}

// prepare makes the request, and the certificate that signs it.
func (c *scepClient) prepare(key *rsa.PrivateKey) (*scep.Exchange, []byte, error) {
	csr, err := c.request.csr(key)
	if err != nil {
		return nil, nil, fail(domainSCEP, 22004, "cannot make the certificate request: %v", err)
	}
	subject := c.request.subject
	if len(subject) == 0 {
		subject = pkix.Name{CommonName: "SCEP request"}.ToRDNSequence()
	}
	name, err := asn1.Marshal(subject)
	if err != nil {
		return nil, nil, fail(domainSCEP, 22001, "cannot sign the certificate request: %v", err)
	}
	signer, err := scep.SelfSigned(name, key, c.clock.Now())
	if err != nil {
		return nil, nil, fail(domainSCEP, 22001, "cannot sign the certificate request: %v", err)
	}
	recipient := scep.Recipient(c.authorities)
	if recipient == nil {
		return nil, nil, fail(domainSCEP, 22002, "the SCEP server has no RSA certificate to encrypt to")
	}
	return scep.NewExchange(key, signer, recipient), csr, nil
}

// round sends one message and reads the answer.
func (c *scepClient) round(ctx context.Context, exchange *scep.Exchange, write func() (*scep.Message, error)) (*scep.Reply, error) {
	message, err := write()
	if err != nil {
		return nil, fail(domainSCEP, 22004, "making the SCEP message: %v", err)
	}
	answer, err := c.operate(ctx, message.DER)
	if err != nil {
		return nil, err
	}
	reply, err := exchange.Read(answer, message, c.authorities)
	if err != nil {
		return nil, fail(domainSCEP, 22013, "the SCEP server's answer: %v", err)
	}
	return reply, nil
}

func (c *scepClient) pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	if err := c.clock.Sleep(ctx, time.Duration(c.request.delay)*time.Second); err != nil {
		return fail(domainSCEP, 22005, "waiting for the SCEP server: %v", err)
	}
	return nil
}

// get asks with an operation and a message in the query.
func (c *scepClient) get(ctx context.Context, operation, message string) ([]byte, string, error) {
	target, err := c.target(operation, message)
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, "", fail(domainSCEP, 22005, "asking the SCEP server: %v", err)
	}
	return c.do(req, operation)
}

func (c *scepClient) target(operation, message string) (string, error) {
	u, err := url.Parse(c.request.url)
	if err != nil {
		return "", fail(domainSCEP, 22005, "the SCEP URL is malformed")
	}
	q := u.Query()
	q.Set("operation", operation)
	if message != "" {
		q.Set("message", message)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// operate sends a PKIOperation, by POST where the server takes it.
func (c *scepClient) operate(ctx context.Context, message []byte) ([]byte, error) {
	if !c.post {
		body, _, err := c.get(ctx, "PKIOperation", base64.StdEncoding.EncodeToString(message))
		return body, err
	}
	target, err := c.target("PKIOperation", "")
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(message))
	if err != nil {
		return nil, fail(domainSCEP, 22005, "asking the SCEP server: %v", err)
	}
	req.Header.Set("Content-Type", "application/x-pki-message")
	body, _, err := c.do(req, "PKIOperation")
	return body, err
}

func (c *scepClient) do(req *http.Request, operation string) ([]byte, string, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", fail(domainSCEP, 22005, "the SCEP server cannot be reached for %s: %v", operation, withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSCEPAnswer+1))
	switch {
	case err != nil:
		return nil, "", fail(domainSCEP, 22005, "reading the SCEP server's answer to %s: %v", operation, err)
	case resp.StatusCode != http.StatusOK:
		return nil, "", fail(domainSCEP, scepHTTPCode(operation), "the SCEP server answers %s to %s%s", resp.Status, operation, hint(body))
	case len(body) > maxSCEPAnswer:
		return nil, "", fail(domainSCEP, 22013, "the SCEP server's answer to %s is longer than %d bytes", operation, maxSCEPAnswer)
	}
	return body, resp.Header.Get("Content-Type"), nil
}

func scepHTTPCode(operation string) int {
	switch operation {
	case "GetCACert":
		return 22002
	case "PKIOperation":
		return 22013
	}
	return 22005
}

// hint quotes a short, printable answer, which often says what is wrong.
func hint(body []byte) string {
	text := strings.TrimSpace(string(body))
	if text == "" || len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == '\uFFFD' }) {
		return ""
	}
	return fmt.Sprintf(" (%s)", strings.ReplaceAll(text, "\n", " "))
}
