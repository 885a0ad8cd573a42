package windows

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows/csp"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

const (
	scepNode  = "./User/Vendor/MSFT/ClientCertificateInstall/SCEP/ID"
	challenge = "one-time_challenge"
)

// fakeCA is a SCEP server, whose messages other code reads and writes than the PC's.
type fakeCA struct {
	t        *testing.T
	http     *httptest.Server
	ca       *testpki.CA
	ra       *testpki.Identity
	caps     string
	steps    []string
	requests []*scepmsg.Request
	pending  int // how many answers say so
	failure  scepmsg.FailInfo
	status   int
	otherKey bool
	garbage  bool
}

func newFakeCA(t *testing.T) *fakeCA {
	t.Helper()
	c := &fakeCA{t: t, ca: testpki.NewCA(t, "mail CA"), caps: "POSTPKIOperation\nSHA-256\nAES\nSCEPStandard\n"}
	c.ra = c.ca.Issue(t, testpki.Options{CN: "RA"})
	mux := http.NewServeMux()
	mux.HandleFunc("/scep/softca/pkiclient.exe", c.serve)
	c.http = httptest.NewTLSServer(mux)
	t.Cleanup(c.http.Close)
	return c
}

func (c *fakeCA) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	operation := q.Get("operation")
	c.steps = append(c.steps, r.Method+" "+operation)
	if r.UserAgent() != userAgentSCEP || operation != "PKIOperation" && q.Get("message") != "default" || r.TLS.PeerCertificates != nil {
		c.t.Errorf("%s by %q", r.URL, r.UserAgent())
	}
	switch {
	case c.status != 0:
		http.Error(w, "no", c.status)
	case operation == "GetCACaps":
		_, _ = io.WriteString(w, c.caps)
	case operation == "GetCACert":
		bag, err := cms.CertsOnly(c.ra.Cert, c.ca.Cert)
		if err != nil {
			c.t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-x509-ca-ra-cert")
		_, _ = w.Write(bag)
	default:
		_, _ = w.Write(c.answer(r))
	}
}

func (c *fakeCA) answer(r *http.Request) []byte {
	message, err := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		message, err = base64.StdEncoding.DecodeString(r.URL.Query().Get("message"))
	}
	if err != nil || c.garbage {
		return []byte("what?")
	}
	req, err := scepmsg.ParseRequest(message, c.ra.Cert, c.ra.RSA())
	if err != nil {
		c.t.Error(err)
		return nil
	}
	c.requests = append(c.requests, req)
	var out []byte
	switch {
	case c.pending > 0:
		c.pending--
		out, err = scepmsg.Pending(req, c.ra.Cert, c.ra.RSA())
	case c.failure != "":
		out, err = scepmsg.Failure(req, c.failure, c.ra.Cert, c.ra.RSA())
	default:
		public := req.Signer.PublicKey
		if c.otherKey {
			public = testpki.PoolKey(c.t, 0).Public()
		}
		cert := c.ca.IssueCSR(c.t, &x509.CertificateRequest{PublicKey: public}, testpki.Options{CN: "Ann", Emails: []string{ann}})
		out, err = scepmsg.Success(req, cert, nil, c.ra.Cert, c.ra.RSA())
	}
	if err != nil {
		c.t.Error(err)
	}
	return out
}

// enroll are the commands that have a PC ask; change is applied to each value.
func (c *fakeCA) enroll(change func(leaf, value string) string) syncml.Command {
	out := syncml.Command{Verb: syncml.Atomic}
	for _, n := range [][3]string{
		{"ServerURL", "chr", c.http.URL + "/scep/softca"}, {"Challenge", "chr", challenge}, {"EKUMapping", "chr", "1.3.6.1.5.5.7.3.4"},
		{"KeyUsage", "int", "192"}, {"SubjectName", "chr", `CN="Ann, of Corp",E=` + ann}, {"SubjectAlternativeNames", "chr", "2+" + ann + ";11+" + ann},
		{"KeyLength", "int", "2048"}, {"HashAlgorithm", "chr", "SHA-2"}, {"CAThumbprint", "chr", thumbprint(c.ca.Cert)},
		{"KeyProtection", "int", "2"}, {"RetryCount", "int", "2"}, {"RetryDelay", "int", "1"},
	} {
		value := n[2]
		if change != nil {
			value = change(n[0], value)
		}
		out.Commands = append(out.Commands, command(syncml.Add, scepNode+"/Install/"+n[0], n[1], value))
	}
	out.Commands = append(out.Commands, command(syncml.Exec, scepNode+"/Install/Enroll", "null", ""))
	return out
}

