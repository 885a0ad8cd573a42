package scep_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/scep"
	"github.com/waxseal/waxseal/server/internal/web"
)

// issuer is the core, with one answer.
type issuer struct {
	answer  []byte
	fault   error
	pending bool
	asked   []string // what was called
	polled  string
	former  *x509.Certificate
}

func (i *issuer) result(call string) (model.SCEPRequest, error) {
	i.asked = append(i.asked, call)
	return model.SCEPRequest{EnrolmentID: "e-1", Hash: "h", Certificate: i.answer}, i.fault
}

func (i *issuer) Begin(_ context.Context, challenge, transaction string, _ *x509.CertificateRequest) (model.SCEPRequest, error) {
	return i.result("begin " + challenge)
}

func (i *issuer) Renew(_ context.Context, former *x509.Certificate, _ string, _ *x509.CertificateRequest) (model.SCEPRequest, error) {
	i.former = former
	return i.result("renew")
}

func (i *issuer) Poll(_ context.Context, transaction string, _ *x509.Certificate) (model.SCEPRequest, error) {
	i.polled = transaction
	return i.result("poll")
}

func (i *issuer) Answer(_ context.Context, r model.SCEPRequest) (model.SCEPRequest, error) {
	if i.pending {
		return r, issuance.ErrPending
	}
	return r, nil
}

// certificates is a rig whose endpoint certifies mail keys, too.
func certificates(t *testing.T) (*rig, *issuer, *testpki.CA) {
	r := newRig(t)
	mail := testpki.NewCA(t, "mail CA")
	i := &issuer{answer: mail.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, Key: testpki.PoolKey(t, 1)}).Cert.Raw}
	chain := func(_ context.Context, name string) ([]*x509.Certificate, error) {
		if name != "softca" {
			return nil, model.ErrNotFound
		}
		return []*x509.Certificate{mail.Cert}, nil
	}
	r.router = web.New(web.Config{Clock: func() time.Time { return r.now }, Burst: 10_000})
	scep.New(scep.Config{Identity: r.svc, Authority: r.authority, RAKey: r.ra.RSA(), Refusals: web.NewRefusals(r.store, nil, func() time.Time { return r.now }),
		Issuance: i, Authorities: chain, Wait: 20 * time.Millisecond}).Routes(r.router)
	return r, i, mail
}

