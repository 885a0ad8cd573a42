package issuance

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/model"
)

// world is a store in memory, an enrolment with orders, and a connector that answers at once.
type world struct {
	t        *testing.T
	now      time.Time
	orders   map[string][]link.CertifyJob
	requests map[string]model.SCEPRequest
	jobs     map[string]model.Job
	issued   map[string]model.Certificate
	ca       *testpki.CA
	silent   bool
	refuse   string
	svc      *Service
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: testpki.Now(), orders: map[string][]link.CertifyJob{"e-1": {theOrder(t)}}, requests: map[string]model.SCEPRequest{},
		jobs: map[string]model.Job{}, issued: map[string]model.Certificate{}, ca: testpki.NewCA(t, "mail CA")}
	w.svc = New(Config{Store: w, Orders: w, Challenger: challenger(t, 1, &w.now), Clock: func() time.Time { return w.now }, Tick: time.Millisecond})
	return w
}

func (w *world) Orders(_ context.Context, id string) ([]link.CertifyJob, error) {
	if orders, ok := w.orders[id]; ok {
		return orders, nil
	}
	return nil, model.ErrNotFound
}

func (w *world) SCEPRequest(_ context.Context, hash string) (model.SCEPRequest, error) {
	if r, ok := w.requests[hash]; ok {
		return r, nil
	}
	return model.SCEPRequest{}, model.ErrNotFound
}

func (w *world) SCEPRequestByTransaction(_ context.Context, id, key string) (model.SCEPRequest, error) {
	for _, r := range w.requests {
		if r.TransactionID == id && (r.KeySHA256 == key || r.SignerSHA256 == key) {
			return r, nil
		}
	}
	return model.SCEPRequest{}, model.ErrNotFound
}

func (w *world) IssuedCertificate(_ context.Context, sha string) (model.Certificate, error) {
	if c, ok := w.issued[sha]; ok {
		return c, nil
	}
	return model.Certificate{}, model.ErrNotFound
}

func (w *world) JobByID(_ context.Context, id string) (model.Job, error) { return w.jobs[id], nil }

func (w *world) BeginSCEPRequest(_ context.Context, r model.SCEPRequest, job model.Job) (model.SCEPRequest, error) {
	if known, ok := w.requests[r.Hash]; ok {
		if known.KeySHA256 != r.KeySHA256 {
			return known, model.ErrSpent
		}
		known.TransactionID = r.TransactionID
		w.requests[r.Hash] = known
		return known, nil
	}
	r.JobID = "job-" + r.Hash[:8]
	job.ID, job.State = r.JobID, model.JobOpen
	switch {
	case w.refuse != "":
		job.State, job.Error = model.JobFailed, w.refuse
	case !w.silent:
		r.Certificate = w.ca.Issue(w.t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}}).Cert.Raw
	}
	w.jobs[job.ID], w.requests[r.Hash] = job, r
	return r, nil
}

func (w *world) challenge() string {
	w.t.Helper()
	all, err := w.svc.Mint(w.t.Context(), "e-1", []string{"mail-signing"})
	if err != nil {
		w.t.Fatal(err)
	}
	return all["mail-signing"]
}

func (w *world) csr(key int) *x509.CertificateRequest {
	return requestOf(w.t, testpki.PoolKey(w.t, key), theOrder(w.t).Subject)
}

func TestCertificateForADevicesKey(t *testing.T) {
	w := newWorld(t)
	challenge := w.challenge()
	r, err := w.svc.Begin(t.Context(), challenge, "t-1", w.csr(1))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = w.svc.Answer(t.Context(), r); err != nil || len(r.Certificate) == 0 || r.EnrolmentID != "e-1" || r.RequestID != request {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := w.svc.Begin(t.Context(), challenge, "t-2", w.csr(1)); err != nil || string(again.Certificate) != string(r.Certificate) {
		t.Errorf("the same question again: %v", err)
	}
	w.orders["e-1"] = nil // changed since: what is issued is given
	if again, err := w.svc.Begin(t.Context(), challenge, "t-2", w.csr(1)); err != nil || string(again.Certificate) != string(r.Certificate) {
		t.Errorf("the same question again: %v", err)
	}
	if polled, err := w.svc.Poll(t.Context(), "t-1", testpki.SelfSigned(t, testpki.Options{Key: testpki.PoolKey(t, 1)}).Cert); err != nil || polled.Hash != r.Hash {
		t.Errorf("polled: %v", err)
	}
	if _, err := w.svc.Poll(t.Context(), "t-1", testpki.SelfSigned(t, testpki.Options{Key: testpki.PoolKey(t, 2)}).Cert); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("polled by another key: %v", err)
	}
	if strings.Contains(r.Hash, challenge) {
		t.Error("the challenge is kept")
	}
}

// TestCertificateCameTooLate: a request whose certificate nobody was to have any more is not waited for.
func TestCertificateCameTooLate(t *testing.T) {
	w := newWorld(t)
	w.silent = true
	r, err := w.svc.Begin(t.Context(), w.challenge(), "t-1", w.csr(1))
	if err != nil {
		t.Fatal(err)
	}
	job := w.jobs[r.JobID]
	job.State = model.JobDone
	w.jobs[r.JobID] = job
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := w.svc.Answer(ctx, r); codeOf(err) != BadDeviceIDInChallenge {
		t.Errorf("got %v", err)
	}
}

