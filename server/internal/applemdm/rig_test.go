package applemdm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/applemdm"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	topic = "com.apple.mgmt.External.11111111-2222-3333-4444-555555555555"
	udid  = "00008030-000A1B2C3D4E5F60"
)

// delivery is the core behind the endpoint: it notes reports and answers what the test says.
type delivery struct {
	reports []*mdm.Report
	whose   []string // enrolments
	command []byte
	pending int
	err     error
}

func (d *delivery) Report(_ context.Context, enr model.Enrolment, r *mdm.Report) ([]byte, int, error) {
	d.whose = append(d.whose, enr.ID)
	d.reports = append(d.reports, r)
	return d.command, d.pending, d.err
}

// rig is the endpoint with fakes around it.
type rig struct {
	store    *identitytest.Store
	svc      *identity.Service
	ca       *testpki.CA
	noTrust  bool
	delivery *delivery
	router   *web.Router
	now      time.Time
	logs     *bytes.Buffer
	kept     map[string][]byte
	kicks    int
	raised   int
}

func newRig(t *testing.T, edit ...func(*applemdm.Config, *sender.Config)) *rig {
	t.Helper()
	r := &rig{store: identitytest.New(), ca: testpki.NewCA(t, "device CA"), delivery: &delivery{}, now: testpki.Now(),
		logs: &bytes.Buffer{}, kept: map[string][]byte{}}
	clock := func() time.Time { return r.now }
	logger := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.svc = identity.New(identity.Config{Store: r.store, Jobs: r.store, Clock: clock})
	ra := r.ca.Issue(t, testpki.Options{CN: "RA"})
	cfg := applemdm.Config{Identity: r.svc, Delivery: r.delivery, Devices: r.store, Clock: clock, Logger: logger,
		Authority: identity.NewAuthority(func(context.Context) ([]byte, []byte, error) {
			if r.noTrust {
				return nil, nil, nil
			}
			return r.ca.Cert.Raw, ra.Cert.Raw, nil
		}),
		Refusals: web.NewRefusals(r.store, logger, clock), Organization: "Contoso <GmbH>", PushTopic: topic,
		Keep:  func(_ context.Context, id, kind string, body []byte) error { r.kept[id+" "+kind] = body; return nil },
		Kick:  func() { r.kicks++ },
		Raise: func(string) { r.raised++ },
		Profile: func(challenge, enrolmentID string) ([]byte, error) {
			return apple.EnrollmentProfile(apple.EnrollmentParams{Namespace: "io.waxseal.test", Organization: "Contoso", EnrolmentID: enrolmentID,
				CommonName: enrolmentID, Challenge: challenge, SCEPURL: "https://mdm.example.com/scep", SCEPName: "Waxseal", Topic: topic,
				ServerURL: "https://mdm.example.com/mdm/apple/command", CheckInURL: "https://mdm.example.com/mdm/apple/checkin",
				SignMessage: true, AccessRights: 3099})
		},
	}
	from := sender.Config{Identity: r.svc, Authority: cfg.Authority, Clock: clock}
	for _, e := range edit {
		e(&cfg, &from)
	}
	cfg.Sender = sender.New(from)
	r.router = web.New(web.Config{Logger: logger, Clock: clock, Burst: 100_000})
	applemdm.New(cfg).Routes(r.router)
	return r
}

func (r *rig) do(method, target string, body []byte, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, bytes.NewReader(body))
	for _, e := range edit {
		e(req)
	}
	w := httptest.NewRecorder()
	r.router.ServeHTTP(w, req)
	return w
}

func (r *rig) link(t *testing.T) string {
	t.Helper()
	token, err := r.svc.CreateLink(t.Context(), model.User{ID: "u1", UPN: "alice@example.com"}, profiles.IOS, 0)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// certify gives a fresh enrolment its certificate.
func (r *rig) certify(t *testing.T, n int) (*testpki.Identity, string) {
	t.Helper()
	challenge, enrolment, err := r.svc.Profile(t.Context(), r.link(t))
	if err != nil {
		t.Fatal(err)
	}
	id := &testpki.Identity{Key: testpki.PoolKey(t, n)}
	r.store.Created = func(j model.Job) { id.Cert = r.store.Certify(t, r.ca, j) }
	if _, err := r.svc.Redeem(t.Context(), challenge, identitytest.CSR(t, &x509.CertificateRequest{}, id)); err != nil {
		t.Fatal(err)
	}
	return id, enrolment
}

// enrolled is a device that has sent Authenticate and TokenUpdate.
func (r *rig) enrolled(t *testing.T, n int) (*testpki.Identity, string) {
	t.Helper()
	id, enrolment := r.certify(t, n)
	for _, m := range []mdm.Message{authenticate(udid), tokenUpdate(udid)} {
		if w := r.checkin(t, id, m); w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Fatalf("%s: %d %s", m.Type(), w.Code, w.Body)
		}
	}
	return id, enrolment
}

