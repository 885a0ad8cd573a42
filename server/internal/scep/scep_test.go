package scep_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/scep"
	"github.com/waxseal/waxseal/server/internal/web"
)

type rig struct {
	store     *identitytest.Store
	svc       *identity.Service
	authority *identity.Authority
	ca        *testpki.CA
	ra        *testpki.Identity
	router    *web.Router
	now       time.Time
	logs      *bytes.Buffer
	kicks     int
}

func newRig(t *testing.T) *rig {
	r := &rig{store: identitytest.New(), ca: testpki.NewCA(t, "device CA"), now: testpki.Now(), logs: &bytes.Buffer{}}
	r.ra = r.ca.Issue(t, testpki.Options{CN: "RA"})
	clock := func() time.Time { return r.now }
	r.store.Created = func(j model.Job) { r.store.Certify(t, r.ca, j) }
	r.svc = identity.New(identity.Config{Store: r.store, Jobs: r.store, Clock: clock})
	r.authority = identity.NewAuthority(func(context.Context) ([]byte, []byte, error) {
		if r.ra == nil {
			return nil, nil, nil
		}
		return r.ca.Cert.Raw, r.ra.Cert.Raw, nil
	})
	logger := slog.New(slog.NewTextHandler(r.logs, nil))
	r.router = web.New(web.Config{Logger: logger, Clock: clock, Burst: 10_000})
	scep.New(scep.Config{Identity: r.svc, Authority: r.authority, RAKey: r.ra.RSA(), Refusals: web.NewRefusals(r.store, logger, clock),
		Wait: 20 * time.Millisecond, Kick: func() { r.kicks++ }}).Routes(r.router)
	return r
}

func (r *rig) do(method, target string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.router.ServeHTTP(w, httptest.NewRequest(method, target, bytes.NewReader(body)))
	return w
}