func (d *Device) wantAsked(t *testing.T, status, code string) {
	t.Helper()
	if got := d.node(scepNode + "/Status"); got != status {
		t.Errorf("Status is %q, want %q", got, status)
	}
	if got := d.node(scepNode + "/ErrorCode"); got != code {
		t.Errorf("ErrorCode is %q, want %q", got, code)
	}
	keys := 0
	for _, item := range d.User().Keychain().Identities() {
		if slices.Contains(item.Certificate.EmailAddresses, ann) {
			keys++
		}
	}
	if (keys == 1) != (status == "1") {
		t.Errorf("%d keys for mail with the status %s", keys, status)
	}
}

// told are the requests of which the server was told how they ended.
func (s *fakeServer) told() (out []string) {
	for _, m := range s.got {
		for _, c := range m.Commands {
			for _, i := range c.Items {
				if c.Verb == syncml.Alert && i.Type == syncml.TypeSCEPResult {
					out = append(out, i.Source+" "+i.Data)
				}
			}
		}
	}
	return out
}

func poll(t *testing.T, d *Device) {
	t.Helper()
	if _, err := d.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAsking(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	s.send([]syncml.Command{c.enroll(nil)}, []syncml.Command{command(syncml.Get, scepNode+"/Status", "", "")})
	poll(t, d)
	if status, _ := s.got[2].Answers(2).Value("2", scepNode+"/Status"); status != "2" {
		t.Errorf("within the session the Status is %q", status)
	}
	d.wantAsked(t, "1", "0")
	if !slices.Equal(c.steps, []string{"GET GetCACaps", "GET GetCACert", "POST PKIOperation"}) {
		t.Errorf("%q", c.steps)
	}
	if got := s.told(); len(got) != 1 || got[0] != scepNode+" 1" {
		t.Errorf("told: %q", got)
	}
	csr, challenged := c.requests[0].CSR, c.requests[0].Challenge
	if challenged != challenge || csr.Subject.CommonName != "Ann, of Corp" || !slices.Equal(csr.EmailAddresses, []string{ann}) || csr.Subject.Names[0].Type.String() != "1.2.840.113549.1.9.1" {
		t.Errorf("asked for %s, %q", csr.Subject, csr.EmailAddresses)
	}
	for _, e := range csr.Extensions {
		var bits asn1.BitString
		if e.Id.String() == "2.5.29.15" {
			if _, err := asn1.Unmarshal(e.Value, &bits); err != nil || bits.Bytes[0] != 0xC0 {
				t.Errorf("key usage %x", e.Value)
			}
		}
	}
	poll(t, d)
	if len(s.told()) != 1 || len(c.requests) != 1 || len(d.state.Asking) != 0 {
		t.Errorf("it goes on: told %d times, asked %d times", len(s.told()), len(c.requests))
	}
}

func TestAskingFails(t *testing.T) {
	elsewhere := func(leaf, to string) func(string, string) string {
		return func(l, value string) string {
			if l == leaf {
				return to
			}
			return value
		}
	}
	for name, tt := range map[string]struct {
		prepare func(*fakeCA)
		change  func(leaf, value string) string
		rules   csp.Rules
		code    uint32
	}{
		"refused":          {prepare: func(c *fakeCA) { c.failure = scepmsg.BadRequest }, code: hrRefused},
		"HTTP":             {prepare: func(c *fakeCA) { c.status = 503 }, code: hrHTTP | 503},
		"capabilities":     {prepare: func(c *fakeCA) { c.caps = "SHA-1\nDES3\n" }, code: hrNoCapability},
		"another key":      {prepare: func(c *fakeCA) { c.otherKey = true }, code: hrOtherKey},
		"garbage":          {prepare: func(c *fakeCA) { c.garbage = true }, code: hrBadAnswer},
		"pending for ever": {prepare: func(c *fakeCA) { c.pending = 9 }, code: hrPending},
		"not our CA":       {change: elsewhere("CAThumbprint", strings.Repeat("A", 40)), code: hrNotOurCA},
		"nobody there":     {change: elsewhere("ServerURL", "https://127.0.0.1:1/x"), code: hrUnreachable},
		"no URL":           {change: elsewhere("ServerURL", ";"), code: hrUnreachable},
		"name":             {change: elsewhere("SubjectName", "CN=a,b"), code: hrBadName},
		"kind of name":     {change: elsewhere("SubjectAlternativeNames", "8+127.0.0.1"), code: hrBadName},
		"no TPM":           {change: elsewhere("KeyProtection", "1"), rules: csp.Rules{NoTPM: true}, code: hrNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newServer(t), newFakeCA(t)
			d := s.device(t, func(cfg *Config) { cfg.Rules = tt.rules })
			if tt.prepare != nil {
				tt.prepare(c)
			}
			s.send([]syncml.Command{c.enroll(tt.change)})
			for range 4 {
				poll(t, d)
				s.clock.now = s.clock.now.Add(2 * time.Minute)
			}
			d.wantAsked(t, "16", decimalOf(tt.code))
			if got := s.told(); len(got) != 1 || got[0] != scepNode+" 16" {
				t.Errorf("told: %q", got)
			}
		})
	}
}

