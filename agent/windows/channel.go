package windows

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// PendingHeader is how a Waxseal server says how many documents still wait for work that comes by itself. Other
// servers do not send it, and real PCs ignore it.
const PendingHeader = "Waxseal-Pending"

// What a PC calls itself.
const (
	userAgentEnroll = "ENROLLClient"
	userAgentManage = "MSFT OMA DM Client/1.2.0.1"
)

// maxAnswer bounds what a server may send.
const maxAnswer = 4 << 20

// requestTimeout bounds one exchange; an enrolment service may hold an answer for 25 seconds.
const requestTimeout = 60 * time.Second

// answer is what a server said.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	pending int
}

func (a *answer) mediaType() string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")) //nolint:errcheck // a malformed type is as good as none
	return kind
}

// refusal is the error of an answer other than 200.
func (a *answer) refusal() error {
	text := fmt.Sprintf("the server answers %d %s", a.status, http.StatusText(a.status))
	if strings.HasPrefix(a.mediaType(), "text/plain") {
		if line, _, _ := strings.Cut(strings.TrimSpace(string(a.body)), "\n"); line != "" && len(line) <= 200 {
			text += ": " + line
		}
	}
	return errors.New(text)
}

// identity is the certificate and key by which the PC speaks to its server.
type identity struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// newClient makes a client without HTTP/2, which would hide whether an answer is chunked, and without redirects.
func (d *Device) newClient(id *identity) *http.Client {
	config := &tls.Config{RootCAs: d.trust(), MinVersion: tls.VersionTLS12, Time: d.now}
	if id != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{id.cert.Raw}, PrivateKey: id.key, Leaf: id.cert}, nil
		}
	}
	transport := http.RoundTripper(&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableCompression: true, ExpectContinueTimeout: time.Second,
		TLSHandshakeTimeout: requestTimeout, ResponseHeaderTimeout: requestTimeout, IdleConnTimeout: requestTimeout,
	})
	if d.cfg.Transport != nil {
		transport = d.cfg.Transport(transport)
	}
	return &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a message and reads the answer.
func (d *Device) post(ctx context.Context, client *http.Client, target, kind string, body []byte, header http.Header) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address of the server is malformed")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", kind)
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", withoutURL(err))
	}
	return readAnswer(resp)
}

// readAnswer reads an answer by the rule that Windows holds every server to: a Content-Length, and never chunked
// (windows.md section 0).
func readAnswer(resp *http.Response) (*answer, error) {
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	if len(resp.TransferEncoding) > 0 || resp.ContentLength < 0 {
		return nil, errors.New("the server's answer is chunked or has no Content-Length; Windows takes neither")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the server's answer is longer than %d bytes", maxAnswer)
	}
	pending, _ := strconv.Atoi(resp.Header.Get(PendingHeader)) //nolint:errcheck // absent means none
	return &answer{status: resp.StatusCode, header: resp.Header, body: body, pending: pending}, nil
}

// withoutURL takes the address out of an HTTP client's error: enrolment links are secrets.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// httpsURL checks an address that a server gave.
func httpsURL(name, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s must be an https URL", name)
	}
	return u, nil
}