func authenticate(udid string) *mdm.Authenticate {
	m := &mdm.Authenticate{OSVersion: "18.1", ProductName: "iPhone15,2", SerialNumber: "F2LX", DeviceName: "Alice's iPhone"}
	m.UDID, m.Topic = udid, topic
	return m
}

func tokenUpdate(udid string) *mdm.TokenUpdate {
	m := &mdm.TokenUpdate{Token: bytes.Repeat([]byte{7}, 32), PushMagic: "magic"}
	m.UDID, m.Topic = udid, topic
	return m
}

func checkOut(udid string) *mdm.CheckOut {
	m := &mdm.CheckOut{}
	m.UDID, m.Topic = udid, topic
	return m
}

func encode(t *testing.T, m mdm.Message) []byte {
	t.Helper()
	body, err := mdm.EncodeCheckin(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func idle(t *testing.T, udid string) []byte {
	t.Helper()
	r := &mdm.Report{Status: mdm.StatusIdle}
	r.UDID = udid
	body, err := mdm.EncodeReport(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (r *rig) checkin(t *testing.T, id *testpki.Identity, m mdm.Message) *httptest.ResponseRecorder {
	t.Helper()
	body := encode(t, m)
	return r.do(http.MethodPut, "/mdm/apple/checkin", body, signed(t, id, body))
}

func (r *rig) command(t *testing.T, id *testpki.Identity, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	return r.do(http.MethodPut, "/mdm/apple/command", body, signed(t, id, body))
}

// signed adds the signature that iOS makes.
func signed(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) {
	return header("Mdm-Signature", base64.StdEncoding.EncodeToString(appleSignature(t, id, body)))
}

// modernSignature is DER with SHA-256 and signed attributes, as the iPhone simulator was seen to send.
func modernSignature(t *testing.T, id *testpki.Identity, body []byte) []byte {
	t.Helper()
	der, err := cms.Sign(body, id.Cert, id.Key, cms.SignOptions{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func withTLS(cert *x509.Certificate) func(*http.Request) {
	return func(r *http.Request) { r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}} }
}

func trust(cidr string) func(*applemdm.Config, *sender.Config) {
	return func(_ *applemdm.Config, c *sender.Config) {
		c.ProxyHeader, c.TrustedProxies = "X-Client-Cert", []netip.Prefix{netip.MustParsePrefix(cidr)}
	}
}

// appleSignature is a detached SignedData with the odd shape that devices send: BER with indefinite lengths, SHA-1, no
// signed attributes (apple.md section 1.4).
func appleSignature(t *testing.T, id *testpki.Identity, body []byte) []byte {
	t.Helper()
	sum := sha1.Sum(body)
	signature, err := id.Key.Sign(rand.Reader, sum[:], crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	sha1ID := []byte{0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00}
	rsaID := []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00}
	serial, err := asn1.Marshal(id.Cert.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	issuer := der(t, 0x30, id.Cert.RawIssuer, serial)
	signer := der(t, 0x30, []byte{2, 1, 1}, issuer, sha1ID, rsaID, der(t, 0x04, signature))
	data := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01}
	signedType := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
	inner := endless(0x30, []byte{2, 1, 1}, der(t, 0x31, sha1ID), endless(0x30, data), endless(0xa0, id.Cert.Raw), der(t, 0x31, signer))
	return endless(0x30, signedType, endless(0xa0, inner))
}

// der is an element with a definite length.
func der(t *testing.T, tag byte, parts ...[]byte) []byte {
	t.Helper()
	raw := asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: bytes.Join(parts, nil)}
	out, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// endless is an element with an indefinite length.
func endless(tag byte, parts ...[]byte) []byte {
	return append(append([]byte{tag, 0x80}, bytes.Join(parts, nil)...), 0, 0)
}