func decimalOf(code uint32) string { return strconv.Itoa(int(int32(code))) }

// A server that says PENDING is asked again after RetryDelay, by a CertPoll for the same key, also after a restart.
func TestAskingAgain(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	c.pending, c.caps = 2, "SHA-256\n"
	s.send([]syncml.Command{c.enroll(nil)})
	poll(t, d)
	poll(t, d)
	if len(c.requests) != 1 || d.node(scepNode+"/Status") != "2" {
		t.Fatalf("asked %d times at once", len(c.requests))
	}
	dir := d.folder.Dir
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := s.config(t)
	cfg.State = dir
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	for range 2 {
		s.clock.now = s.clock.now.Add(61 * time.Second)
		poll(t, again)
	}
	again.wantAsked(t, "1", "0")
	if len(c.requests) != 3 || c.requests[1].MessageType != scepmsg.CertPoll || c.requests[2].TransactionID != c.requests[0].TransactionID {
		t.Errorf("%d requests", len(c.requests))
	}
	if c.steps[2] != "GET PKIOperation" {
		t.Errorf("a server without POST gets %q", c.steps[2])
	}
}

// Servers are asked in turn; the first that answers counts.
func TestAskingTheSecondServer(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	s.send([]syncml.Command{c.enroll(func(leaf, value string) string {
		if leaf == "ServerURL" {
			return "https://127.0.0.1:1/x;" + value
		}
		return value
	})})
	poll(t, d)
	d.wantAsked(t, "1", "0")
}

// What the server deletes, and has asked for anew, is another key.
func TestAskingAnew(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	c.pending = 1
	s.send([]syncml.Command{c.enroll(nil)})
	poll(t, d)
	s.send([]syncml.Command{command(syncml.Delete, scepNode, "", ""), c.enroll(nil)})
	poll(t, d)
	d.wantAsked(t, "1", "0")
	if len(c.requests) != 2 || c.requests[0].TransactionID == c.requests[1].TransactionID || c.requests[1].MessageType != scepmsg.PKCSReq {
		t.Errorf("%d requests", len(c.requests))
	}
	s.send([]syncml.Command{command(syncml.Delete, scepNode, "", "")})
	poll(t, d)
	if _, there := d.state.PC.Value(scepNode + "/Status"); there || len(d.User().Keychain().Identities()) != 1 {
		t.Error("the node, or its key, is still there")
	}
}

// What the server deletes while the CA has not decided takes its key along.
func TestAskingDeleted(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	c.pending = 1
	s.send([]syncml.Command{c.enroll(nil)})
	poll(t, d)
	if len(d.state.Asking) != 1 {
		t.Fatalf("%d requests under way", len(d.state.Asking))
	}
	s.send([]syncml.Command{command(syncml.Delete, scepNode, "", "")})
	poll(t, d)
	view, err := View(Config{State: d.folder.Dir})
	if err != nil || len(view.state.Asking) != 0 {
		t.Errorf("the state keeps %d keys: %v", len(view.state.Asking), err)
	}
}

// The user's request waits for the user.
func TestAskingWithoutTheUser(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	c.pending = 1
	s.send([]syncml.Command{c.enroll(nil)})
	poll(t, d)
	s.clock.now = s.clock.now.Add(time.Hour)
	if err := d.folder.SetLogon(device.LogonNone); err != nil {
		t.Fatal(err)
	}
	poll(t, d)
	if len(c.requests) != 1 {
		t.Errorf("%d requests with nobody there", len(c.requests))
	}
	if err := d.folder.SetLogon(device.LogonUser); err != nil {
		t.Fatal(err)
	}
	poll(t, d)
	d.wantAsked(t, "1", "0")
}

func TestAskingChaos(t *testing.T) {
	s, c := newServer(t), newFakeCA(t)
	d := s.device(t)
	if err := d.Chaos(ChaosKeyLost, ChaosSilent); err != nil {
		t.Fatal(err)
	}
	s.send([]syncml.Command{c.enroll(nil)})
	poll(t, d)
	d.wantAsked(t, "16", decimalOf(hrKeyLost))
	s.send([]syncml.Command{command(syncml.Delete, scepNode, "", ""), c.enroll(nil)})
	poll(t, d)
	d.wantAsked(t, "1", "0")
	poll(t, d)
	if got := s.told(); len(got) != 0 {
		t.Errorf("told: %q", got)
	}
}
