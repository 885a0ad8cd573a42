package connectorapi_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func uris(texts ...string) []*url.URL {
	var out []*url.URL
	for _, s := range texts {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		out = append(out, u)
	}
	return out
}

func request(t *testing.T, key *rsa.PrivateKey) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func deviceOptions() testpki.Options {
	return testpki.Options{CN: "enr-1", URIs: uris(link.EnrolmentURN("enr-1"), link.UserURN("user-1")), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestIdentityAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	csr := request(t, testpki.PoolKey(t, 1))
	j := b.lease(t, link.JobIdentity, link.IdentityJob{CSR: csr.Raw, EnrolmentID: "enr-1", UserID: "user-1"})
	cert := b.deviceCA.IssueCSR(t, csr, deviceOptions())
	before := b.stored
	done, err := b.answer(t, j, link.IdentityAnswer{Certificate: cert.Raw, Chain: [][]byte{b.deviceCA.Cert.Raw}})
	if err != nil || done.Identity == nil || done.Failure != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	c := done.Identity.Certificate
	if done.Identity.EnrolmentID != "enr-1" || c.Kind != model.CertificateIdentity || c.UserID != "user-1" || c.EnrolmentID != "enr-1" || done.Audit.Outcome != "ok" || b.stored != before+1 {
		t.Errorf("%+v", done)
	}
	if _, err = b.answer(t, j, link.IdentityAnswer{Certificate: cert.Raw}); err != nil || len(b.store.completed) != 1 {
		t.Errorf("a repeated answer: %d effects, %v", len(b.store.completed), err)
	}
}

func TestIdentityAnswerRefused(t *testing.T) {
	csr := request(t, testpki.PoolKey(t, 1))
	other := request(t, testpki.PoolKey(t, 2))
	cases := []struct {
		name string
		make func(b *bench) []byte
		word string
	}{
		{"no certificate", func(*bench) []byte { return []byte("x") }, "parsing"},
		{"of another CA", func(b *bench) []byte { return b.mailCA.IssueCSR(t, csr, deviceOptions()).Raw }, "not issued by the device CA"},
		{"for another key", func(b *bench) []byte { return b.deviceCA.IssueCSR(t, other, deviceOptions()).Raw }, "another key"},
		{"of another name", func(b *bench) []byte {
			o := deviceOptions()
			o.CN = "enr-2"
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "not the enrolment"},
		{"of another user", func(b *bench) []byte {
			o := deviceOptions()
			o.URIs = uris(link.EnrolmentURN("enr-1"), link.UserURN("user-2"))
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "URIs"},
		{"with a further name", func(b *bench) []byte {
			o := deviceOptions()
			o.DNS = []string{"mdm.example"}
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "URIs"},
		{"that cannot decrypt", func(b *bench) []byte {
			o := deviceOptions()
			o.KeyUsage = x509.KeyUsageDigitalSignature
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "keyEncipherment"},
		{"without clientAuth", func(b *bench) []byte {
			o := deviceOptions()
			o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "clientAuth"},
		{"that has ended", func(b *bench) []byte {
			o := deviceOptions()
			o.NotAfter = testpki.Now().Add(-time.Hour)
			return b.deviceCA.IssueCSR(t, csr, o).Raw
		}, "compare the clocks"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.ready(t)
			j := b.lease(t, link.JobIdentity, link.IdentityJob{CSR: csr.Raw, EnrolmentID: "enr-1", UserID: "user-1"})
			done, err := b.answer(t, j, link.IdentityAnswer{Certificate: tc.make(b)})
			status(t, err, 422, tc.word)
			if done.Identity != nil || done.Failure == nil || done.Failure.Final || !done.Failure.RetryAt.Equal(testpki.Now().Add(time.Second)) || done.Audit.Outcome != "failed" {
				t.Errorf("%+v", done)
			}
		})
	}
}

func issueJob() link.IssueJob {
	return link.IssueJob{IntentID: "intent-0123456789abcdef", EnrolmentID: "enr-1", DeviceID: "dev-1", UserID: "user-1", Profile: "mail-signing",
		Request: profiles.CertificateRequest{CertificateAuthority: "softca", RevokeOn: []profiles.Event{profiles.EventRetire}},
		SANs:    []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "Alice@corp.test"}}}
}

func sealIssued(t *testing.T, id *testpki.Identity, recordID, owner string, to ...escrow.Member) escrow.Record {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(id.Cert.Raw)
	r, err := escrow.Seal(rand.Reader, recordID, owner, hex.EncodeToString(sum[:]), escrow.Secret{PrivateKey: key, Chain: [][]byte{id.Cert.Raw}}, to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIssueAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	id := b.mailCA.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"Alice@corp.test"}})
	j := b.lease(t, link.JobIssue, issueJob())
	done, err := b.answer(t, j, link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-1"), b.member())})
	if err != nil || done.Issued == nil {
		t.Fatalf("%+v, %v", done, err)
	}
	c := done.Issued.Certificate
	if c.Kind != model.CertificateIssued || c.Purpose != profiles.PurposeSMIMESigning || c.RecordID != issueJob().IntentID || c.DeviceID != "dev-1" ||
		c.Profile != "mail-signing" || c.CA != "softca" || len(c.RevokeOn) != 1 || c.Addresses[0] != "Alice@corp.test" {
		t.Errorf("%+v", c)
	}
}

// TestLateIssueAnswer: the lease ended and another connector took the job; the store hears of the certificate all the same.
func TestLateIssueAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	id := b.mailCA.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"Alice@corp.test"}})
	j := b.lease(t, link.JobIssue, issueJob())
	taken := j
	taken.LeasedBy, taken.Attempt = "another", 2
	b.store.jobs[j.ID] = taken
	done, err := b.answer(t, j, link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-1"), b.member())})
	if err != nil || done.Issued == nil || done.Attempt != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
}

