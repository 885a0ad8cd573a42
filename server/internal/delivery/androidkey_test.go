package delivery_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

var ownSum = strings.Repeat("cd", 32)

// askingPhone is one that is to make a signing key, and has its CA certificate.
func askingPhone(t *testing.T) (*phone, companion.Item) {
	t.Helper()
	p := newPhone(t)
	s := &p.store.snapshot
	s.CAs = []link.CA{{Name: "corp", Kind: "softca", Certificate: testpki.NewCA(t, "Corp issuing").Cert.Raw, Members: []string{"m1"}}}
	s.Objects = append(s.Objects[:1:1], profiles.Object{Kind: profiles.KindSCEPCertificate, Name: "own", Spec: &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{
		CertificateAuthority: "corp", Subject: "CN={{UserPrincipalName}}"}}}, assigned("root", "own"))
	p.done(p.item("ca:"), companion.StateInstalled)
	own := p.item("identity:")
	if own.Identity == nil || own.Identity.Payload != companion.PayloadGenerate || !own.Identity.Current || own.Identity.CertSHA256 != "" {
		t.Fatalf("%+v", own)
	}
	return p, own
}

// certified lets the phone have had a certificate for its key.
func (p *phone) certified(sum, request string, status model.CertificateStatus) {
	s := &p.store.snapshot
	p.now = p.now.Add(time.Second)
	s.Issued = append(s.Issued, model.Certificate{Kind: model.CertificateIssued, Profile: "own", EnrolmentID: "e1", Status: status, CreatedAt: p.now,
		Certificate: profiles.Certificate{SHA256: sum, RecordID: request, NotBefore: p.now, NotAfter: p.now.AddDate(1, 0, 0)}})
	s.Enrolment.Dirty = true
	s.Enrolment.Version++
}

func (p *phone) request(item, revision string) (string, error) {
	return p.a.Request(p.t.Context(), p.enr(), item, revision)
}

func holding(sum string) func(*companion.StatusReport) {
	return func(r *companion.StatusReport) {
		r.Observed = &companion.Observed{Alias: "a", CertSHA256: sum, HasKeyPair: true}
	}
}

func TestAndroidMakesItsOwnKey(t *testing.T) {
	p, own := askingPhone(t)
	id, err := p.request(own.ID, own.Revision)
	if err != nil || !strings.HasPrefix(id, strings.TrimPrefix(own.Identity.Alias, "smime-sign-")) {
		t.Fatal(id, err)
	}
	p.certified(ownSum, id, model.CertificateCurrent)
	if again, err := p.request(own.ID, own.Revision); err != nil || again != id {
		t.Errorf("asked again: %s %v", again, err)
	}
	if i := p.item("identity:"); i.Revision != own.Revision || i.ID != own.ID || i.Identity.CertSHA256 != ownSum {
		t.Errorf("%+v", i)
	}
	if err := p.report(own, companion.StateInstalled, holding(ownSum)); err != nil {
		t.Fatal(err)
	}
	held := companion.Held{Alias: own.Identity.Alias, CertSHA256: strings.Repeat("ef", 32), Present: true}
	ca := p.item("ca:").CACert.SHA256
	for _, c := range []struct {
		sum  string
		want model.DocumentStatus
	}{{held.CertSHA256, model.DocumentInstalled}, {ownSum, model.DocumentVerified}} {
		held.CertSHA256 = c.sum
		p.inv = companion.Inventory{CAs: []string{ca}, Identities: []companion.Held{held}}
		p.inventory()
		if d := p.doc("identity.own"); d.Status != c.want {
			t.Errorf("with %s it is %s: %s", c.sum[:2], d.Status, d.Detail)
		}
	}
}

