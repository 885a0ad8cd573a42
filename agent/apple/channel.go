package apple

import (
	"bytes"
	"context"
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

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Media types of the protocol.
const (
	typeCheckin = "application/x-apple-aspen-mdm-checkin"
	typeCommand = "application/x-apple-aspen-mdm; charset=UTF-8"
)

// PendingHeader is how a Waxseal server says, on the empty answer that ends a poll, how many documents still wait for
// work that comes by itself. Other servers do not send it, and real devices ignore it.
const PendingHeader = "Waxseal-Pending"

// maxAnswer bounds what a server may send; vendors limit profiles to 1 to 16 MB.
const maxAnswer = 16 << 20

// requestTimeout bounds one exchange; a SCEP server may hold an answer for 25 seconds.
const requestTimeout = 60 * time.Second

// answer is a 2xx answer of the server.
type answer struct {
	body    []byte
	pending int
}

// refusedError is an answer of the server other than 2xx.
type refusedError struct {
	status   int
	text     string
	unenroll bool
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.status, http.StatusText(e.status))
	if e.text != "" {
		text += ": " + e.text
	}
	return text
}

// session speaks for one enrolment, installed or about to be.
type session struct {
	device *Device
	mdm    enrollment
	id     identity
	client *http.Client
}

// plainClient is for downloads and SCEP: no certificate of the device. A root inside an enrolment profile counts on
// the Mac only; on iOS the user must have trusted it before.
func (d *Device) plainClient(p *profile) *http.Client {
	return d.newClient(d.serverRoots(p), nil)
}

func (d *Device) serverRoots(p *profile) *x509.CertPool {
	roots := d.root().roots
	if d.state.Platform != "macos" || p == nil {
		return roots
	}
	pool := roots
	for _, pl := range p.payloads {
		if !isPlainCertificate(pl.kind()) {
			continue
		}
		cert, err := oneCertificate(proplist.Bytes(pl.dict, "PayloadContent"))
		if err != nil {
			continue
		}
		if pool == nil {
			pool = x509.NewCertPool()
		} else {
			pool = pool.Clone()
		}
		pool.AddCert(cert)
	}
	return pool
}

func (d *Device) newClient(roots *x509.CertPool, id *identity) *http.Client {
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Time: d.now}
	if id != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{id.cert.Raw}, PrivateKey: id.key, Leaf: id.cert}, nil
		}
	}
	transport := http.RoundTripper(&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: requestTimeout, ResponseHeaderTimeout: requestTimeout, IdleConnTimeout: requestTimeout,
	})
	if d.cfg.Transport != nil {
		transport = d.cfg.Transport(transport)
	}
	return &http.Client{Transport: transport, Timeout: requestTimeout}
}

// session opens the channel of the installed enrolment.
func (d *Device) session() (*session, error) {
	if d.owner != nil {
		s, err := d.owner.session()
		if err != nil {
			return nil, err
		}
		own := *s
		own.device = d
		return &own, nil
	}
	if d.state.MDM == nil {
		return nil, d.notEnrolled()
	}
	item, there := d.keys.Payload(d.state.MDM.Profile, d.state.MDM.Identity)
	if !there || item.Key == nil {
		return nil, errors.New("the keychain has lost the identity of the MDM profile")
	}
	id := identity{cert: item.Certificate, key: item.Key}
	if d.client == nil || d.idOf != item.ID() {
		var p *profile
		if entry := d.state.profile(d.state.MDM.Profile); entry != nil {
			p = &profile{top: entry.top, payloads: payloadsOf(entry.top)}
		}
		d.client, d.idOf = d.newClient(d.serverRoots(p), &id), item.ID()
	}
	return &session{device: d, mdm: *d.state.MDM, id: id, client: d.client}, nil
}

// newSession opens the channel of an enrolment that is being installed.
func (in *installation) newSession(mdm enrollment, item keychain.Item) *session {
	id := identity{cert: item.Certificate, key: item.Key}
	d := in.device
	return &session{device: d, mdm: mdm, id: id, client: d.newClient(d.serverRoots(in.profile), &id)}
}

func (d *Device) notEnrolled() error {
	if d.state.Gone != "" {
		return fmt.Errorf("%w: %s", ErrNotEnrolled, d.state.Gone)
	}
	return ErrNotEnrolled
}

// put sends one message and reads the answer.
func (s *session) put(ctx context.Context, target, kind string, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making a message to the server: %w", err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", s.device.userAgent())
	if s.mdm.SignMessage {
		header, err := signHeader(body, s.id, s.device.cfg.Signature)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Mdm-Signature", header)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	return readAnswer(resp)
}

func (d *Device) userAgent() string {
	if d.state.Platform == "macos" {
		return "MDM-OSX/1.0 mdmclient/1600"
	}
	return "MDM/1.0"
}

func readAnswer(resp *http.Response) (*answer, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the server's answer is longer than %d bytes", maxAnswer)
	}
	if resp.StatusCode/100 == 2 {
		pending, _ := strconv.Atoi(resp.Header.Get(PendingHeader)) //nolint:errcheck // absent means none
		return &answer{body: body, pending: pending}, nil
	}
	return nil, refusal(resp, body)
}

// refusal reads what a server that says no has to say: 401 unenrols (the classic form, without a Bearer challenge),
// and so does 403 with code com.apple.unrecognized.device and a content type.
func refusal(resp *http.Response, body []byte) error {
	e := &refusedError{status: resp.StatusCode, text: strings.Trim(hint(body), " ()")}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		e.unenroll = !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer")
	case http.StatusForbidden:
		kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		e.unenroll = err == nil && kind != "" && errorCode(body) == "com.apple.unrecognized.device"
	}
	return e
}

// withoutURL takes the address out of an HTTP client's error: enrolment links are secrets.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
