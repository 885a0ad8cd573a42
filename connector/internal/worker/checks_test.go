package worker

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

// The checks of docs/checks.md that are this package's to keep.

// TestPK01EachDeviceItsOwn: one user, one profile, two devices; and the first device again when its certificate is due.
func TestPK01EachDeviceItsOwn(t *testing.T) {
	h := newHouse(t)
	var certs []*x509.Certificate
	for _, p := range []link.IssueJob{issueJob(t, "intent-0000000000000001", "e1"), issueJob(t, "intent-0000000000000002", "e2"), issueJob(t, "intent-0000000000000003", "e1")} {
		answer, jobErr := do[link.IssueAnswer](t, h, p.IntentID, link.JobIssue, p)
		if jobErr != nil {
			t.Fatal(jobErr.Message)
		}
		certs = append(certs, parse(t, answer.Certificate))
	}
	distinct := func(t *testing.T, a, b *x509.Certificate) {
		if a.SerialNumber.Cmp(b.SerialNumber) == 0 || bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) {
			t.Error("the two share a serial number or a key")
		}
		if !bytes.Equal(a.RawSubject, b.RawSubject) {
			t.Error("the two have different names")
		}
	}
	t.Run("PK-01 two devices", func(t *testing.T) { distinct(t, certs[0], certs[1]) })
	t.Run("PK-10 the next one of a device", func(t *testing.T) { distinct(t, certs[0], certs[2]) })
}

// request is a device's own, with extensions.
func request(t *testing.T, extensions ...pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Somebody Else"},
		EmailAddresses: []string{"ceo@corp.test"}, ExtraExtensions: extensions}, deviceKey())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certifyJob is issueJob's certificate for a key that the device has.
func certifyJob(t *testing.T, intent string, csr []byte) link.CertifyJob {
	p := issueJob(t, intent, "e1")
	return link.CertifyJob{IntentID: intent, RequestID: "00112233445566778899aabbccddeeff", CSR: csr, EnrolmentID: p.EnrolmentID, DeviceID: p.DeviceID,
		UserID: p.UserID, Profile: p.Profile, Subject: p.Subject, Request: p.Request, SANs: p.SANs}
}

// TestSC09NothingOfTheRequestButItsKey: whatever extensions a client adds, the certificate has those of the profile.
func TestSC09NothingOfTheRequestButItsKey(t *testing.T) {
	h := newHouse(t)
	text, err := asn1.Marshal("of the client")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	var added []pkix.Extension
	for _, id := range []asn1.ObjectIdentifier{{2, 5, 29, 1}, {2, 5, 29, 3}, {1, 3, 6, 1, 4, 1, 311, 20, 2}, {1, 3, 6, 1, 4, 1, 311, 21, 8},
		{2, 16, 840, 1, 113730, 1, 11}, {1, 3, 6, 1, 4, 1, 311, 25, 2}, {1, 2, 3, 4}} {
		added = append(added, pkix.Extension{Id: id, Value: text})
	}
	plain, jobErr := do[link.CertifyAnswer](t, h, "plain", link.JobCertify, certifyJob(t, "intent-0000000000000001", request(t)))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	added = append(added, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: ca})
	laden, jobErr := do[link.CertifyAnswer](t, h, "laden", link.JobCertify, certifyJob(t, "intent-0000000000000002", request(t, added...)))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	of := func(der []byte) string {
		cert := parse(t, der)
		if cert.Subject.String() != "CN=Alice Example" || strings.Join(cert.EmailAddresses, " ") != "Alice@corp.test" || cert.IsCA || !deviceKey().PublicKey.Equal(cert.PublicKey) {
			t.Errorf("%s, %v, CA %v", cert.Subject, cert.EmailAddresses, cert.IsCA)
		}
		var ids []string
		for _, e := range cert.Extensions {
			ids = append(ids, e.Id.String())
		}
		return strings.Join(ids, " ")
	}
	if a, b := of(plain.Certificate), of(laden.Certificate); a != b {
		t.Errorf("extensions %s, want %s", b, a)
	}
}