func (r *rig) challenge(t *testing.T) (challenge, enrolment string) {
	t.Helper()
	token, err := r.svc.CreateLink(t.Context(), model.User{ID: "u1", UPN: "alice@example.com"}, profiles.IOS, 0)
	if err != nil {
		t.Fatal(err)
	}
	challenge, enrolment, err = r.svc.Profile(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return challenge, enrolment
}

// client is a device with a key, and the self-signed certificate that it signs its first request with.
func client(t *testing.T, n int) *testpki.Identity {
	t.Helper()
	return testpki.SelfSigned(t, testpki.Options{CN: "device", Key: testpki.PoolKey(t, n)})
}

func (r *rig) request(t *testing.T, id *testpki.Identity, challenge string, extensions ...pkix.Extension) *scepmsg.Message {
	t.Helper()
	csr := identitytest.CSRWithChallenge(t, id, challenge, extensions...)
	m, err := scepmsg.NewPKCSReq(rand.Reader, csr, id.Cert, id.Key, []*x509.Certificate{r.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (r *rig) post(t *testing.T, id *testpki.Identity, m *scepmsg.Message) *scepmsg.Reply {
	t.Helper()
	w := r.do(http.MethodPost, "/scep?operation=PKIOperation", m.DER)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-pki-message" {
		t.Fatalf("%d %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	reply, err := scepmsg.ParseCertRep(w.Body.Bytes(), id.Cert, id.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Answers(m); err != nil {
		t.Fatal(err)
	}
	if !reply.SignedBy([]*x509.Certificate{r.ra.Cert}) {
		t.Fatal("the reply is not signed by the RA")
	}
	return reply
}

func TestCapabilities(t *testing.T) {
	w := newRig(t).do(http.MethodGet, "/scep/pkiclient.exe?operation=GetCACaps&message=x", nil)
	for _, want := range []string{"POSTPKIOperation", "SHA-256", "SHA-1", "AES", "SCEPStandard"} {
		if !strings.Contains("\n"+w.Body.String(), "\n"+want+"\n") {
			t.Errorf("%s is missing in %q", want, w.Body)
		}
	}
}

func TestGetCACertPutsTheRAFirst(t *testing.T) {
	r := newRig(t)
	w := r.do(http.MethodGet, "/scep?operation=GetCACert", nil)
	if w.Header().Get("Content-Type") != "application/x-x509-ca-ra-cert" {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Content-Type"))
	}
	certs, err := cms.ParseCertsOnly(w.Body.Bytes())
	if err != nil || len(certs) != 2 || !certs[0].Equal(r.ra.Cert) || !certs[1].Equal(r.ca.Cert) {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
}

func TestEnrol(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		t.Run(method, func(t *testing.T) {
			r := newRig(t)
			challenge, enrolment := r.challenge(t)
			id := client(t, 1)
			m := r.request(t, id, challenge)
			var reply *scepmsg.Reply
			if method == http.MethodPost {
				reply = r.post(t, id, m)
			} else {
				target := "/scep?operation=PKIOperation&message=" + url.QueryEscape(base64.StdEncoding.EncodeToString(m.DER))
				var err error
				if reply, err = scepmsg.ParseCertRep(r.do(http.MethodGet, target, nil).Body.Bytes(), id.Cert, id.Key); err != nil {
					t.Fatal(err)
				}
			}
			if reply.Status != scepmsg.StatusSuccess || reply.Certificate.Subject.CommonName != enrolment {
				t.Fatalf("%+v", reply)
			}
			if err := reply.Certificate.CheckSignatureFrom(r.ca.Cert); err != nil {
				t.Fatal(err)
			}
			if r.kicks != 1 || strings.Contains(r.logs.String(), challenge) || !strings.Contains(r.logs.String(), enrolment) {
				t.Fatalf("%d kicks, log %s", r.kicks, r.logs)
			}
		})
	}
}

// TestARepeatedRequestGetsTheSameCertificate: the answer was lost on its way.
func TestARepeatedRequestGetsTheSameCertificate(t *testing.T) {
	r := newRig(t)
	challenge, _ := r.challenge(t)
	id := client(t, 1)
	first, again := r.post(t, id, r.request(t, id, challenge)), r.post(t, id, r.request(t, id, challenge))
	if !first.Certificate.Equal(again.Certificate) {
		t.Fatal("two certificates for one challenge")
	}
}

func TestRefusals(t *testing.T) {
	sanOf := func(name string) pkix.Extension {
		der, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(name)}})
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
	}
	tests := []struct {
		name string
		make func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message)
		info scepmsg.FailInfo
		want string
	}{
		{"no challenge", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			return id, r.request(t, id, "")
		}, scepmsg.BadRequest, "no challenge"},
		{"guessed challenge", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			return id, r.request(t, id, "hunter2")
		}, scepmsg.BadRequest, "not known"},
		{"expired challenge", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			challenge, _ := r.challenge(t)
			r.now = r.now.Add(16 * time.Minute)
			return id, r.request(t, id, challenge)
		}, scepmsg.BadRequest, "expired"},
		{"reused challenge", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			challenge, _ := r.challenge(t)
			first, id := client(t, 1), client(t, 2)
			r.post(t, first, r.request(t, first, challenge))
			return id, r.request(t, id, challenge)
		}, scepmsg.BadRequest, "another key"},
		{"another enrolment's name", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			challenge, _ := r.challenge(t)
			return id, r.request(t, id, challenge, sanOf(link.EnrolmentURN("somebody-else")))
		}, scepmsg.BadRequest, "not bound to"},
		{"encrypted to somebody else", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			challenge, _ := r.challenge(t)
			csr := identitytest.CSRWithChallenge(t, id, challenge)
			m, err := scepmsg.NewPKCSReq(rand.Reader, csr, id.Cert, id.Key, []*x509.Certificate{r.ca.Cert})
			if err != nil {
				t.Fatal(err)
			}
			return id, m
		}, scepmsg.BadMessageCheck, "not encrypted"},
		{"signed by another key", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			challenge, _ := r.challenge(t)
			csr, id := identitytest.CSRWithChallenge(t, client(t, 1), challenge), client(t, 2)
			m, err := scepmsg.NewPKCSReq(rand.Reader, csr, id.Cert, id.Key, []*x509.Certificate{r.ra.Cert})
			if err != nil {
				t.Fatal(err)
			}
			return id, m
		}, scepmsg.BadMessageCheck, "another key"},
		{"a renewal", func(t *testing.T, r *rig) (*testpki.Identity, *scepmsg.Message) {
			id := client(t, 1)
			m, err := scepmsg.NewRenewalReq(rand.Reader, identitytest.CSRWithChallenge(t, id, ""), id.Cert, id.Key, []*x509.Certificate{r.ra.Cert})
			if err != nil {
				t.Fatal(err)
			}
			return id, m
		}, scepmsg.BadRequest, "enrol anew"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			id, m := tt.make(t, r)
			reply := r.post(t, id, m)
			if reply.Status != scepmsg.StatusFailure || reply.FailInfo != tt.info || reply.Certificate != nil {
				t.Fatalf("%+v", reply)
			}
			refused := r.store.Refused()
			if len(refused) != 1 || !strings.Contains(refused[0].Detail["reason"], tt.want) {
				t.Fatalf("audit: %+v, want one with %q", refused, tt.want)
			}
			if strings.Contains(r.logs.String(), "hunter2") {
				t.Error("the log holds a challenge")
			}
		})
	}
}