// TestIssueAnswerBeforeTheCA: CAs date their certificates back, and may have been made a minute ago themselves.
func TestIssueAnswerBeforeTheCA(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	id := b.mailCA.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"Alice@corp.test"}, NotBefore: b.mailCA.Cert.NotBefore.Add(-time.Minute)})
	j := b.lease(t, link.JobIssue, issueJob())
	done, err := b.answer(t, j, link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-1"), b.member())})
	if err != nil || done.Issued == nil {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestIssueAnswerAddresses: non-ASCII addresses are otherNames, and a subject may repeat an address that it was asked to.
func TestIssueAnswerAddresses(t *testing.T) {
	asked := issueJob()
	asked.SANs = append([]profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "jürgen@corp.test"}}, asked.SANs...)
	subject, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "Alice@corp.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	asked.Subject = subject
	san := extension(t, []any{
		mailbox{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}, Value: "jürgen@corp.test"},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("Alice@corp.test")}})
	stranger := extension(t, []any{
		mailbox{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}, Value: "bösewicht@corp.test"},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("Alice@corp.test")}})
	b := newBench(t)
	b.ready(t)
	good := b.mailCA.Issue(t, testpki.Options{CN: "Alice", Extensions: []pkix.Extension{san}})
	done, err := b.answer(t, b.lease(t, link.JobIssue, asked), link.IssueAnswer{Certificate: good.Cert.Raw, Record: sealIssued(t, good, asked.IntentID, link.EnrolmentURN("enr-1"), b.member())})
	if err != nil || done.Issued == nil || len(done.Issued.Certificate.Addresses) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	bad := b.mailCA.Issue(t, testpki.Options{CN: "Alice", Extensions: []pkix.Extension{stranger}})
	_, err = b.answer(t, b.lease(t, link.JobIssue, asked), link.IssueAnswer{Certificate: bad.Cert.Raw, Record: sealIssued(t, bad, asked.IntentID, link.EnrolmentURN("enr-1"), b.member())})
	status(t, err, 422, "addresses")
}

