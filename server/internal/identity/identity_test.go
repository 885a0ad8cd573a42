package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
)

// clock is a clock that the test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

type rig struct {
	*identity.Service
	store *identitytest.Store
	clock *clock
	ca    *testpki.CA
	ticks chan time.Time
}

func newRig(t *testing.T) *rig {
	r := &rig{store: identitytest.New(), clock: &clock{testpki.Now()}, ca: testpki.NewCA(t, "device CA"), ticks: make(chan time.Time)}
	r.Service = identity.New(identity.Config{Store: r.store, Jobs: r.store, Clock: r.clock.read,
		Ticks: func(time.Duration) (<-chan time.Time, func()) { return r.ticks, func() {} }})
	return r
}

func (r *rig) link(t *testing.T) string {
	t.Helper()
	token, err := r.CreateLink(t.Context(), model.User{ID: "u1", UPN: "alice@example.com"}, profiles.IOS, 0)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (r *rig) download(t *testing.T) (challenge, enrolment string) {
	t.Helper()
	challenge, enrolment, err := r.Profile(t.Context(), r.link(t))
	if err != nil {
		t.Fatal(err)
	}
	return challenge, enrolment
}

func request(t *testing.T, n int, template *x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	return identitytest.CSR(t, template, &testpki.Identity{Key: testpki.PoolKey(t, n)})
}

func TestTokensHave256BitsAndAreStoredAsHashes(t *testing.T) {
	r := newRig(t)
	token := r.link(t)
	if raw, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(raw) != 32 {
		t.Fatalf("token %q: %d bytes, %v", token, len(raw), err)
	}
	l, err := r.Link(t.Context(), token)
	if err != nil || l.UserID != "u1" || l.TokenHash == token || l.TokenHash != identity.Hash(token) {
		t.Fatalf("link %+v, %v", l, err)
	}
	if again := r.link(t); again == token {
		t.Fatal("two links have one token")
	}
	for _, a := range r.store.Audit() {
		if strings.Contains(a.Object+a.Detail["link"], token) {
			t.Fatal("the audit log holds a token")
		}
	}
}

func TestLinkLife(t *testing.T) {
	r := newRig(t)
	token := r.link(t)
	r.clock.now = r.clock.now.Add(identity.DefaultLinkLife - time.Second)
	if _, err := r.Link(t.Context(), token); err != nil {
		t.Fatalf("a second before the end: %v", err)
	}
	r.clock.now = r.clock.now.Add(time.Second)
	if _, err := r.Link(t.Context(), token); !errors.Is(err, model.ErrExpired) {
		t.Fatalf("at the end: %v", err)
	}
	if _, _, err := r.Profile(t.Context(), token); !errors.Is(err, model.ErrExpired) {
		t.Fatalf("profile of an expired link: %v", err)
	}
	if _, err := r.Link(t.Context(), "nonsense"); !errors.Is(err, model.ErrNotFound) {
		t.Fatalf("an unknown link: %v", err)
	}
	for _, life := range []time.Duration{-time.Second, identity.MaxLinkLife + 1} {
		var refusal *identity.Refusal
		if _, err := r.CreateLink(t.Context(), model.User{}, profiles.IOS, life); !errors.As(err, &refusal) {
			t.Errorf("a link for %s: %v", life, err)
		}
	}
}

func TestRedeemSpendsAChallengeOnOneKey(t *testing.T) {
	r := newRig(t)
	challenge, enrolment := r.download(t)
	csr := request(t, 1, &x509.CertificateRequest{})
	c, err := r.Redeem(t.Context(), challenge, csr)
	if err != nil || c.EnrolmentID != enrolment || c.JobID == "" {
		t.Fatalf("first request: %+v, %v", c, err)
	}
	again, err := r.Redeem(t.Context(), challenge, csr)
	if err != nil || again.JobID != c.JobID {
		t.Fatalf("same key again: %+v, %v", again, err)
	}
	if _, err := r.Redeem(t.Context(), challenge, request(t, 2, &x509.CertificateRequest{})); !errors.Is(err, model.ErrSpent) {
		t.Fatalf("another key: %v", err)
	}
	if _, err := r.Redeem(t.Context(), "guess", csr); !errors.Is(err, model.ErrNotFound) {
		t.Fatalf("a guessed challenge: %v", err)
	}
}

func TestRedeemTooLate(t *testing.T) {
	r := newRig(t)
	challenge, _ := r.download(t)
	r.clock.now = r.clock.now.Add(identity.ChallengeLife)
	if _, err := r.Redeem(t.Context(), challenge, request(t, 1, &x509.CertificateRequest{})); !errors.Is(err, model.ErrExpired) {
		t.Fatalf("after 15 minutes: %v", err)
	}
}

// TestRedeemRefuses holds every fault that a request can have besides its challenge.
func TestRedeemRefuses(t *testing.T) {
	r := newRig(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("no small RSA keys here: %v", err)
	}
	ec := testpki.SelfSigned(t, testpki.Options{CN: "ec", KeyType: testpki.P256})
	pool := &testpki.Identity{Key: testpki.PoolKey(t, 1)}
	ext := func(oid asn1.ObjectIdentifier, v any) *x509.CertificateRequest {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oid, Value: der}}}
	}
	san, eku, bc := asn1.ObjectIdentifier{2, 5, 29, 17}, asn1.ObjectIdentifier{2, 5, 29, 37}, asn1.ObjectIdentifier{2, 5, 29, 19}
	upn := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{0x06, 0x01, 0x2a}}
	tests := []struct {
		name string
		id   *testpki.Identity
		csr  *x509.CertificateRequest
		want string
	}{
		{"a small key", &testpki.Identity{Key: small}, &x509.CertificateRequest{}, "1024 bits"},
		{"an EC key", ec, &x509.CertificateRequest{}, "needs RSA"},
		{"a mail address", pool, &x509.CertificateRequest{EmailAddresses: []string{"ceo@example.com"}}, "not bound to"},
		{"a host name", pool, &x509.CertificateRequest{DNSNames: []string{"mail.example.com"}}, "not bound to"},
		{"a name that crypto/x509 skips", pool, ext(san, []asn1.RawValue{upn}), "not bound to"},
		{"another usage", pool, ext(eku, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 4}}), "only clientAuth"},
		{"a CA", pool, ext(bc, struct{ CA bool }{true}), "CA certificate"},
		{"broken usage", pool, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: eku, Value: []byte{0x30}}}}, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			challenge, _ := r.download(t)
			var refusal *identity.Refusal
			_, err := r.Redeem(t.Context(), challenge, identitytest.CSR(t, tt.csr, tt.id))
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, tt.want) {
				t.Fatalf("got %v, want a refusal with %q", err, tt.want)
			}
			if _, err := r.Redeem(t.Context(), challenge, request(t, 3, &x509.CertificateRequest{})); err != nil {
				t.Fatalf("the refused request spent the challenge: %v", err)
			}
		})
	}
}

