package estca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// server is a CA of others, as RFC 7030 describes them.
type server struct {
	t       testing.TB
	ca      *testpki.CA
	http    *httptest.Server
	now     time.Time // of the adapter
	hold    bool
	after   string   // Retry-After
	waiting [][]byte // requests that were held, as they came
	change  func(o *testpki.Options)
	along   []*x509.Certificate      // beside the certificate that was asked for
	breaks  func(text string) []byte // how an answer is written
	attrs   []byte
	arrived func()            // somebody waits for an answer, which never comes
	status  map[string]int    // by operation
	body    map[string][]byte // by operation
	kind    string            // content type of answers that are no success
	asked   []string
	csr     *x509.CertificateRequest
}

const word = "proper horse"

func newServer(t testing.TB) *server {
	s := &server{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), now: testpki.Now(), status: map[string]int{}, body: map[string][]byte{},
		kind: "text/plain; charset=utf-8", breaks: func(text string) []byte { return []byte(text) }}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	clients := x509.NewCertPool()
	clients.AddCert(s.ca.Cert)
	s.http.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients, Time: testpki.Now}
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/.well-known/est/")
	if !ok {
		s.t.Errorf("asks %s", r.URL.Path)
	}
	s.asked = append(s.asked, r.Method+" "+path)
	operation := path[strings.LastIndex(path, "/")+1:]
	w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	if s.arrived != nil {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the other side leaves
		s.arrived()
		<-r.Context().Done()
		return
	}
	status, body := s.answer(operation, r)
	if b, ok := s.body[operation]; ok {
		body = b
	}
	if s.status[operation] != 0 {
		status = s.status[operation]
	}
	s.head(w.Header(), status)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (s *server) head(h http.Header, status int) {
	h.Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Location", "https://elsewhere.test/")
	h.Set("Retry-After", s.after)
	if status >= http.StatusBadRequest {
		h.Set("Content-Type", s.kind)
	}
}

func (s *server) answer(operation string, r *http.Request) (int, []byte) {
	switch r.Method + " " + operation {
	case "GET cacerts":
		return http.StatusOK, s.bag(s.ca.Cert)
	case "GET csrattrs":
		if s.attrs == nil {
			return http.StatusNoContent, nil
		}
		return http.StatusOK, s.breaks(base64.StdEncoding.EncodeToString(s.attrs))
	case "POST simpleenroll":
		if s.status[operation] != 0 {
			return 0, []byte("these names\x07 are <b>not</b> allowed")
		}
		return s.enrol(r)
	}
	return http.StatusNotFound, []byte("there is no such page")
}

func (s *server) bag(certs ...*x509.Certificate) []byte {
	der, err := cms.CertsOnly(certs...)
	if err != nil {
		s.t.Error(err)
	}
	return s.breaks(base64.StdEncoding.EncodeToString(der))
}

// enrol looks at who asks before it looks at the request.
func (s *server) enrol(r *http.Request) (int, []byte) {
	user, password, _ := r.BasicAuth()
	if len(r.TLS.PeerCertificates) == 0 && (user != "waxseal" || password != word) {
		return http.StatusUnauthorized, []byte("who are you?")
	}
	if r.Header.Get("Content-Type") != "application/pkcs10" || r.Header.Get("Content-Transfer-Encoding") != "base64" {
		return http.StatusUnsupportedMediaType, nil
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	der, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return http.StatusBadRequest, []byte("no base64")
	}
	if s.csr, err = x509.ParseCertificateRequest(der); err != nil || s.csr.CheckSignature() != nil {
		return http.StatusBadRequest, []byte("no request")
	}
	if s.waiting != nil && !bytes.Equal(s.waiting[0], der) {
		s.t.Error("another request than the one that waits")
	}
	if s.hold {
		s.waiting = append(s.waiting, der)
		return http.StatusAccepted, nil
	}
	return http.StatusOK, s.bag(append([]*x509.Certificate{s.issue()}, s.along...)...)
}

func (s *server) issue() *x509.Certificate {
	o := testpki.Options{CN: s.csr.Subject.CommonName, Emails: s.csr.EmailAddresses}
	if s.change != nil {
		s.change(&o)
	}
	if o.Key != nil {
		return s.ca.Issue(s.t, o).Cert
	}
	return s.ca.IssueCSR(s.t, s.csr, o)
}

func (s *server) settings(o Options) ca.Settings {
	raw, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	return ca.Settings{Name: "corp", Kind: "est", URL: s.http.URL, TLSRoots: string(roots), Issuers: string(s.ca.CertPEM()), Options: raw}
}

func usual() Options { return Options{Username: "waxseal", Password: word + "\n"} }

// certified gives the options of a connector that shows a certificate.
func (s *server) certified(o testpki.Options) Options {
	o.CN, o.ExtKeyUsage = "connector", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	id := s.ca.Issue(s.t, o)
	return Options{ClientCertificate: string(id.CertPEM()), ClientKey: string(id.KeyPEM())}
}

func (s *server) adapter(o Options) *adapter { return s.open(s.settings(o)) }

func (s *server) open(settings ca.Settings) *adapter {
	s.t.Helper()
	up, err := New(settings, ca.Env{Clock: func() time.Time { return s.now }})
	if err != nil {
		s.t.Fatal(err)
	}
	return up.(*adapter)
}

// note collects what an adapter notes.
type note struct{ handle []byte }

func (n *note) question(in ca.Intent) ledger.Question {
	return ledger.Question{Intent: in, Handle: n.handle, Note: func(h []byte) error { n.handle = h; return nil }}
}
