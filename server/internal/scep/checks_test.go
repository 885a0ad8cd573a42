package scep_test

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/scep"
	"github.com/waxseal/waxseal/server/internal/web"
)

// The checks of docs/checks.md that are this package's to keep.

// node is another server on the same state, with the same RA key.
func (r *rig) node() *rig {
	n := *r
	clock := func() time.Time { return n.now }
	n.svc = identity.New(identity.Config{Store: r.store, Jobs: r.store, Clock: clock})
	n.router = web.New(web.Config{Logger: slog.New(slog.DiscardHandler), Clock: clock, Burst: 10_000})
	scep.New(scep.Config{Identity: n.svc, Authority: r.authority, RAKey: r.ra.RSA(), Refusals: web.NewRefusals(r.store, nil, clock),
		Wait: 20 * time.Millisecond}).Routes(n.router)
	return &n
}

// TestSC01EachCallAtAnotherNode: no call needs to reach the server that answered the one before, not even the repeated one.
func TestSC01EachCallAtAnotherNode(t *testing.T) {
	first := newRig(t)
	second, third := first.node(), first.node()
	if w := first.do(http.MethodGet, "/scep?operation=GetCACaps", nil); w.Code != http.StatusOK {
		t.Fatalf("capabilities: %d", w.Code)
	}
	certs, err := cms.ParseCertsOnly(second.do(http.MethodGet, "/scep?operation=GetCACert", nil).Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	challenge, enrolment := first.challenge(t)
	id := client(t, 1)
	m, err := scepmsg.NewPKCSReq(rand.Reader, identitytest.CSRWithChallenge(t, id, challenge), id.Cert, id.Key, certs[:1])
	if err != nil {
		t.Fatal(err)
	}
	reply := third.post(t, id, m)
	if reply.Status != scepmsg.StatusSuccess || reply.Certificate.Subject.CommonName != enrolment {
		t.Fatalf("%+v", reply)
	}
	if again := second.post(t, id, m); again.Status != scepmsg.StatusSuccess || !again.Certificate.Equal(reply.Certificate) {
		t.Errorf("repeated at another node: %+v", again)
	}
}

// TestSC07LongAddress: a request whose address has 40 kB is answered, by the limits that the server really has.
func TestSC07LongAddress(t *testing.T) {
	r, i, _ := certificates(t)
	text, err := asn1.Marshal(strings.Repeat("x", 27_000))
	if err != nil {
		t.Fatal(err)
	}
	id := client(t, 1)
	m := r.request(t, id, "one-time", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: text})
	address := "/scep/softca?operation=PKIOperation&message=" + url.QueryEscape(base64.StdEncoding.EncodeToString(m.DER))
	if n := len(address); n < 40_000 || n > 60_000 {
		t.Fatalf("%d bytes are no test", n)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: web.NewServer(r.router, slog.New(slog.DiscardHandler))}
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, body)
	}
	reply, err := scepmsg.ParseCertRep(body, id.Cert, id.Key)
	if err != nil || reply.Status != scepmsg.StatusSuccess || !strings.HasPrefix(i.asked[0], "begin") {
		t.Errorf("%+v, %v", reply, err)
	}
}