func TestRedeemAllowsWhatTheCertificateGetsAnyway(t *testing.T) {
	r := newRig(t)
	challenge, enrolment := r.download(t)
	uris := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(link.EnrolmentURN(enrolment))}}
	san, err := asn1.Marshal(uris)
	if err != nil {
		t.Fatal(err)
	}
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})
	if err != nil {
		t.Fatal(err)
	}
	csr := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "whatever!"}, ExtraExtensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}, {Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: eku}}}
	if _, err := r.Redeem(t.Context(), challenge, request(t, 1, csr)); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenSelfSignature(t *testing.T) {
	r := newRig(t)
	challenge, _ := r.download(t)
	csr := request(t, 1, &x509.CertificateRequest{})
	csr.Signature[0] ^= 1
	var refusal *identity.Refusal
	if _, err := r.Redeem(t.Context(), challenge, csr); !errors.As(err, &refusal) {
		t.Fatalf("got %v", err)
	}
}

// TestAnswer waits for a certificate in each way that one can come or fail to come.
func TestAnswer(t *testing.T) {
	start := func(t *testing.T) (*rig, model.Challenge, model.Job) {
		r := newRig(t)
		challenge, _ := r.download(t)
		c, err := r.Redeem(t.Context(), challenge, request(t, 1, &x509.CertificateRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		job, err := r.store.JobByID(t.Context(), c.JobID)
		if err != nil {
			t.Fatal(err)
		}
		return r, c, job
	}
	wait := func(r *rig, ctx context.Context, c model.Challenge) <-chan error {
		done := make(chan error, 1)
		go func() {
			got, err := r.Answer(ctx, c)
			if err == nil && len(got.Certificate) == 0 {
				err = errors.New("no certificate")
			}
			done <- err
		}()
		return done
	}
	t.Run("of another node, seen at a tick", func(t *testing.T) {
		r, c, job := start(t)
		done := wait(r, t.Context(), c)
		r.ticks <- time.Time{} // the first look is over
		r.store.Certify(t, r.ca, job)
		r.ticks <- time.Time{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("of this node, by a kick", func(t *testing.T) {
		r, c, job := start(t)
		done := wait(r, t.Context(), c)
		r.ticks <- time.Time{}
		r.store.Certify(t, r.ca, job)
		r.Kick()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("refused by the connector", func(t *testing.T) {
		r, c, job := start(t)
		r.store.Fail(job.ID, "no")
		var refusal *identity.Refusal
		if err := <-wait(r, t.Context(), c); !errors.As(err, &refusal) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("never", func(t *testing.T) {
		r, c, _ := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := wait(r, ctx, c)
		r.ticks <- time.Time{}
		cancel()
		if err := <-done; !errors.Is(err, identity.ErrPending) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestALinkIsSpentByItsFirstCertificate(t *testing.T) {
	r := newRig(t)
	token := r.link(t)
	first, _, err := r.Profile(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := r.Profile(t.Context(), token)
	if err != nil {
		t.Fatalf("a second download before the first certificate: %v", err)
	}
	r.store.Created = func(j model.Job) { r.store.Certify(t, r.ca, j) }
	if _, err := r.Redeem(t.Context(), first, request(t, 1, &x509.CertificateRequest{})); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Redeem(t.Context(), second, request(t, 2, &x509.CertificateRequest{})); !errors.Is(err, model.ErrSpent) {
		t.Fatalf("the other download after the first certificate: %v", err)
	}
	if _, err := r.Link(t.Context(), token); !errors.Is(err, model.ErrSpent) {
		t.Fatalf("the link: %v", err)
	}
}

func TestTokenUpdateMarksAForeignTopic(t *testing.T) {
	tests := []struct {
		topic, current string
		want           bool
	}{
		{"com.apple.mgmt.External.a", "com.apple.mgmt.External.a", false},
		{"com.apple.mgmt.External.a", "", false},
		{"com.apple.mgmt.External.a", "com.apple.mgmt.External.b", true},
	}
	for _, tt := range tests {
		r := newRig(t)
		enr := model.Enrolment{ID: "e1"}
		r.store.PutEnrolment(enr)
		if err := r.TokenUpdate(t.Context(), enr, []byte{1}, "m", tt.topic, tt.current); err != nil {
			t.Fatal(err)
		}
		if got := r.store.Enrolment("e1").MustReenroll; got != tt.want {
			t.Errorf("topic %q under %q: MustReenroll %v", tt.topic, tt.current, got)
		}
	}
}
