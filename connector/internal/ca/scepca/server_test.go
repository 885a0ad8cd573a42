package scepca

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
)

// server is a CA of others with an RA, as RFC 8894 describes them, and the mscep_admin page of NDES.
type server struct {
	t         testing.TB
	ca        *testpki.CA
	ra        *testpki.Identity // nil: the CA answers itself
	http      *httptest.Server
	roots     *x509.Certificate // of the server before it went without TLS
	caps      string
	challenge string
	known     *x509.Certificate // whose signature goes without a challenge
	hold      bool
	pending   map[string]*x509.CertificateRequest
	fail      scepmsg.FailInfo
	signer    *testpki.Identity // of answers, instead of the RA
	change    func(o *testpki.Options)
	replay    bool // the first answer again and again
	last      []byte
	status    map[string]int    // by operation
	body      map[string][]byte // by operation
	page      string            // of mscep_admin
	asked     []string          // method and operation
	types     []scepmsg.MessageType
	ids       []string
	csr       *x509.CertificateRequest
}

const capsAll = "AES\nPOSTPKIOperation\nSHA-256\nRenewal\nSCEPStandard\n"

func newServer(t testing.TB) *server {
	s := &server{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), caps: capsAll, challenge: "s3cret",
		pending: map[string]*x509.CertificateRequest{}, status: map[string]int{}, body: map[string][]byte{}}
	s.ra = s.ca.Issue(t, testpki.Options{CN: "Corp RA"})
	mux := http.NewServeMux()
	mux.HandleFunc("/scep", s.serve)
	mux.HandleFunc("/certsrv/mscep_admin/", s.admin)
	s.http = httptest.NewTLSServer(mux)
	t.Cleanup(s.http.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	operation := r.URL.Query().Get("operation")
	s.asked = append(s.asked, r.Method+" "+operation)
	w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	body := s.answer(operation, r)
	if b, ok := s.body[operation]; ok {
		body = b
	}
	if status := s.status[operation]; status != 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Location", "https://elsewhere.test/")
		w.WriteHeader(status)
	}
	_, _ = w.Write(body)
}

func (s *server) answer(operation string, r *http.Request) []byte {
	switch operation {
	case "GetCACaps":
		return []byte(s.caps)
	case "GetCACert":
		if s.ra == nil {
			return s.ca.Cert.Raw
		}
		bag, err := cms.CertsOnly(s.ca.Cert, s.ra.Cert)
		s.check(err)
		return bag
	case "PKIOperation":
		message, err := io.ReadAll(r.Body)
		s.check(err)
		if r.Method == http.MethodGet {
			message, err = base64.StdEncoding.DecodeString(r.URL.Query().Get("message"))
			s.check(err)
		}
		if s.status[operation] != 0 {
			return []byte("sorry\x07, <b>we</b> are closed")
		}
		if !s.replay || s.last == nil {
			s.last = s.operate(message)
		}
		return s.last
	}
	return nil
}

func (s *server) check(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *server) identity() *testpki.Identity {
	if s.ra != nil {
		return s.ra
	}
	return &s.ca.Identity
}

func (s *server) operate(message []byte) []byte {
	own := s.identity()
	req, err := scepmsg.ParseRequest(message, own.Cert, own.RSA())
	if err != nil {
		s.t.Errorf("the request is none: %v", err)
		return nil
	}
	s.types, s.ids = append(s.types, req.MessageType), append(s.ids, req.TransactionID)
	signer := own
	if s.signer != nil {
		signer = s.signer
	}
	csr := req.CSR
	if req.MessageType == scepmsg.CertPoll {
		if !bytes.Equal(req.Issuer, s.ca.Cert.RawSubject) {
			s.t.Errorf("polls at the issuer %q", req.Issuer)
		}
		csr = s.pending[req.TransactionID]
	} else {
		s.csr = csr
	}
	var der []byte
	switch {
	case s.fail != "":
		der, err = scepmsg.Failure(req, s.fail, signer.Cert, signer.Key)
	case csr == nil:
		der, err = scepmsg.Failure(req, scepmsg.BadCertID, signer.Cert, signer.Key)
	case req.MessageType == scepmsg.PKCSReq && !req.Signer.Equal(s.known) && req.Challenge != s.challenge:
		der, err = scepmsg.Failure(req, scepmsg.BadRequest, signer.Cert, signer.Key)
	case s.hold:
		s.pending[req.TransactionID] = csr
		der, err = scepmsg.Pending(req, signer.Cert, signer.Key)
	default:
		der, err = scepmsg.Success(req, s.issue(csr), []*x509.Certificate{s.ca.Cert}, signer.Cert, signer.Key)
	}
	s.check(err)
	return der
}

func (s *server) issue(csr *x509.CertificateRequest) *x509.Certificate {
	o := testpki.Options{CN: csr.Subject.CommonName, Emails: csr.EmailAddresses}
	if s.change != nil {
		s.change(&o)
	}
	if o.Key != nil {
		return s.ca.Issue(s.t, o).Cert
	}
	return s.ca.IssueCSR(s.t, csr, o)
}

func (s *server) admin(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Method+" admin")
	if user, password, _ := r.BasicAuth(); user != `CORP\waxseal` || password != "proper" {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(wide(s.page))
	}
}

// wide writes UTF-16LE with its mark, as NDES does.
func wide(text string) []byte {
	out := []byte{0xff, 0xfe}
	for _, r := range text {
		out = append(out, byte(r), byte(r>>8))
	}
	return out
}

func (s *server) settings(o Options) ca.Settings {
	raw, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := s.roots
	if roots == nil {
		roots = s.http.Certificate()
	}
	tls := testpki.Identity{Cert: roots}
	return ca.Settings{Name: "corp", Kind: "scep", URL: s.http.URL + "/scep", TLSRoots: string(tls.CertPEM()), Issuers: string(s.ca.CertPEM()), Options: raw}
}

func usual() Options { return Options{Challenge: "s3cret\n"} }

func (s *server) adapter(o Options) *adapter {
	s.t.Helper()
	up, err := New(s.settings(o), ca.Env{Clock: testpki.Now})
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