func (r *rig) postTo(t *testing.T, path string, id *testpki.Identity, m *scepmsg.Message) *scepmsg.Reply {
	t.Helper()
	w := r.do(http.MethodPost, path+"?operation=PKIOperation", m.DER)
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	reply, err := scepmsg.ParseCertRep(w.Body.Bytes(), id.Cert, id.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Answers(m); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestCertificatesOfAProfilesCA(t *testing.T) {
	r, _, mail := certificates(t)
	for _, path := range []string{"/scep/softca", "/scep/softca/pkiclient.exe"} {
		w := r.do(http.MethodGet, path+"?operation=GetCACert&message=softca", nil)
		certs, err := cms.ParseCertsOnly(w.Body.Bytes())
		if err != nil || len(certs) != 3 || !certs[0].Equal(r.ra.Cert) || !certs[1].Equal(mail.Cert) || !certs[2].Equal(r.ca.Cert) {
			t.Errorf("%s: %d, %d certificates, %v", path, w.Code, len(certs), err)
		}
		if w := r.do(http.MethodGet, path+"?operation=GetCACaps", nil); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "\nRenewal\n") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := r.do(http.MethodGet, "/scep/none?operation=GetCACert", nil); w.Code != http.StatusNotFound {
		t.Errorf("an unknown CA: %d", w.Code)
	}
}

func TestMailCertificate(t *testing.T) {
	r, i, _ := certificates(t)
	id := client(t, 1)
	m := r.request(t, id, "one-time")
	reply := r.postTo(t, "/scep/softca", id, m)
	if reply.Status != scepmsg.StatusSuccess || string(reply.Certificate.Raw) != string(i.answer) || i.asked[0] != "begin one-time" {
		t.Errorf("%+v, asked %v", reply, i.asked)
	}
	w := r.do(http.MethodGet, "/scep/softca/pkiclient.exe?operation=PKIOperation&message="+url.QueryEscape(base64.StdEncoding.EncodeToString(m.DER)), nil)
	if reply, err := scepmsg.ParseCertRep(w.Body.Bytes(), id.Cert, id.Key); err != nil || reply.Status != scepmsg.StatusSuccess {
		t.Errorf("by GET: %v", err)
	}
	// A challenge of a profile is none of a device, whatever the path.
	if reply := r.post(t, id, r.request(t, id, "one-time")); reply.Status != scepmsg.StatusFailure {
		t.Errorf("at the device CA: %+v", reply)
	}
}

// TestFailInfo: each fault of a request has its word (RFC 8894 section 3.2.1.4.5).
func TestFailInfo(t *testing.T) {
	for code, want := range map[issuance.Code]scepmsg.FailInfo{
		issuance.SubjectAltNameMismatch: scepmsg.BadRequest, issuance.ScepProfileNoLongerTargeted: scepmsg.BadRequest, issuance.RegisteredKeyMismatch: scepmsg.BadMessageCheck,
		issuance.SignatureValidationFailed: scepmsg.BadMessageCheck, issuance.KeyLengthMismatch: scepmsg.BadAlg, issuance.ChallengeExpired: scepmsg.BadTime,
	} {
		r, i, _ := certificates(t)
		i.fault = &issuance.Fault{Code: code, Detail: "because of the test"}
		id := client(t, 1)
		if reply := r.postTo(t, "/scep/softca", id, r.request(t, id, "one-time")); reply.Status != scepmsg.StatusFailure || reply.FailInfo != want {
			t.Errorf("%s: %v %v, want %v", code, reply.Status, reply.FailInfo, want)
		}
	}
}

// TestPendingAndPoll: a CA that takes its time is waited for by polls.
func TestPendingAndPoll(t *testing.T) {
	r, i, mail := certificates(t)
	i.pending = true
	id := client(t, 1)
	m := r.request(t, id, "one-time")
	reply := r.postTo(t, "/scep/softca", id, m)
	if reply.Status != scepmsg.StatusPending {
		t.Fatalf("%v", reply.Status)
	}
	i.pending = false
	poll, err := scepmsg.NewCertPoll(rand.Reader, m.TransactionID, mail.Cert.RawSubject, id.Cert.RawSubject, id.Cert, id.Key, []*x509.Certificate{r.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	if reply := r.postTo(t, "/scep/softca", id, poll); reply.Status != scepmsg.StatusSuccess || i.polled != m.TransactionID {
		t.Errorf("%v, polled %q", reply.Status, i.polled)
	}
	i.fault = &issuance.Fault{Code: issuance.BadRequestIDInChallenge, Detail: "no such request"}
	if reply := r.postTo(t, "/scep/softca", id, poll); reply.Status != scepmsg.StatusFailure || reply.FailInfo != scepmsg.BadCertID {
		t.Errorf("a poll for nothing: %v %v", reply.Status, reply.FailInfo)
	}
}

// TestRenewalByCertificate: signed by the former certificate, it needs no challenge (RFC 8894 section 2.3).
func TestRenewalByCertificate(t *testing.T) {
	r, i, mail := certificates(t)
	former := mail.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, Key: testpki.PoolKey(t, 1)})
	next := client(t, 2)
	i.answer = mail.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, Key: testpki.PoolKey(t, 2)}).Cert.Raw
	csr := identitytest.CSRWithChallenge(t, next, "")
	m, err := scepmsg.NewRenewalReq(rand.Reader, csr, former.Cert, former.Key, []*x509.Certificate{r.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	reply := r.postTo(t, "/scep/softca", &testpki.Identity{Cert: former.Cert, Key: former.Key}, m)
	if reply.Status != scepmsg.StatusSuccess || i.asked[0] != "renew" || !i.former.Equal(former.Cert) {
		t.Errorf("%+v, asked %v", reply, i.asked)
	}
}

// TestRenewalByPKCSReq: clients of the drafts before RFC 8894, and certmonger, renew by a PKCSReq that the former certificate
// signs, with the challenge of long ago. For a device's own identity nothing of the kind is known.
func TestRenewalByPKCSReq(t *testing.T) {
	r, i, mail := certificates(t)
	former := mail.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, Key: testpki.PoolKey(t, 1)})
	i.answer = mail.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, Key: testpki.PoolKey(t, 2)}).Cert.Raw
	m, err := scepmsg.NewPKCSReq(rand.Reader, identitytest.CSRWithChallenge(t, client(t, 2), "used"), former.Cert, former.Key, []*x509.Certificate{r.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	signer := &testpki.Identity{Cert: former.Cert, Key: former.Key}
	if reply := r.postTo(t, "/scep/softca", signer, m); reply.Status != scepmsg.StatusSuccess || i.asked[0] != "renew" || !i.former.Equal(former.Cert) {
		t.Errorf("%+v, asked %v", reply, i.asked)
	}
	i.fault = &issuance.Fault{Code: issuance.BadRequestIDInChallenge, Detail: "not current"}
	if reply := r.postTo(t, "/scep/softca", signer, m); reply.Status != scepmsg.StatusFailure || slices.Contains(i.asked, "begin used") {
		t.Errorf("by a certificate that is not current: %+v, asked %v", reply, i.asked)
	}
	if reply := r.postTo(t, "/scep", signer, m); reply.Status != scepmsg.StatusFailure || reply.FailInfo != scepmsg.BadMessageCheck {
		t.Errorf("for an identity: %+v", reply)
	}
}
