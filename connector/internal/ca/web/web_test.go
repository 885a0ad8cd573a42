package web

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		" one\r\n\ttwo\x00\x1b[31m ": "one two[31m",
		"\xff":                       "",
		"ünïcode":                    "ünïcode",
	} {
		if got := Words(in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := Words(strings.Repeat("ü", 400)); len(got) > maxWords || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func find(findings []link.CAFinding, check string) (link.CAFinding, bool) {
	for _, f := range findings {
		if f.Check == check {
			return f, true
		}
	}
	return link.CAFinding{}, false
}

func TestReach(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound) // any answer will do
	}))
	defer server.Close()
	reached := Reach(t.Context(), server.Client(), server.URL, testpki.Now().Add(2*time.Minute))
	if _, ok := find(reached.First, "certificate"); !reached.OK || !ok || len(reached.Clock) != 1 || !reached.Clock[0].OK {
		t.Errorf("%+v", reached)
	}
	if f := Reach(t.Context(), server.Client(), server.URL, testpki.Now().Add(time.Hour)).Clock[0]; f.OK || !strings.Contains(f.Detail, "1h0m0s") {
		t.Errorf("%+v", f)
	}
}

// TestCN10Unreached (CN-10): the finding names what is in the way and says what would be right.
func TestCN10Unreached(t *testing.T) {
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	untrusted.Config.ErrorLog = nil
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	noName := &http.Client{Transport: failing{&net.DNSError{Err: "no such host", Name: "ca.corp.test", IsNotFound: true}}}
	ended := &http.Client{Transport: failing{context.DeadlineExceeded}}
	for _, tc := range []struct {
		name, url, check, says string
		client                 *http.Client
	}{
		{"DNS", "https://ca.corp.test/", "url", "name servers", noName},
		{"timeout", "https://ca.corp.test/", "url", "does not answer", ended},
		{"connection", "https://" + closed.Addr().String(), "url", "firewall", http.DefaultClient},
		{"trust", untrusted.URL, "certificate", "tlsRootsFile", &http.Client{}},
		{"address", "https://a b/", "url", "does not parse", &http.Client{}},
	} {
		reached := Reach(t.Context(), tc.client, tc.url, testpki.Now())
		if f, ok := find(reached.First, tc.check); reached.OK || !ok || f.OK || !strings.Contains(f.Detail, tc.says) {
			t.Errorf("%s: %+v", tc.name, reached)
		}
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestCN10OwnCertificate(t *testing.T) {
	id := testpki.NewCA(t, "Corp CA").Issue(t, testpki.Options{CN: "ra"})
	pair, err := KeyPair("raCertificate", string(id.CertPEM()), "raKey", string(id.KeyPEM()))
	if err != nil {
		t.Fatal(err)
	}
	for want, at := range map[string]time.Time{"ended on": id.Cert.NotAfter.Add(time.Hour), "valid from": id.Cert.NotBefore.Add(-time.Hour), "ends on": testpki.Now()} {
		if f := OwnCertificate("RA certificate", pair, at); f.OK != (want == "ends on") || !strings.Contains(f.Detail, want) {
			t.Errorf("%+v", f)
		}
	}
	if _, err := KeyPair("raCertificate", string(id.CertPEM()), "raKey", "x"); err == nil || !strings.Contains(err.Error(), "raKeyFile") {
		t.Errorf("got %v", err)
	}
	if pair, err := KeyPair("a", "", "b", ""); pair != nil || err != nil {
		t.Error("nothing is nil")
	}
}

func TestIssuer(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA")
	s := ca.Settings{Issuers: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Cert.Raw}))}
	if f := Issuer(s, root.Cert); !f.OK {
		t.Errorf("%+v", f)
	}
	if f := Issuer(s, testpki.NewCA(t, "Other CA").Cert); f.OK || !strings.Contains(f.Detail, "issuersFile") {
		t.Errorf("%+v", f)
	}
}

func TestLeaf(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA")
	leaf := root.Issue(t, testpki.Options{CN: "Alice", Key: testpki.PoolKey(t, 1)}).Cert
	both := []*x509.Certificate{root.Cert, leaf}
	chain, err := Leaf(both, testpki.PoolKey(t, 1).Public())
	if err != nil || len(chain) != 2 || string(chain[0]) != string(leaf.Raw) {
		t.Errorf("%d, %v", len(chain), err)
	}
	chain, err = Leaf(both, testpki.PoolKey(t, 2).Public())
	if err != nil || len(chain) != 1 || string(chain[0]) != string(leaf.Raw) {
		t.Errorf("another key: %d, %v", len(chain), err)
	}
	if _, err := Leaf(both[:1], testpki.PoolKey(t, 2).Public()); err == nil {
		t.Error("a CA's certificate is no answer")
	}
}

func TestFailed(t *testing.T) {
	for status, want := range map[int]string{401: "credentials", 403: "credentials", 429: "no more requests", 500: "HTTP 500: out of order"} {
		err := Failed(Answer{Status: status}, "out\nof order")
		if !strings.Contains(err.Error(), want) || errors.Is(err, ErrCredentials) != (status < 429) {
			t.Errorf("%d: %v", status, err)
		}
	}
	if RequireHTTPS("url", "https://a.test") != nil || RequireHTTPS("url", "http://a.test") == nil || RequireHTTPS("url", "https://u:p@a.test") == nil {
		t.Error("https")
	}
}
