package delivery_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

// phone is a companion app that does as the test says, around the real planner.
type phone struct {
	t     *testing.T
	a     *delivery.Android
	store *kept
	now   time.Time
	seq   int64
	known string
	inv   companion.Inventory
}

var keySum = strings.Repeat("ab", 32)

func newPhone(t *testing.T) *phone {
	ca := testpki.NewCA(t, "Corp root")
	p := &phone{t: t, now: now, store: &kept{jobs: map[string]model.Job{}}}
	s := &p.store.snapshot
	s.Device = model.Device{ID: "d1", UserID: "u1", Platform: profiles.Android, State: model.DeviceEnrolled, OSVersion: "15"}
	s.Enrolment = model.Enrolment{ID: "e1", DeviceID: "d1", UserID: "u1", Platform: profiles.Android, State: model.EnrolmentActive,
		Certificate: []byte("wrap"), CertSHA256: "aa", Dirty: true}
	s.User = model.User{ID: "u1", UPN: "dave@corp.test", Spec: profiles.User{Addresses: []string{"dave@corp.test"}}}
	s.ConnectorSeen = now
	s.Objects = []profiles.Object{
		{Kind: profiles.KindTrustedCertificate, Name: "root", Spec: &profiles.TrustedCertificate{Certificate: ca.Cert.Raw}},
		{Kind: profiles.KindPKCSImportedCertificate, Name: "hist", Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}},
		assigned("root", "hist"),
	}
	s.Imported = []model.Certificate{{Kind: model.CertificateImported, Certificate: profiles.Certificate{SHA256: keySum, RecordID: "r1",
		Purpose: profiles.PurposeSMIMEEncryption, Addresses: []string{"dave@corp.test"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}}}
	s.Records = map[string]escrow.Record{"r1": {ID: "r1", Wraps: []escrow.Wrap{{Member: "m1"}}}}
	uuids := 0
	p.a = &delivery.Android{Service: delivery.New(delivery.Config{Store: p.store, Clock: func() time.Time { return p.now },
		CanDecrypt: func([]byte) bool { return true }, Planners: map[profiles.Platform]delivery.Planner{profiles.Android: android.Plan},
		NewUUID: func() string { uuids++; return fmt.Sprintf("C%d", uuids) }})}
	return p
}

func (p *phone) enr() model.Enrolment { return p.store.snapshot.Enrolment }

func (p *phone) state() companion.State {
	p.t.Helper()
	s, changed, err := p.a.State(p.t.Context(), p.enr(), p.known)
	if err != nil {
		p.t.Fatal(err)
	}
	if changed {
		p.known = s.Generation
	}
	return s
}

func (p *phone) item(prefix string) companion.Item {
	p.t.Helper()
	p.known = ""
	for _, i := range p.state().Items {
		if strings.HasPrefix(i.ID, prefix) {
			return i
		}
	}
	return companion.Item{}
}

func (p *phone) report(i companion.Item, state companion.ItemState, edit ...func(*companion.StatusReport)) error {
	p.seq++
	r := companion.StatusReport{Revision: i.Revision, Seq: p.seq, State: state, At: p.now}
	for _, e := range edit {
		e(&r)
	}
	return p.a.Report(p.t.Context(), p.enr(), i.ID, r)
}

func (p *phone) done(i companion.Item, state companion.ItemState) {
	p.t.Helper()
	if i.ID == "" {
		p.t.Fatal("there is no such item")
	}
	if err := p.report(i, state); err != nil {
		p.t.Fatal(err)
	}
}

// rendered lets the connector answer.
func (p *phone) rendered() {
	for i := range p.store.snapshot.Documents {
		d := &p.store.snapshot.Documents[i]
		if d.Document.HasSecrets() {
			d.Payload, d.PayloadRevision, d.PayloadRecipient = []byte("sealed"), d.Document.Revision, "aa"
		}
	}
	clear(p.store.jobs)
	p.store.snapshot.Enrolment.Dirty = true
	p.store.snapshot.Enrolment.Version++
}

func (p *phone) inventory() {
	p.t.Helper()
	if err := p.a.Inventory(p.t.Context(), p.enr(), p.inv); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) doc(prefix string) model.DocumentState {
	for _, d := range p.store.snapshot.Documents {
		if strings.HasPrefix(d.Document.ID, prefix) {
			return d
		}
	}
	return model.DocumentState{}
}

// installed brings the phone to where everything is verified.
func (p *phone) installed() {
	p.t.Helper()
	ca := p.item("ca:")
	p.done(ca, companion.StateInstalled)
	p.state()
	p.rendered()
	identity := p.item("identity:")
	p.done(identity, companion.StateInstalled)
	p.inv = companion.Inventory{CAs: []string{ca.CACert.SHA256}, Identities: []companion.Held{{Alias: identity.Identity.Alias, CertSHA256: keySum, Present: true}}}
	p.inventory()
	p.state()
}