func TestAndroidIsAskedForWhatIsWanted(t *testing.T) {
	p, own := askingPhone(t)
	if _, err := p.request("identity:smime-sign-000000000000", own.Revision); code(err) != companion.CodeItemGone {
		t.Errorf("another item: %v", err)
	}
	if _, err := p.request(own.ID, "r0"); code(err) != companion.CodeRevisionStale {
		t.Errorf("another revision: %v", err)
	}
	id, err := p.request(own.ID, own.Revision)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		p.certified(ownSum, id, model.CertificateSuperseded)
	}
	p.certified(ownSum, id, model.CertificateCurrent)
	if _, err := p.request(own.ID, own.Revision); code(err) != companion.CodeCSRRefused {
		t.Errorf("for ever: %v", err)
	}
	p.store.snapshot.Objects = p.store.snapshot.Objects[:1]
	p.store.snapshot.Enrolment.Dirty = true
	if _, err := p.request(own.ID, own.Revision); code(err) != companion.CodeItemGone {
		t.Errorf("unassigned: %v", err)
	}
}

// A certificate that was not issued for the key's request is none. One that is not current any more is followed by another
// request.
func TestAndroidShowsAnotherCertificate(t *testing.T) {
	p, own := askingPhone(t)
	if err := p.report(own, companion.StateInstalled, holding(ownSum)); err != nil {
		t.Fatal(err)
	}
	if d := p.doc("identity.own"); d.Status != model.DocumentFailed || !strings.Contains(d.Detail, "holds certificate "+ownSum) {
		t.Errorf("of nobody: %s %s", d.Status, d.Detail)
	}
	p, own = askingPhone(t)
	id, err := p.request(own.ID, own.Revision)
	if err != nil {
		t.Fatal(err)
	}
	p.certified(ownSum, id, model.CertificateSuperseded)
	if err := p.report(own, companion.StateInstalled, holding(ownSum)); err != nil {
		t.Fatal(err)
	}
	if d := p.doc("identity.own"); d.InstalledRevision != "" || d.Document.Revision == own.Revision || d.Status != model.DocumentSent {
		t.Errorf("superseded: %s %s", d.Status, d.Detail)
	}
}

// What takes its time is said once, and counts as coming by itself.
func TestAndroidAsksForLong(t *testing.T) {
	p, own := askingPhone(t)
	for range 3 {
		if err := p.a.Asking(t.Context(), p.enr(), own.ID, own.Revision); err != nil {
			t.Fatal(err)
		}
	}
	p.known = ""
	s := p.state()
	if d := p.doc("identity.own"); d.Reason != platforms.ReasonIssuePending || d.Status != model.DocumentSent || s.Pending != 1 {
		t.Errorf("%s %s, %d pending", d.Status, d.Reason, s.Pending)
	}
	version := p.enr().Version
	if err := p.a.Asking(t.Context(), p.enr(), own.ID, own.Revision); err != nil || p.enr().Version != version {
		t.Errorf("no news were written: version %d became %d, %v", version, p.enr().Version, err)
	}
	if err := p.a.Asking(t.Context(), p.enr(), own.ID, "r0"); err != nil || p.enr().Version != version {
		t.Error("something was written of another revision", err)
	}
}

// Why it takes its time, the connector says; that is no news to the phone.
func TestAndroidAsksACAThatIsAway(t *testing.T) {
	p, own := askingPhone(t)
	id, err := p.request(own.ID, own.Revision)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(link.CertifyJob{Profile: "own", RequestID: id})
	if err != nil {
		t.Fatal(err)
	}
	p.store.jobs["certify:x"] = model.Job{Key: "certify:x", Kind: link.JobCertify, State: model.JobOpen, Payload: payload, Error: "CA corp: it does not answer", CreatedAt: p.now}
	for range 3 {
		if err := p.a.Asking(t.Context(), p.enr(), own.ID, own.Revision); err != nil {
			t.Fatal(err)
		}
		p.known = ""
		p.state()
	}
	version := p.enr().Version
	d := p.doc("identity.own")
	if d.Reason != platforms.ReasonIssuePending || strings.Count(d.Detail, "it does not answer") != 1 || !strings.Contains(d.Detail, "asks for the certificate") {
		t.Errorf("%s %q", d.Reason, d.Detail)
	}
	if err := p.a.Asking(t.Context(), p.enr(), own.ID, own.Revision); err != nil || p.enr().Version != version {
		t.Errorf("no news were written: version %d became %d, %v", version, p.enr().Version, err)
	}
}