// TestSC10NoLongerThanTheCA: a certificate ends when it was asked to, or with its CA if that is sooner.
func TestSC10NoLongerThanTheCA(t *testing.T) {
	h := newHouse(t)
	now := testNow
	h.options.Clock = func() time.Time { return now }
	k, err := keyring.Open(h.dir, h.options)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := k.Authority(keyring.SoftCA)
	if err != nil {
		t.Fatal(err)
	}
	end := issuing.Certificate.NotAfter
	for name, c := range map[string]struct {
		at    time.Time
		asked time.Duration
		want  time.Time
	}{
		"SC-10 as asked":           {testNow, 30 * 24 * time.Hour, testNow.Add(30 * 24 * time.Hour)},
		"SC-10 the CA ends before": {end.Add(-10 * 24 * time.Hour), 365 * 24 * time.Hour, end},
		"SC-10 the CA has ended":   {end.Add(time.Hour), 365 * 24 * time.Hour, time.Time{}},
		"SC-10 longer than any":    {testNow, 900 * 24 * time.Hour, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			now = c.at
			p := issueJob(t, strings.ToLower("intent-"+hash([]byte(name))[:20]), "e1")
			p.Request.Validity = profiles.Duration(c.asked)
			answer, jobErr := do[link.IssueAnswer](t, h, name, link.JobIssue, p)
			if c.want.IsZero() {
				if jobErr == nil || !jobErr.Final {
					t.Fatalf("%+v", jobErr)
				}
				return
			}
			if jobErr != nil {
				t.Fatal(jobErr.Message)
			}
			if got := parse(t, answer.Certificate).NotAfter; got.After(c.want) || c.want.Sub(got) > time.Hour {
				t.Errorf("it ends %s, want %s", got, c.want)
			}
		})
	}
}

// TestCN08EachJobIsWrittenDown: a line for each thing that was done or refused, with the job (TestNoKeyOutside: and no secret).
func TestCN08EachJobIsWrittenDown(t *testing.T) {
	h := newHouse(t)
	device := h.device(t, "e1", "u1")
	record, cert := h.imported(t, "u1")
	issued, jobErr := do[link.IssueAnswer](t, h, "job-issue", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	_, certified := do[link.CertifyAnswer](t, h, "job-certify", link.JobCertify, certifyJob(t, "intent-0000000000000002", request(t)))
	_, rendered := do[link.RenderAnswer](t, h, "job-render", link.JobRender, renderJob(history(t, cert), device.Raw, record))
	_, stranger := do[link.RenderAnswer](t, h, "job-stranger", link.JobRender, renderJob(history(t, cert), selfSigned(t, device), record))
	_, revoked := do[link.RevokeAnswer](t, h, "job-revoke", link.JobRevoke, link.RevokeJob{CA: "softca", Certificate: issued.Certificate, ReasonCode: 5, At: testNow})
	if certified != nil || rendered != nil || stranger == nil || revoked != nil {
		t.Fatalf("%+v %+v %+v %+v", certified, rendered, stranger, revoked)
	}
	lines := map[string]keyring.Action{}
	for line := range strings.Lines(h.audit(t)) {
		var e keyring.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.At.IsZero() {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Job != "" && lines[e.Job] != "" {
			t.Errorf("two lines for %s", e.Job)
		}
		lines[e.Job] = e.Action
	}
	for job, want := range map[string]keyring.Action{"identity-e1": keyring.ActionIdentity, "job-issue": keyring.ActionIssue, "job-certify": keyring.ActionIssue,
		"job-render": keyring.ActionRelease, "job-stranger": keyring.ActionRefuse, "job-revoke": keyring.ActionRevoke} {
		if lines[job] != want {
			t.Errorf("%s is written down as %q, want %q", job, lines[job], want)
		}
	}
}