func code(err error) string {
	var known interface{ AsProblem() companion.Problem }
	if errors.As(err, &known) {
		return known.AsProblem().Code
	}
	return fmt.Sprint(err)
}

func TestAndroidGetsWhatIsReadyAndOnlyThat(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	if ca.Op != companion.OpInstall || ca.CACert == nil || p.item("identity:").ID != "" {
		t.Fatalf("%+v", p.state().Items)
	}
	p.done(ca, companion.StateInstalled)
	p.known = ""
	if s := p.state(); s.Pending != 1 || p.item("identity:").ID != "" {
		t.Errorf("the key is not sealed yet: %+v", s)
	}
	p.rendered()
	i := p.item("identity:")
	if i.Identity == nil || !i.Identity.Current || len(i.DependsOn) != 1 || i.DependsOn[0] != ca.ID {
		t.Errorf("%+v", i)
	}
	p.done(i, companion.StateInstalled)
	if d := p.doc("history"); d.Status != model.DocumentInstalled {
		t.Errorf("%s: only the inventory verifies", d.Status)
	}
}

func TestAndroidAnUnchangedStateCostsNothing(t *testing.T) {
	p := newPhone(t)
	p.state()
	version := p.enr().Version
	for range 3 {
		if s, changed, err := p.a.State(t.Context(), p.enr(), p.known); err != nil || changed {
			t.Fatalf("%+v %v", s, err)
		}
	}
	if p.enr().Version != version {
		t.Errorf("polls wrote: version %d became %d", version, p.enr().Version)
	}
}

// PK-06: an Android device shows its user nothing; what proves a key is its inventory.
func TestPK06AndroidIsVerifiedByItsInventory(t *testing.T) {
	p := newPhone(t)
	p.installed()
	for _, id := range []string{"trust", "history"} {
		if d := p.doc(id); d.Status != model.DocumentVerified {
			t.Errorf("%s is %s: %s", id, d.Status, d.Detail)
		}
	}
	if s := p.state(); s.Policy.ReportInventory || p.enr().Dirty {
		t.Errorf("not settled: %+v", s.Policy)
	}
	other := p.inv
	other.Identities = []companion.Held{{Alias: other.Identities[0].Alias, CertSHA256: strings.Repeat("cd", 32), Present: true}}
	p.inv = other
	p.inventory()
	if d := p.doc("history"); d.Status == model.DocumentVerified {
		t.Error("another certificate under the alias counts as verified")
	}
}

