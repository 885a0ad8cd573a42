package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// certHeader is where the front proxy puts the device's TLS certificate.
const certHeader = "X-Client-Cert"

// exchange is one message of a PC's, and the answer.
type exchange struct {
	path             string
	header           http.Header // of the request
	request, reply   []byte
	status           int
	replyContentType string
}

// proxy is a TLS server in front of another one. It keeps what devices were told, and what PCs say and are told.
type proxy struct {
	*httptest.Server
	CA string // file with its root

	mu        sync.Mutex
	next      http.Handler
	answers   [][]byte
	exchanges []exchange
	blocked   string // paths that begin with it get no answer of the server's
}

// block lets nothing through whose path begins with prefix; empty: everything.
func (p *proxy) block(prefix string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = prefix
}

// newProxy listens at once; forward tells it where to.
func newProxy(t *testing.T, f *folder) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	p.StartTLS()
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	p.CA = f.write("proxy-ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
	return p
}

// forward makes the proxy speak to the server at target, whose root is in the file ca if it speaks TLS.
func (p *proxy) forward(t *testing.T, target, ca string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	if ca != "" {
		raw, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(raw) {
			t.Fatalf("%s is no PEM", ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	t.Cleanup(transport.CloseIdleConnections)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
			passCertificate(r)
		},
		Transport: transport, ModifyResponse: p.keep, ErrorLog: log.New(io.Discard, "", 0),
	}
}

// passCertificate does what a TLS-terminating proxy does: it says who the client is, and lets nobody else say it.
func passCertificate(r *httputil.ProxyRequest) {
	r.Out.Header.Del(certHeader)
	if r.In.TLS == nil || len(r.In.TLS.PeerCertificates) == 0 {
		return
	}
	block := &pem.Block{Type: "CERTIFICATE", Bytes: r.In.TLS.PeerCertificates[0].Raw}
	r.Out.Header.Set(certHeader, url.QueryEscape(string(pem.EncodeToMemory(block))))
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	next, blocked := p.next, p.blocked
	p.mu.Unlock()
	if next == nil || blocked != "" && strings.HasPrefix(r.URL.Path, blocked) {
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	if isPCs(r.URL.Path) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "", http.StatusBadRequest) // the PC went away
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r = r.WithContext(context.WithValue(r.Context(), requestBody{}, body))
	}
	next.ServeHTTP(w, r)
}

// requestBody is where the body of a PC's message is kept until its answer is there.
type requestBody struct{}

// isPCs tells whether a path is one of those that Windows speaks to.
func isPCs(path string) bool {
	return strings.HasPrefix(path, "/EnrollmentServer/") || strings.HasPrefix(path, "/ManagementServer/")
}

func (p *proxy) keep(resp *http.Response) error {
	pcs := isPCs(resp.Request.URL.Path)
	if resp.Request.Method != http.MethodPut && !pcs { // devices only
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	defer p.mu.Unlock()
	if pcs {
		request, _ := resp.Request.Context().Value(requestBody{}).([]byte)
		p.exchanges = append(p.exchanges, exchange{resp.Request.URL.Path, resp.Request.Header, request, body, resp.StatusCode, resp.Header.Get("Content-Type")})
		return nil
	}
	p.answers = append(p.answers, body)
	return nil
}

// told is everything that devices were told so far.
func (p *proxy) told() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([][]byte(nil), p.answers...)
}

// taken are the exchanges with PCs since the last call.
func (p *proxy) taken() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.exchanges
	p.exchanges = nil
	return out
}
