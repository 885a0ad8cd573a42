package apple

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// fakeClock is a clock whose sleeps take no time.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	slept []time.Duration
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.slept = append(c.slept, d)
	return ctx.Err()
}

// fakeServer is a small MDM and SCEP server, written from Apple's documents and from nothing of ours but the CMS layer.
type fakeServer struct {
	t     *testing.T
	http  *httptest.Server
	ca    *testpki.CA
	ra    *testpki.Identity
	clock *fakeClock

	mu       sync.Mutex
	queue    []queued
	checkins []dict
	results  []dict
	accepts  []string // Accept headers of the profile download
	refuse   func(r *http.Request, body []byte) (status int, kind, text string)
	caps     string
	pendings int // how often SCEP says PENDING
	scepOps  []string
	scepFail bool
	noSign   bool // SignMessage off
	mtls     bool
	enrol    func(dict) // changes the enrolment profile
	announce []int      // Waxseal-Pending of the next empty answers
	single   bool       // GetCACert answers with the CA alone
	rights   int
}

type queued struct {
	uuid    string
	body    dict
	done    bool
	refused bool // in this connection
}

func newServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{
		t: t, ca: testpki.NewCA(t, "device CA"), clock: &fakeClock{now: testpki.Now()}, rights: 3099,
		caps: "POSTPKIOperation\nSHA-256\nAES\nSCEPStandard\n",
	}
	s.ra = s.ca.Issue(t, testpki.Options{CN: "RA"})
	mux := http.NewServeMux()
	mux.HandleFunc("/enrol", s.profile)
	mux.HandleFunc("/scep", s.scep)
	mux.HandleFunc("/mdm", s.mdm)
	s.http = httptest.NewUnstartedServer(mux)
	s.http.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	return s
}

func (s *fakeServer) caPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

func (s *fakeServer) config(t *testing.T) Config {
	return Config{
		State: t.TempDir(), Source: s.http.URL + "/enrol", CA: s.caPEM(), Clock: s.clock,
		NewKey: func(int) (*rsa.PrivateKey, error) { return testpki.PoolKey(t, 3), nil },
	}
}