func TestAndroidEnvelope(t *testing.T) {
	p := newPhone(t)
	p.done(p.item("ca:"), companion.StateInstalled)
	p.state()
	id := p.doc("history").Document.Identifier
	ask := func(item, revision, key string) error {
		_, err := p.a.Envelope(t.Context(), p.enr(), item, companion.PayloadRequest{Revision: revision, WrapKeyID: key, Nonce: "n"})
		return err
	}
	revision := p.doc("history").Document.Revision
	if got := code(ask(id, revision, "aa")); got != companion.CodeWaitingForConnector {
		t.Errorf("before it is sealed: %s", got)
	}
	p.rendered()
	p.state()
	for want, err := range map[string]error{"<nil>": ask(id, revision, "aa"), companion.CodeRevisionStale: ask(id, "older", "aa"),
		companion.CodeWrapKeyUnknown: ask(id, revision, "bb"), companion.CodeItemGone: ask("identity:smime-enc-000000000000", revision, "aa")} {
		if got := code(err); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := code(ask(p.doc("trust").Document.Identifier, p.doc("trust").Document.Revision, "aa")); got != companion.CodeItemGone {
		t.Errorf("a CA has no envelope: %s", got)
	}
}

// TestAndroidReports holds the crash and idempotency list of android.md section 8.8 that the server has a part in.
func TestAndroidReports(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	late := func(r *companion.StatusReport) { r.Seq = 0 }
	if err := p.report(ca, companion.StateInstalling); err != nil || p.doc("trust").Status != model.DocumentSent {
		t.Errorf("a step on the way: %v %s", err, p.doc("trust").Status)
	}
	if err := p.report(ca, companion.StateFailed, late); err != nil || p.doc("trust").Attempts != 0 {
		t.Errorf("8.4 a late report changed something: %v", err)
	}
	p.done(ca, companion.StateInstalled)
	for range 2 {
		if err := p.report(ca, companion.StateInstalled); err != nil || p.doc("trust").Status != model.DocumentInstalled {
			t.Errorf("8.8 #2 reported again: %v %s", err, p.doc("trust").Status)
		}
	}
	stale := func(r *companion.StatusReport) { r.Revision = "r0" }
	if got := code(p.report(ca, companion.StateInstalled, stale)); got != companion.CodeRevisionStale {
		t.Errorf("another revision: %s", got)
	}
	never := companion.Item{ID: "identity:smime-enc-ffffffffffff", Revision: "r"}
	if got := code(p.report(never, companion.StateInstalled)); got != companion.CodeItemGone {
		t.Errorf("never offered: %s", got)
	}
	if err := p.report(never, companion.StateRemoved); err != nil {
		t.Errorf("8.8 #5 removed, though unknown: %v", err)
	}
}

func TestAndroidAnotherCertificateUnderTheAlias(t *testing.T) {
	p := newPhone(t)
	p.done(p.item("ca:"), companion.StateInstalled)
	p.state()
	p.rendered()
	i := p.item("identity:")
	err := p.report(i, companion.StateInstalled, func(r *companion.StatusReport) {
		r.Observed = &companion.Observed{Alias: i.Identity.Alias, CertSHA256: strings.Repeat("cd", 32), HasKeyPair: true}
	})
	if d := p.doc("history"); err != nil || d.Status != model.DocumentFailed || !strings.Contains(d.Detail, "cdcd") {
		t.Errorf("%v: %s %s", err, d.Status, d.Detail)
	}
}

func TestAndroidSaysWhatItWaitsFor(t *testing.T) {
	for _, tt := range []struct {
		state companion.ItemState
		code  companion.ErrorCode
		want  platforms.Reason
	}{
		{companion.StateWaitingUser, companion.ErrScreenLockRequired, platforms.ReasonWaitsForUser},
		{companion.StateWaitingApp, companion.ErrAppNotInstalled, platforms.ReasonAppMissing},
		{companion.StateRetryWait, companion.ErrDelegationMissing, platforms.ReasonDelegationMissing},
		{companion.StateRetryWait, companion.ErrKeychainRefused, platforms.ReasonNotNow},
	} {
		p := newPhone(t)
		ca := p.item("ca:")
		err := p.report(ca, tt.state, func(r *companion.StatusReport) { r.Error = &companion.Error{Code: tt.code, Detail: "the detail"} })
		if d := p.doc("trust"); err != nil || d.Reason != tt.want || !strings.Contains(d.Detail, "the detail") {
			t.Errorf("%s: %v, %s %s", tt.code, err, d.Reason, d.Detail)
		}
		if again := p.item("ca:"); again.Revision != ca.Revision {
			t.Errorf("%s: it is not offered again: %+v", tt.code, again)
		}
		if d := p.doc("trust"); d.Reason != tt.want {
			t.Errorf("%s: the reason is forgotten: %s", tt.code, d.Reason)
		}
		p.done(ca, companion.StateInstalled)
	}
}

// SC-06: an Android device proves, certificate by certificate, that it has given everything up.
func TestSC06AndroidRetire(t *testing.T) {
	p := newPhone(t)
	p.installed()
	p.store.snapshot.Device.State = model.DeviceRetiring
	p.store.snapshot.Enrolment.Dirty = true
	p.known = ""
	items := p.state().Items
	if len(items) != 2 || slices.ContainsFunc(items, func(i companion.Item) bool { return i.Op != companion.OpRemove }) || items[0].Kind != companion.KindIdentity {
		t.Fatalf("%+v", items)
	}
	for _, i := range items {
		p.done(i, companion.StateRemoved)
	}
	if s := p.state(); !s.Policy.ReportInventory || s.Policy.Unenroll {
		t.Errorf("before the inventory: %+v", s.Policy)
	}
	p.inv = companion.Inventory{}
	p.inventory()
	p.known = ""
	if s := p.state(); !s.Policy.Unenroll || len(s.Items) != 0 || p.store.snapshot.Device.Removal != model.RemovalVerified {
		t.Errorf("%+v, removal %s", s, p.store.snapshot.Device.Removal)
	}
}

func TestAndroidThatKeepsAKeyIsToldAgain(t *testing.T) {
	p := newPhone(t)
	p.installed()
	p.store.snapshot.Device.State = model.DeviceRetiring
	p.store.snapshot.Enrolment.Dirty = true
	p.known = ""
	for _, i := range p.state().Items {
		p.done(i, companion.StateRemoved)
	}
	p.inventory() // everything is still there
	p.known = ""
	if s := p.state(); s.Policy.Unenroll || len(s.Items) != 2 {
		t.Errorf("%+v", s)
	}
}
