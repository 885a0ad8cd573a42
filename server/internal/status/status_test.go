package status

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/model"
)

// memory is a store.
type memory struct {
	files   map[string]model.CAFile
	answers map[string]model.CAAnswer // by CA and serial number
	fail    error
}

func (m *memory) CAFile(_ context.Context, name string) (model.CAFile, error) {
	f, ok := m.files[name]
	if !ok && m.fail == nil {
		return f, model.ErrNotFound
	}
	return f, m.fail
}

func (m *memory) CAAnswer(_ context.Context, ca, serial string) (model.CAAnswer, error) {
	a, ok := m.answers[ca+" "+serial]
	if !ok && m.fail == nil {
		return a, model.ErrNotFound
	}
	return a, m.fail
}

// bench has a CA, a certificate with its answers, and the handler.
type bench struct {
	store   *memory
	handler *Handler
	ca      *testpki.CA
	leaf    *x509.Certificate
	now     time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{ca: testpki.NewCA(t, "Mail CA"), now: testpki.Now()}
	b.leaf = b.ca.Issue(t, testpki.Options{CN: "Alice"}).Cert
	answer := model.CAAnswer{CA: "softca", Serial: b.leaf.SerialNumber.Text(16), ThisUpdate: b.now, NextUpdate: b.now.Add(4 * 24 * time.Hour)}
	sign := func(hash crypto.Hash) []byte {
		der, err := ocsp.CreateResponse(b.ca.Cert, b.ca.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: b.leaf.SerialNumber,
			ThisUpdate: answer.ThisUpdate, NextUpdate: answer.NextUpdate, IssuerHash: hash}, b.ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	answer.SHA1, answer.SHA256 = sign(crypto.SHA1), sign(crypto.SHA256)
	b.store = &memory{answers: map[string]model.CAAnswer{"softca " + answer.Serial: answer},
		files: map[string]model.CAFile{"crl/softca.crl": {Content: []byte("list"), UpdatedAt: b.now}, "aia/softca.cer": {Content: b.ca.Cert.Raw}}}
	b.handler = New(Config{Store: b.store, BasePath: "/lists", Clock: func() time.Time { return b.now }})
	return b
}

func (b *bench) request(t testing.TB, cert, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (b *bench) do(method, path string, body []byte) *http.Response {
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w.Result()
}

func content(t testing.TB, r *http.Response) []byte {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFiles(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/pki/crl/softca.crl", 200, "application/pkix-crl"},
		{"HEAD", "/crl/softca.crl", 200, "application/pkix-crl"},
		{"GET", "/lists/aia/softca.cer", 200, "application/pkix-cert"},
		{"GET", "/crl/softca-2.crl", 404, "text/plain"},
		{"GET", "/crl/../aia/softca.cer", 404, "text/plain"},
		{"GET", "/", 404, "text/plain"},
		{"GET", "/api/v1/users", 404, "text/plain"},
		{"POST", "/crl/softca.crl", 405, "text/plain"},
		{"PUT", "/ocsp/softca", 405, "text/plain"},
	} {
		r := b.do(tc.method, tc.path, nil)
		if r.StatusCode != tc.status || !strings.HasPrefix(r.Header.Get("Content-Type"), tc.contentType) {
			t.Errorf("%s %s: %s, %s", tc.method, tc.path, r.Status, r.Header.Get("Content-Type"))
		}
	}
	r := b.do("GET", "/crl/softca.crl", nil)
	if string(content(t, r)) != "list" || r.Header.Get("ETag") == "" || r.Header.Get("Last-Modified") == "" {
		t.Errorf("headers %v", r.Header)
	}
	b.store.fail = errors.New("the database is away")
	if r := b.do("GET", "/crl/other.crl", nil); r.StatusCode != 500 || strings.Contains(string(content(t, r)), "database") {
		t.Errorf("without a database: %s", r.Status)
	}
}

// TestOCSP: the signed answer for who is known, and the unsigned ones of RFC 6960 section 2.3 for all else.
func TestOCSP(t *testing.T) {
	b := newBench(t)
	known := b.store.answers["softca "+b.leaf.SerialNumber.Text(16)]
	stranger := testpki.NewCA(t, "Another CA")
	unknown := *b.leaf
	unknown.SerialNumber = big.NewInt(4711)
	negative := *b.leaf
	negative.SerialNumber = big.NewInt(-1)
	good := b.request(t, b.leaf, b.ca.Cert, crypto.SHA1)
	for name, tc := range map[string]struct {
		ca            string
		request, want []byte
	}{
		"SHA-1":             {"softca", good, known.SHA1},
		"SHA-256":           {"softca", b.request(t, b.leaf, b.ca.Cert, crypto.SHA256), known.SHA256},
		"SHA-512":           {"softca", b.request(t, b.leaf, b.ca.Cert, crypto.SHA512), ocsp.UnauthorizedErrorResponse},
		"another issuer":    {"softca", b.request(t, b.leaf, stranger.Cert, crypto.SHA1), ocsp.UnauthorizedErrorResponse},
		"an unknown serial": {"softca", b.request(t, &unknown, b.ca.Cert, crypto.SHA1), ocsp.UnauthorizedErrorResponse},
		"negative":          {"softca", b.request(t, &negative, b.ca.Cert, crypto.SHA1), ocsp.MalformedRequestErrorResponse},
		"another CA":        {"softca-2", good, ocsp.UnauthorizedErrorResponse},
		"no CA":             {"", good, ocsp.UnauthorizedErrorResponse},
		"no request":        {"softca", nil, ocsp.MalformedRequestErrorResponse},
		"garbage":           {"softca", []byte("hello"), ocsp.MalformedRequestErrorResponse},
		"too long":          {"softca", bytes.Repeat([]byte{0x30}, MaxBody+1), ocsp.MalformedRequestErrorResponse},
	} {
		get := "/ocsp/" + tc.ca + "/" + url.PathEscape(base64.StdEncoding.EncodeToString(tc.request))
		for _, r := range []*http.Response{b.do("POST", "/ocsp/"+tc.ca, tc.request), b.do("GET", get, nil)} {
			if got := content(t, r); !bytes.Equal(got, tc.want) || r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/ocsp-response" {
				t.Errorf("%s: %s %x", name, r.Status, got)
			}
		}
	}
	b.store.fail = errors.New("the database is away")
	if got := content(t, b.do("POST", "/ocsp/other", good)); !bytes.Equal(got, ocsp.InternalErrorErrorResponse) {
		t.Errorf("without a database: %x", got)
	}
	b.store.fail = nil
	b.now = known.NextUpdate
	if got := content(t, b.do("POST", "/ocsp/softca", good)); !bytes.Equal(got, ocsp.TryLaterErrorResponse) {
		t.Errorf("after its end: %x", got)
	}
}

// TestGetIsCached: RFC 5019 section 6.2, and no cache outlives the answer.
func TestGetIsCached(t *testing.T) {
	b := newBench(t)
	known := b.store.answers["softca "+b.leaf.SerialNumber.Text(16)]
	text := base64.StdEncoding.EncodeToString(b.request(t, b.leaf, b.ca.Cert, crypto.SHA1))
	for _, spelt := range []string{text, url.PathEscape(text), url.QueryEscape(text), strings.TrimRight(text, "=")} {
		r := b.do("GET", "/pki/ocsp/softca/"+spelt, nil)
		if !bytes.Equal(content(t, r), known.SHA1) || r.Header.Get("Cache-Control") != "max-age=300, public, no-transform, must-revalidate" {
			t.Errorf("%s: %v", spelt, r.Header)
		}
	}
	b.now = known.NextUpdate.Add(-time.Minute)
	if r := b.do("GET", "/ocsp/softca/"+text, nil); !strings.HasPrefix(r.Header.Get("Cache-Control"), "max-age=60,") {
		t.Errorf("a minute before its end: %v", r.Header)
	}
	if r := b.do("GET", "/ocsp/softca/AAAA", nil); r.Header.Get("Cache-Control") != "" {
		t.Errorf("an error may be cached: %v", r.Header)
	}
}

// FuzzRequest: whatever comes, the answer is a signed one that is stored, or one of the unsigned ones.
func FuzzRequest(f *testing.F) {
	b := newBench(f)
	known := b.store.answers["softca "+b.leaf.SerialNumber.Text(16)]
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384} {
		f.Add(b.request(f, b.leaf, b.ca.Cert, hash), "softca")
	}
	f.Add([]byte{0x30, 0x80}, "softca/%2f")
	f.Add([]byte("hello"), "softca/%zz")
	possible := [][]byte{known.SHA1, known.SHA256, ocsp.MalformedRequestErrorResponse, ocsp.UnauthorizedErrorResponse}
	f.Fuzz(func(t *testing.T, request []byte, path string) {
		answers := []*http.Response{b.do("POST", "/ocsp/softca", request)}
		if target := "/ocsp/" + path + "/" + base64.StdEncoding.EncodeToString(request); len(target) < 4096 {
			if u, err := url.ParseRequestURI(target); err == nil && u.Path != "" && !strings.ContainsAny(target, " \r\n\t") {
				w := httptest.NewRecorder()
				b.handler.ServeHTTP(w, &http.Request{Method: "GET", URL: u})
				answers = append(answers, w.Result())
			}
		}
		for _, r := range answers {
			got := content(t, r)
			if !slices.ContainsFunc(possible, func(p []byte) bool { return bytes.Equal(p, got) }) {
				t.Errorf("%s: %x", r.Status, got)
			}
		}
	})
}