// device enrols a device.
func (s *fakeServer) device(t *testing.T) *Device {
	t.Helper()
	d, err := Enroll(t.Context(), s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *fakeServer) enrolmentProfile() dict {
	scep := dict{
		"URL": s.http.URL + "/scep", "Name": "device", "Challenge": "one!time", "Keysize": 2048, "Key Type": "RSA", "Key Usage": 5,
		"Subject":        []any{[]any{[]any{"O", "Example"}}, []any{[]any{"CN", "phone"}}},
		"SubjectAltName": dict{"rfc822Name": "a@example.com", "uniformResourceIdentifier": []any{"urn:x:1", "urn:x:2"}, "ntPrincipalName": "a@corp"},
		"RetryDelay":     7,
	}
	mdm := payloadDict(kindMDM, "mdm", dict{
		"IdentityCertificateUUID": "U-scep", "Topic": "com.apple.mgmt.External.1", "ServerURL": s.http.URL + "/mdm",
		"SignMessage": !s.noSign, "AccessRights": s.rights, "CheckOutWhenRemoved": true,
	})
	top := profileDict("org.enrol", mdm, payloadDict(kindSCEP, "scep", dict{"PayloadContent": scep}))
	if s.enrol != nil {
		s.enrol(top)
	}
	return top
}

func payloadDict(kind, name string, more dict) dict {
	out := dict{"PayloadType": kind, "PayloadVersion": 1, "PayloadIdentifier": "org." + name, "PayloadUUID": "U-" + name}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func profileDict(id string, payloads ...dict) dict {
	content := []any{}
	for _, p := range payloads {
		content = append(content, p)
	}
	return dict{
		"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": id, "PayloadUUID": "TOP-" + id,
		"PayloadDisplayName": "Profile " + id, "PayloadContent": content,
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	out, err := proplist.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *fakeServer) profile(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.accepts = append(s.accepts, r.Header.Get("Accept"))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-apple-aspen-config")
	_, _ = w.Write(encode(s.t, s.enrolmentProfile()))
}

func (s *fakeServer) scep(w http.ResponseWriter, r *http.Request) {
	op := r.URL.Query().Get("operation")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scepOps = append(s.scepOps, r.Method+" "+op)
	switch op {
	case "GetCACaps":
		_, _ = io.WriteString(w, s.caps)
	case "GetCACert":
		if s.single {
			w.Header().Set("Content-Type", "application/x-x509-ca-cert")
			_, _ = w.Write(s.ca.Cert.Raw)
			return
		}
		bag, err := cms.CertsOnly(s.ra.Cert, s.ca.Cert)
		if err != nil {
			s.t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-x509-ca-ra-cert")
		_, _ = w.Write(bag)
	case "PKIOperation":
		s.operation(w, r)
	}
}

func (s *fakeServer) operation(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		message, err = base64.StdEncoding.DecodeString(r.URL.Query().Get("message"))
	}
	if err != nil {
		s.t.Error(err)
	}
	ra := s.ra
	if s.single {
		ra = &s.ca.Identity
	}
	req, err := scepmsg.ParseRequest(message, ra.Cert, ra.RSA())
	if err != nil {
		s.t.Errorf("SCEP request: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	out, err := s.certRep(req, ra)
	if err != nil {
		s.t.Error(err)
	}
	_, _ = w.Write(out)
}

func (s *fakeServer) certRep(req *scepmsg.Request, ra *testpki.Identity) ([]byte, error) {
	s.scepOps = append(s.scepOps, "type "+string(req.MessageType))
	switch {
	case s.scepFail:
		return scepmsg.Failure(req, scepmsg.BadRequest, ra.Cert, ra.Key)
	case s.pendings > 0:
		s.pendings--
		return scepmsg.Pending(req, ra.Cert, ra.Key)
	}
	csr := req.CSR
	if csr == nil {
		csr = &x509.CertificateRequest{PublicKey: req.Signer.PublicKey}
	} else if req.Challenge != "one!time" || len(csr.EmailAddresses) != 1 || len(csr.URIs) != 2 || csr.Subject.CommonName != "phone" {
		return nil, fmt.Errorf("unexpected request: %q %v %v %v", req.Challenge, csr.Subject, csr.EmailAddresses, csr.URIs)
	}
	cert := s.ca.IssueCSR(s.t, csr, testpki.Options{CN: "phone", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return scepmsg.Success(req, cert, []*x509.Certificate{s.ca.Cert}, ra.Cert, ra.Key)
}

func (s *fakeServer) mdm(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if status, kind, text := s.refuse(r, body); status != 0 {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
			return
		}
	}
	s.checkSigner(r, body)
	message, err := proplist.DecodeDict(body, proplist.MaxSize)
	if err != nil || r.Method != http.MethodPut {
		s.t.Errorf("message: %v, method %s", err, r.Method)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), typeCheckin) {
		s.checkins = append(s.checkins, message)
		return
	}
	s.command(w, message)
}

func (s *fakeServer) checkSigner(r *http.Request, body []byte) {
	if s.mtls {
		if len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].CheckSignatureFrom(s.ca.Cert) != nil {
			s.t.Error("no client certificate of the device CA")
		}
	}
	if s.noSign {
		if r.Header.Get("Mdm-Signature") != "" {
			s.t.Error("Mdm-Signature without SignMessage")
		}
		return
	}
	raw, err := base64.StdEncoding.DecodeString(r.Header.Get("Mdm-Signature"))
	if err != nil {
		s.t.Error(err)
	}
	signed, err := cms.VerifyDetached(raw, body)
	if err != nil {
		s.t.Errorf("Mdm-Signature: %v", err)
	} else if err := signed.Signer.CheckSignatureFrom(s.ca.Cert); err != nil {
		s.t.Errorf("Mdm-Signature: %v", err)
	}
}

// command stores the result and offers the oldest command that is not done; a NotNow one at the next Idle.
func (s *fakeServer) command(w http.ResponseWriter, message dict) {
	status, uuid := proplist.String(message, "Status"), proplist.String(message, "CommandUUID")
	if status != statusIdle {
		s.results = append(s.results, message)
	}
	for n := range s.queue {
		q := &s.queue[n]
		q.refused = q.refused && status != statusIdle
		if q.uuid == uuid {
			q.done, q.refused = status != statusNotNow, true
		}
	}
	for _, q := range s.queue {
		if !q.done && !q.refused {
			_, _ = w.Write(encode(s.t, dict{"CommandUUID": q.uuid, "Command": q.body}))
			return
		}
	}
	if len(s.announce) > 0 {
		w.Header().Set(PendingHeader, fmt.Sprint(s.announce[0]))
		s.announce = s.announce[1:]
	}
}

// send queues commands.
func (s *fakeServer) send(commands ...dict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range commands {
		s.queue = append(s.queue, queued{uuid: fmt.Sprintf("C-%d", len(s.queue)+1), body: c})
	}
}

// last is the latest result.
func (s *fakeServer) last() dict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.results) == 0 {
		s.t.Fatal("no result")
	}
	return s.results[len(s.results)-1]
}

func installCommand(profile []byte) dict {
	return dict{"RequestType": "InstallProfile", "Payload": profile}
}

// p12 makes a PKCS#12 payload.
func p12(t *testing.T, name string, id *testpki.Identity, flavour pfx.Flavour, chain ...*x509.Certificate) dict {
	t.Helper()
	data, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert, Chain: chain}, "s3cret", flavour)
	if err != nil {
		t.Fatal(err)
	}
	return payloadDict(kindPKCS12, name, dict{"PayloadContent": data, "Password": "s3cret"})
}

func mustSync(t *testing.T, d *Device) {
	t.Helper()
	if _, err := d.Sync(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}