// TestSC03ChallengeMisused: used twice, for another device or name or key, after expiry, after the profile was taken away; each
// gets its code, and nothing is issued (PA-07, SC-03).
func TestSC03ChallengeMisused(t *testing.T) {
	cases := []struct {
		name string
		act  func(w *world, challenge string) error
		want Code
	}{
		{"another key", func(w *world, c string) error {
			if _, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(1)); err != nil {
				return err
			}
			_, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(2))
			return err
		}, RegisteredKeyMismatch},
		{"another name", func(w *world, c string) error {
			_, err := w.svc.Begin(w.t.Context(), c, "t", requestOf(w.t, testpki.PoolKey(w.t, 1), []byte{0x30, 0}, extension(w.t, oidSubjectAltName, names(name(1, "boss@corp.test")))))
			return err
		}, SubjectAltNameMismatch},
		{"expired", func(w *world, c string) error {
			w.now = w.now.Add(ChallengeLife + time.Second)
			_, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(1))
			return err
		}, ChallengeExpired},
		{"unassigned", func(w *world, c string) error {
			w.orders["e-1"] = nil
			_, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(1))
			return err
		}, ScepProfileNoLongerTargeted},
		{"another request by now", func(w *world, c string) error {
			w.orders["e-1"][0].RequestID = strings.Repeat("ab", 16)
			_, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(1))
			return err
		}, ScepProfileNoLongerTargeted},
		{"no such enrolment", func(w *world, c string) error {
			w.orders = map[string][]link.CertifyJob{}
			_, err := w.svc.Begin(w.t.Context(), c, "t", requestOf(w.t, testpki.PoolKey(w.t, 1), []byte{0x30, 0}))
			return err
		}, BadDeviceIDInChallenge},
		{"the CA refuses", func(w *world, c string) error {
			w.refuse = "softca, profile mail-signing: no such template"
			r, err := w.svc.Begin(w.t.Context(), c, "t", w.csr(1))
			if err != nil {
				return err
			}
			_, err = w.svc.Answer(w.t.Context(), r)
			return err
		}, BadRequestIDInChallenge},
		{"bent request", func(w *world, c string) error {
			csr := w.csr(1)
			csr.Signature[5] ^= 1
			_, err := w.svc.Begin(w.t.Context(), c, "t", csr)
			return err
		}, SignatureValidationFailed},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			challenge := w.challenge()
			if err := tc.act(w, challenge); codeOf(err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestNoConnectorAnswers(t *testing.T) {
	w := newWorld(t)
	w.silent = true
	r, err := w.svc.Begin(t.Context(), w.challenge(), "t", w.csr(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.svc.Answer(ctx, r); !errors.Is(err, ErrPending) {
		t.Errorf("got %v", err)
	}
}

// TestPollForWhatIsPending: by the key that signed the request, which in a renewal is the former one (RFC 8894 section 3.3.3),
// and by the name that the client gave it last.
func TestPollForWhatIsPending(t *testing.T) {
	w := newWorld(t)
	w.silent = true
	former := w.ca.Issue(t, testpki.Options{CN: "Alice", Key: testpki.PoolKey(t, 3)}).Cert
	known, _, err := model.NewCertificate(former.Raw)
	if err != nil {
		t.Fatal(err)
	}
	known.Profile, known.EnrolmentID, known.RecordID, known.Status = "mail-signing", "e-1", strings.Repeat("ab", 16), model.CertificateCurrent
	w.issued[known.SHA256] = known
	if _, err := w.svc.Renew(t.Context(), former, "t-1", w.csr(2)); err != nil {
		t.Fatal(err)
	}
	next := testpki.SelfSigned(t, testpki.Options{Key: testpki.PoolKey(t, 2)}).Cert
	for _, signer := range []*x509.Certificate{former, next} {
		if _, err := w.svc.Poll(t.Context(), "t-1", signer); err != nil {
			t.Errorf("renewal: %v", err)
		}
	}
	if _, err := w.svc.Renew(t.Context(), former, "t-2", w.csr(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.Poll(t.Context(), "t-2", former); err != nil {
		t.Errorf("under another name: %v", err)
	}
	challenge := w.challenge()
	for _, name := range []string{"t-3", "t-4"} {
		if _, err := w.svc.Begin(t.Context(), challenge, name, w.csr(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.svc.Poll(t.Context(), name, testpki.SelfSigned(t, testpki.Options{Key: testpki.PoolKey(t, 1)}).Cert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRenewal: by the certificate in place of a challenge, once it is due and no earlier.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	former := w.ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}}).Cert
	known, _, err := model.NewCertificate(former.Raw)
	if err != nil {
		t.Fatal(err)
	}
	known.Profile, known.EnrolmentID, known.RecordID, known.Status = "mail-signing", "e-1", request, model.CertificateCurrent
	w.issued[known.SHA256] = known
	if _, err := w.svc.Renew(t.Context(), former, "t", w.csr(2)); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("not due: %v", err)
	}
	w.orders["e-1"][0].RequestID = strings.Repeat("ab", 16)
	r, err := w.svc.Renew(t.Context(), former, "t", w.csr(2))
	if err != nil || len(r.Certificate) == 0 || r.RequestID != strings.Repeat("ab", 16) {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := w.svc.Renew(t.Context(), former, "t", w.csr(2)); err != nil || again.Hash != r.Hash {
		t.Errorf("again: %v", err)
	}
	known.Status = model.CertificateRevoked
	w.issued[known.SHA256] = known
	if _, err := w.svc.Renew(t.Context(), former, "t", w.csr(3)); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("by a revoked certificate: %v", err)
	}
	if _, err := w.svc.Renew(t.Context(), w.ca.Issue(t, testpki.Options{CN: "x"}).Cert, "t", w.csr(3)); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("by an unknown certificate: %v", err)
	}
}