// TestAConnectorThatIsDown: 503, and the same request succeeds later.
func TestAConnectorThatIsDown(t *testing.T) {
	r := newRig(t)
	var job model.Job
	r.store.Created = func(j model.Job) { job = j }
	challenge, _ := r.challenge(t)
	id := client(t, 1)
	m := r.request(t, id, challenge)
	w := r.do(http.MethodPost, "/scep?operation=PKIOperation", m.DER)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "link stays usable") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	r.store.Certify(t, r.ca, job)
	if reply := r.post(t, id, m); reply.Status != scepmsg.StatusSuccess {
		t.Fatalf("later: %+v", reply)
	}
}

func TestAConnectorThatRefuses(t *testing.T) {
	r := newRig(t)
	r.store.Created = func(j model.Job) { r.store.Fail(j.ID, "the key is weak") }
	challenge, _ := r.challenge(t)
	id := client(t, 1)
	if reply := r.post(t, id, r.request(t, id, challenge)); reply.Status != scepmsg.StatusFailure {
		t.Fatalf("%+v", reply)
	}
}

func TestBeforeTheFirstConnector(t *testing.T) {
	r := newRig(t)
	r.ra = nil
	for _, target := range []string{"/scep?operation=GetCACert", "/scep?operation=PKIOperation&message=AAAA"} {
		if w := r.do(http.MethodGet, target, nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "waxseal-connector init") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

func TestGarbage(t *testing.T) {
	r := newRig(t)
	challenge, _ := r.challenge(t)
	id := client(t, 1)
	good := r.request(t, id, challenge).DER
	tampered := bytes.Clone(good)
	tampered[len(tampered)-20] ^= 1
	random := make([]byte, 3000)
	_, _ = io.ReadFull(rand.Reader, random)
	tests := []struct {
		name, method, target string
		body                 []byte
		status               int
	}{
		{"empty", "POST", "/scep?operation=PKIOperation", nil, 400},
		{"random", "POST", "/scep?operation=PKIOperation", random, 400},
		{"truncated", "POST", "/scep?operation=PKIOperation", good[:len(good)/2], 400},
		{"tampered signature", "POST", "/scep?operation=PKIOperation", tampered, 400},
		{"oversized", "POST", "/scep?operation=PKIOperation", make([]byte, web.MaxSCEP+1), 413},
		{"deeply nested", "POST", "/scep?operation=PKIOperation", bytes.Repeat([]byte{0x30, 0x80}, 30_000), 400},
		{"no base64", "GET", "/scep?operation=PKIOperation&message=%21%21", nil, 400},
		{"no operation", "GET", "/scep", nil, 400},
		{"unknown operation", "GET", "/scep?operation=GetNextCACert", nil, 400},
		{"other method", "DELETE", "/scep?operation=GetCACaps", nil, 405},
	}
	for _, tt := range tests {
		if w := r.do(tt.method, tt.target, tt.body); w.Code != tt.status {
			t.Errorf("%s: %d, want %d: %s", tt.name, w.Code, tt.status, w.Body)
		}
	}
	if reply := r.post(t, id, r.request(t, id, challenge)); reply.Status != scepmsg.StatusSuccess {
		t.Errorf("after all that the challenge does not work: %+v", reply)
	}
}
