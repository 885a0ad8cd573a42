package leak

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// maxBody is more than any body of the story; a longer one fails the test instead of escaping the search.
const maxBody = 32 << 20

// record is one message in one direction: header and body.
type record struct {
	method, path, direction string
	header, body            []byte
}

func (r record) String() string { return fmt.Sprintf("%s %s, %s", r.method, r.path, r.direction) }

// recorder is a TLS proxy in front of the server, which has its address as --public-url: devices, connectors and waxctl speak
// through it. It keeps everything that passes.
type recorder struct {
	*httptest.Server
	CA string // file with the proxy's own root

	mu      sync.Mutex
	server  http.Handler // the way to the server, once it is known
	records []record
	faults  []error
	// alter may change an answer; nil changes nothing.
	alter func(r *http.Request, status int, body []byte) (int, []byte)
}

func newRecorder(t testing.TB, dir string) *recorder {
	t.Helper()
	p := &recorder{CA: filepath.Join(dir, "proxy-ca.pem")}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.request))
	p.Server.EnableHTTP2 = true
	p.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.Server.StartTLS()
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.CA, root, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// forward makes the proxy speak to the server at target.
func (p *recorder) forward(t testing.TB, target string, ca []byte) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the server's CA is no PEM")
	}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.Out.Host = r.In.Host },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			DisableCompression: true},
		ModifyResponse: p.answer,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	t.Cleanup(reverse.Transport.(*http.Transport).CloseIdleConnections)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = reverse
}

func (p *recorder) request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		http.Error(w, "", http.StatusBadRequest) // the client went away
		return
	}
	p.keep(r, "request", r.Header, body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	if server == nil {
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	server.ServeHTTP(w, r)
}

func (p *recorder) answer(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	_ = resp.Body.Close()
	if err != nil {
		return err // the client went away, or the server was stopped
	}
	p.keep(resp.Request, "answer "+resp.Status, resp.Header, body)
	p.mu.Lock()
	alter := p.alter
	p.mu.Unlock()
	if alter != nil {
		if resp.StatusCode, body = alter(resp.Request, resp.StatusCode, body); resp.StatusCode == http.StatusNotFound {
			resp.Header.Set("Content-Type", "application/problem+json")
		}
		resp.Header.Set("Content-Length", strconv.Itoa(len(body))) // Windows takes no answer without
		resp.ContentLength = int64(len(body))
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func (p *recorder) keep(r *http.Request, direction string, header http.Header, body []byte) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s\n", r.Method, r.URL.RequestURI())
	_ = header.Write(&text)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(body) > maxBody {
		p.faults = append(p.faults, fmt.Errorf("%s %s, %s: the body is longer than %d bytes and was not searched whole", r.Method, r.URL.Path, direction, maxBody))
	}
	p.records = append(p.records, record{r.Method, r.URL.Path, direction, text.Bytes(), body})
}

// taken are the records so far.
func (p *recorder) taken(t testing.TB) []record {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.faults {
		t.Error(err)
	}
	return append([]record(nil), p.records...)
}

func (p *recorder) setAlter(alter func(r *http.Request, status int, body []byte) (int, []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alter = alter
}

// count counts the records of a kind: a search in traffic that never flowed proves nothing.
func count(records []record, method, path, direction string, contains string) (n int) {
	for _, r := range records {
		if r.method == method && strings.HasPrefix(r.path, path) && strings.HasPrefix(r.direction, direction) && bytes.Contains(r.body, []byte(contains)) {
			n++
		}
	}
	return n
}
