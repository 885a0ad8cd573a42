package android

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// requestTimeout bounds one exchange; a long poll takes up to longPoll of it.
const requestTimeout = longPoll + 30*time.Second

// tries is how often a request is sent that gets no answer. Everything in the protocol may be repeated.
const tries = 3

// answer is what a server said.
type answer struct {
	status int
	body   []byte
}

// refusal is the error of an answer that is no success.
type refusal struct {
	status  int
	problem companion.Problem
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the server answers %d %s", r.status, http.StatusText(r.status))
	if r.problem.Code != "" {
		text += " (" + r.problem.Code + ")"
	}
	if r.problem.Detail != "" && len(r.problem.Detail) <= 500 {
		text += ": " + r.problem.Detail
	}
	return text
}

// codeOf is the code of a refusal; empty for any other error.
func codeOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.problem.Code
	}
	return ""
}

// over reports whether a refusal says that the enrolment has ended.
func over(err error) bool { return codeOf(err) == companion.CodeEnded }

// stranger reports whether the server does not know the credential. That is no word about the enrolment: a server that was
// put back from a backup says so, too, and nobody shall lose keys by it.
func stranger(err error) bool { return codeOf(err) == companion.CodeCredentialInvalid }

// unreachable reports whether a server gave no answer, or is not able to.
func unreachable(err error) bool {
	var r *refusal
	return !errors.As(err, &r) || r.status >= 500 || r.status == http.StatusTooManyRequests
}

// newClient makes a client without redirects. CAs that a user trusts mean nothing to an app that does not opt in
// (android.md CA-2), so those that the server brought do not count.
func (d *Device) newClient() *http.Client {
	if d.client != nil {
		return d.client
	}
	transport := http.RoundTripper(&http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: requestTimeout, TLSHandshakeTimeout: 30 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: d.roots, MinVersion: tls.VersionTLS12, Time: d.now},
	})
	if d.cfg.Transport != nil {
		transport = d.cfg.Transport(transport)
	}
	d.client = &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return d.client
}

func (d *Device) dropClient() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	d.client = nil
}

// call sends a request to the server of the enrolment and reads a successful answer, 304 among them.
func (d *Device) call(ctx context.Context, method, path string, message any) (*answer, error) {
	e := d.state.App.Enrolment
	return d.exchange(ctx, request{method: method, url: e.Server + path, credential: e.Credential, message: message})
}

type request struct {
	method, url, credential string
	message                 any
}

// exchange sends a request until there is an answer. Chaos sends it twice, or loses an answer.
func (d *Device) exchange(ctx context.Context, r request) (*answer, error) {
	body, err := encode(r.message)
	if err != nil {
		return nil, err
	}
	d.state.Requests++
	odd := d.state.Requests%2 == 1 && r.method != http.MethodGet
	if odd && d.chaotic(ChaosDuplicate) {
		if _, err := d.send(ctx, r, body); err != nil && ctx.Err() == nil {
			d.cfg.Log.Debug("the first of two equal requests failed", "reason", err)
		}
	}
	for try := 1; ; try++ {
		a, err := d.send(ctx, r, body)
		if err == nil && odd && try == 1 && d.chaotic(ChaosLost) {
			continue
		}
		if err != nil && ctx.Err() == nil && try < tries {
			continue
		}
		if err != nil {
			return nil, err
		}
		return a, a.refused()
	}
}

// encode writes a message, which must be one that a server would take.
func encode(message any) ([]byte, error) {
	if message == nil {
		return nil, nil
	}
	if m, ok := message.(interface{ Check() error }); ok {
		if err := m.Check(); err != nil {
			return nil, fmt.Errorf("writing a message: %w", err)
		}
	}
	out, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("writing a message: %w", err)
	}
	return out, nil
}

func (d *Device) send(ctx context.Context, r request, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address of the server is malformed")
	}
	req.Header.Set("User-Agent", "WaxsealCompanion/"+appVersion)
	if body != nil {
		req.Header.Set("Content-Type", companion.TypeMessage)
	}
	if r.credential != "" {
		req.Header.Set("Authorization", "Bearer "+r.credential)
	}
	resp, err := d.newClient().Do(req)
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	raw, err := io.ReadAll(io.LimitReader(resp.Body, companion.MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", withoutURL(err))
	}
	return &answer{status: resp.StatusCode, body: raw}, nil
}

// refused is the error of an answer that is no success.
func (a *answer) refused() error {
	if a.status/100 == 2 || a.status == http.StatusNotModified {
		return nil
	}
	r := &refusal{status: a.status}
	if p, err := companion.DecodeProblem(a.body); err == nil {
		r.problem = p
	}
	return r
}

// withoutURL takes the address out of an HTTP client's error: enrolment links are secrets.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// link is an enrolment link: the server and the one-time token.
type link struct{ server, token string }

// readLink reads https://host/enroll/TOKEN. Its errors do not repeat the link, which is a secret.
func readLink(text string) (link, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return link{}, errors.New("an Android device enrols with a link such as https://mdm.example.com/enroll/TOKEN")
	}
	at := strings.LastIndex(u.Path, "/")
	if at < 1 || at == len(u.Path)-1 {
		return link{}, errors.New("the enrolment link has no token at its end; it should be such as https://mdm.example.com/enroll/TOKEN")
	}
	return link{server: "https://" + u.Host, token: u.Path[at+1:]}, nil
}