// mailbox is the otherName of RFC 9598.
type mailbox struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"explicit,tag:0,utf8"`
}

func extension(t *testing.T, names []any) pkix.Extension {
	t.Helper()
	var all []byte
	for _, n := range names {
		params := ""
		if _, ok := n.(mailbox); ok {
			params = "tag:0"
		}
		der, err := asn1.MarshalWithParams(n, params)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, der...)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: all})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
}

func TestIssueAnswerRefused(t *testing.T) {
	recovery, err := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	if err != nil {
		t.Fatal(err)
	}
	options := testpki.Options{CN: "Alice", Emails: []string{"Alice@corp.test"}}
	plain := func(b *bench, id *testpki.Identity) link.IssueAnswer {
		return link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-1"), b.member())}
	}
	cases := []struct {
		name string
		make func(b *bench) link.IssueAnswer
		word string
	}{
		{"of another CA", func(b *bench) link.IssueAnswer { return plain(b, b.deviceCA.Issue(t, options)) }, "not issued by the CA"},
		{"another spelling", func(b *bench) link.IssueAnswer {
			return plain(b, b.mailCA.Issue(t, testpki.Options{CN: "A", Emails: []string{"alice@corp.test"}}))
		}, "addresses"},
		{"a further address", func(b *bench) link.IssueAnswer {
			return plain(b, b.mailCA.Issue(t, testpki.Options{CN: "A", Emails: []string{"Alice@corp.test", "boss@corp.test"}}))
		}, "addresses"},
		{"a CA certificate", func(b *bench) link.IssueAnswer { return plain(b, &b.mailCA.Intermediate(t, "Alice").Identity) }, "CA certificate"},
		{"record of another intent", func(b *bench) link.IssueAnswer {
			id := b.mailCA.Issue(t, options)
			return link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, "another-0123456789abc", link.EnrolmentURN("enr-1"), b.member())}
		}, "not the ones of this job"},
		{"record of another owner", func(b *bench) link.IssueAnswer {
			id := b.mailCA.Issue(t, options)
			return link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-2"), b.member())}
		}, "not the ones of this job"},
		{"sealed to a stranger", func(b *bench) link.IssueAnswer {
			id := b.mailCA.Issue(t, options)
			return link.IssueAnswer{Certificate: id.Cert.Raw, Record: sealIssued(t, id, issueJob().IntentID, link.EnrolmentURN("enr-1"), b.member(), recovery.Member(escrow.MemberRecovery, "r"))}
		}, "no connector of key set"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.ready(t)
			done, err := b.answer(t, b.lease(t, link.JobIssue, issueJob()), tc.make(b))
			status(t, err, 422, tc.word)
			if done.Issued != nil || done.Failure == nil || done.Failure.Reason != platforms.ReasonIssuePending {
				t.Errorf("%+v", done)
			}
		})
	}
}

func TestRenderAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	payload := link.RenderJob{Document: platforms.Document{ID: "history", Revision: "r1"}, Recipient: []byte("device certificate")}
	done, err := b.answer(t, b.lease(t, link.JobRender, payload), link.RenderAnswer{Payload: []byte("encrypted")})
	if err != nil || done.Rendered == nil || done.Rendered.DocumentID != "history" || done.Rendered.Revision != "r1" || len(done.Rendered.Recipient) != 64 {
		t.Fatalf("%+v, %v", done, err)
	}
	b.rendered = func(platforms.Document, []byte) error { return errors.New("it is not encrypted to the device") }
	done, err = b.answer(t, b.lease(t, link.JobRender, payload), link.RenderAnswer{Payload: []byte("clear")})
	status(t, err, 422, "not encrypted")
	if done.Failure == nil || done.Failure.Reason != platforms.ReasonRenderFailed {
		t.Errorf("%+v", done)
	}
	_, err = b.answer(t, b.lease(t, link.JobRender, payload), link.RenderAnswer{})
	status(t, err, 422, "0 bytes")
}

func TestCN07RevokeAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	done, err := b.answer(t, b.lease(t, link.JobRevoke, link.RevokeJob{Certificate: []byte("c")}), link.RevokeAnswer{RevokedAt: testpki.Now().Add(time.Hour)})
	if err != nil || done.Revoked == nil || !done.Revoked.At.Equal(testpki.Now()) || len(done.Revoked.CertSHA256) != 64 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestRewrapAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	id := b.mailCA.Issue(t, testpki.Options{CN: "A", Emails: []string{"a@corp.test"}})
	record := sealIssued(t, id, "record-0123456789abcdef", link.UserURN("user-1"), b.member())
	further, _ := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	member := further.Member(escrow.MemberConnector, "c2")
	b.store.trust.KeySet = b.keySetOf(t, 2, b.member(), member)
	job := func() model.Job { return b.lease(t, link.JobRewrap, link.RewrapJob{Record: record}) }

	_, err := b.answer(t, job(), link.RewrapAnswer{Record: record})
	status(t, err, 422, "not sealed to member")
	wrapped, err := escrow.Rewrap(rand.Reader, record, b.key, []escrow.Member{b.member(), member})
	if err != nil {
		t.Fatal(err)
	}
	changed := wrapped
	changed.Owner = link.UserURN("user-2")
	_, err = b.answer(t, job(), link.RewrapAnswer{Record: changed})
	status(t, err, 422, "more than the wraps")
	done, err := b.answer(t, job(), link.RewrapAnswer{Record: wrapped})
	if err != nil || done.Rewrapped == nil || !done.Rewrapped.SealedTo(member.ID) {
		t.Errorf("%+v, %v", done, err)
	}
}

// CN-09: a refusal for good is told with its reason, and is not tried again at once.
func TestFailureAnswer(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	j := b.lease(t, link.JobIssue, issueJob())
	long := "refused:\n" + strings.Repeat("x", 10_000)
	if err := b.Result(t.Context(), j.ID, link.Result{Attempt: 1, Error: &link.JobError{Message: long, Final: true}}); err != nil {
		t.Fatal(err)
	}
	f := b.store.completed[0].Failure
	if f == nil || !f.Final || f.Reason != platforms.ReasonIssueRefused || len(f.Message) > 510 || strings.Contains(f.Message, "\n") {
		t.Errorf("%+v", f)
	}
}

// CN-09: what may pass is tried again, at growing distances up to five minutes; what may not ends at once (TestFailureAnswer).
func TestCN09BackOff(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		b := newBench(t)
		b.ready(t)
		j := b.lease(t, link.JobRender, link.RenderJob{})
		j.Attempt = attempt
		b.store.jobs[j.ID] = j
		if err := b.Result(t.Context(), j.ID, link.Result{Attempt: attempt, Error: &link.JobError{Message: "busy"}}); err != nil {
			t.Fatal(err)
		}
		if got := b.store.completed[0].Failure.RetryAt.Sub(testpki.Now()); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
	}
}

func TestResultOfAnotherLease(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	j := b.lease(t, link.JobRender, link.RenderJob{})
	failed := link.Result{Attempt: 1, Error: &link.JobError{Message: "busy"}}
	for name, change := range map[string]func(*model.Job){
		"another connector": func(j *model.Job) { j.LeasedBy = "other" },
		"another attempt":   func(j *model.Job) { j.Attempt = 2 },
		"done":              func(j *model.Job) { j.State = model.JobDone },
	} {
		other := j
		change(&other)
		b.store.jobs[j.ID] = other
		err := b.Client.Result(t.Context(), j.ID, failed)
		if err != nil { // the client takes 409 as no error
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(b.store.completed) != 0 {
		t.Errorf("%+v", b.store.completed)
	}
	status(t, b.Result(t.Context(), "none", failed), 404)
	b.store.jobs[j.ID] = j
	status(t, b.Result(t.Context(), j.ID, link.Result{Attempt: 1}), 400)
}
