package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// changed lets an admin change what is wanted.
func (p *phone) changed(objects ...profiles.Object) {
	p.store.snapshot.Objects = objects
	p.store.snapshot.Enrolment.Dirty = true
	p.known = ""
}

// items is the state as an app takes it: it refuses one with an item that stands there twice.
func (p *phone) items() map[string]companion.Item {
	p.t.Helper()
	p.known = ""
	s := p.state()
	if err := s.Check(); err != nil {
		p.t.Errorf("the app refuses the state: %v", err)
	}
	out := map[string]companion.Item{}
	for _, i := range s.Items {
		out[i.ID] = i
	}
	return out
}

func outlook(name string) profiles.Object {
	return profiles.Object{Kind: profiles.KindEmail, Name: name, Spec: &profiles.Email{AddressSource: profiles.SourcePrimaryAddress,
		Android: &profiles.EmailOnAndroid{Apps: []string{profiles.PackageOutlook}}, SMIME: &profiles.SMIME{}}}
}

// obeys lets the app do whatever it is told, until it is told nothing new.
func (p *phone) obeys() {
	p.t.Helper()
	done := map[string]bool{}
	for range 10 {
		for _, i := range p.items() {
			if state := companion.StateInstalled; !done[i.ID+string(i.Op)+i.Revision] {
				if i.Op == companion.OpRemove {
					state = companion.StateRemoved
				}
				p.done(i, state)
				done[i.ID+string(i.Op)+i.Revision] = true
			}
		}
		p.rendered()
	}
}

// TestAndroidWantedAgainBeforeItWasRemoved: the app is told one thing about an item, never two.
func TestAndroidWantedAgainBeforeItWasRemoved(t *testing.T) {
	p := newPhone(t)
	p.installed()
	all := p.store.snapshot.Objects
	p.changed(all[0], assigned("root"))
	id := p.doc("history").Identifier()
	if p.items()[id].Op != companion.OpRemove {
		t.Fatalf("%+v", p.items())
	}
	removal := p.items()[id]
	p.changed(all...)
	if got := p.items()[id]; got.Op != companion.OpInstall {
		t.Errorf("%+v", got)
	}
	p.done(removal, companion.StateRemoved) // the app had begun
	if d := p.doc("history"); d.InstalledRevision != "" {
		t.Errorf("the removal that was reported is passed over: %s", d.Status)
	}
	p.state()
	p.rendered()
	p.done(p.items()[id], companion.StateInstalled)
	p.inventory()
	if d := p.doc("history"); d.Status != model.DocumentVerified {
		t.Errorf("%s: %s", d.Status, d.Detail)
	}
}

// TestAndroidAnotherProfileTakesOver: what another profile wants under the same identifier is not removed for its sake.
func TestAndroidAnotherProfileTakesOver(t *testing.T) {
	p := newPhone(t)
	root, hist := p.store.snapshot.Objects[0], p.store.snapshot.Objects[1]
	p.changed(root, hist, outlook("mail-a"), assigned("root", "hist", "mail-a"))
	p.obeys()
	mail := p.doc("mail.mail-a")
	if mail.InstalledRevision == "" {
		t.Fatalf("%+v", p.items())
	}
	p.changed(root, hist, outlook("mail-b"), assigned("root", "hist", "mail-b"))
	got := p.items()[mail.Identifier()]
	if got.Op != companion.OpInstall {
		t.Errorf("%+v", got)
	}
	if err := p.report(got, companion.StateInstalled); err != nil {
		t.Error(err)
	}
	p.items()
	if d := p.doc("mail.mail-a"); d.Document.ID != "" {
		t.Errorf("the former profile's document is still there, %s", d.Status)
	}
	if d := p.doc("mail.mail-b"); d.Status != model.DocumentInstalled {
		t.Errorf("%s %s", d.Status, d.Detail)
	}
}

// TestAndroidTheSameKeyByAnotherProfile: both profiles want it under one alias, and the app gets the envelope of the one
// that is assigned.
func TestAndroidTheSameKeyByAnotherProfile(t *testing.T) {
	p := newPhone(t)
	signing := func(name string) profiles.Object {
		return profiles.Object{Kind: profiles.KindPKCSImportedCertificate, Name: name, Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning}}
	}
	p.store.snapshot.Imported[0].Purpose = profiles.PurposeSMIMESigning
	root := p.store.snapshot.Objects[0]
	p.changed(root, signing("a"), assigned("root", "a"))
	p.obeys()
	id := p.doc("identity.a").InstalledIdentifier
	if id == "" {
		t.Fatalf("%+v", p.doc("identity.a"))
	}
	p.changed(root, signing("b"), assigned("root", "b"))
	if got := p.items()[id]; got.Op == companion.OpRemove {
		t.Errorf("the key is taken away, to be brought again: %+v", got)
	}
	p.rendered()
	i := p.items()[id]
	if _, err := p.a.Envelope(t.Context(), p.enr(), id, companion.PayloadRequest{Revision: i.Revision, WrapKeyID: "aa", Nonce: "n"}); err != nil {
		t.Errorf("%+v: %v", i, err)
	}
	p.done(i, companion.StateInstalled)
	p.items()
	if old, now := p.doc("identity.a"), p.doc("identity.b"); old.Document.ID != "" || now.Status != model.DocumentInstalled {
		t.Errorf("%s is left, %s", old.Status, now.Status)
	}
}

// TestAndroidNoEnvelopeForWhoShallLeave: an envelope that is still there is of no use after the admin's word.
func TestAndroidNoEnvelopeForWhoShallLeave(t *testing.T) {
	for name, change := range map[string]func(p *phone){
		"retired":    func(p *phone) { p.store.snapshot.Device.State = model.DeviceRetiring },
		"wiped":      func(p *phone) { p.store.snapshot.Device.State = model.DeviceWiping },
		"unassigned": func(p *phone) { p.store.snapshot.Objects = p.store.snapshot.Objects[:1] },
	} {
		p := newPhone(t)
		p.done(p.item("ca:"), companion.StateInstalled)
		p.state()
		p.rendered()
		i := p.item("identity:")
		change(p)
		_, err := p.a.Envelope(t.Context(), p.enr(), i.ID, companion.PayloadRequest{Revision: i.Revision, WrapKeyID: "aa", Nonce: "n"})
		if got := code(err); got != companion.CodeItemGone {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestAndroidAStateFitsItsOp: a mixed-up report is refused, and neither installs nor removes anything on paper.
func TestAndroidAStateFitsItsOp(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	if got := code(p.report(ca, companion.StateRemoved)); got != companion.CodeMalformed || p.doc("trust").Status != model.DocumentSent {
		t.Errorf("removed, though it is to be installed: %s, %s", got, p.doc("trust").Status)
	}
	p.done(ca, companion.StateInstalled)
	p.store.snapshot.Device.State = model.DeviceRetiring
	p.store.snapshot.Enrolment.Dirty = true
	ca = p.item("ca:")
	if got := code(p.report(ca, companion.StateInstalled)); ca.Op != companion.OpRemove || got != companion.CodeMalformed {
		t.Errorf("installed, though it is to go: %s", got)
	}
	p.done(ca, companion.StateRemoved)
}

func TestAndroidBoundsWhatADeviceSays(t *testing.T) {
	p := newPhone(t)
	err := p.report(p.item("ca:"), companion.StateFailed, func(r *companion.StatusReport) {
		r.Error = &companion.Error{Code: companion.ErrCARefused, Detail: "\x1b[2J" + strings.Repeat("x", 4000)}
	})
	if d := p.doc("trust").Detail; err != nil || len(d) > 600 || strings.Contains(d, "\x1b") || !strings.Contains(d, string(companion.ErrCARefused)) {
		t.Errorf("%v: %q", err, d)
	}
}

// issued gives the device a certificate of the profile "sign", which is the newest.
func (p *phone) issued(sum, record string) {
	s := &p.store.snapshot
	s.CAs = []link.CA{{Name: "softca", Certificate: []byte("root")}}
	s.Issued = append(s.Issued, model.Certificate{Kind: model.CertificateIssued, Profile: "sign", CA: "softca", Status: model.CertificateCurrent,
		Certificate: profiles.Certificate{SHA256: sum, RecordID: record, NotBefore: p.now.Add(time.Duration(len(s.Issued)) * time.Minute), NotAfter: p.now.AddDate(1, 0, 0)}})
	s.Records[record] = escrow.Record{ID: record, Wraps: []escrow.Wrap{{Member: "m1"}}}
	s.Enrolment.Dirty = true
	p.known = ""
}

// signer is a phone whose Outlook may use the device's signing key.
func signer(t *testing.T) (p *phone, root profiles.Object) {
	p = newPhone(t)
	root = p.store.snapshot.Objects[0]
	sign := profiles.Object{Kind: profiles.KindPKCSCertificate, Name: "sign", Spec: &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{
		CertificateAuthority: "softca", Subject: "CN={{UserName}}"}}}
	p.issued(strings.Repeat("01", 32), "i1")
	p.changed(root, sign, outlook("mail"), assigned("root", "sign", "mail"))
	p.obeys()
	if p.items()[grantOf("01")].Op != companion.OpInstall {
		t.Fatalf("%+v", p.items())
	}
	return p, root
}

// holds lets the phone tell which signing keys it has.
func (p *phone) holds(sums ...string) {
	p.t.Helper()
	p.inv = companion.Inventory{CAs: []string{p.item("ca:").CACert.SHA256}}
	for _, sum := range sums {
		p.inv.Identities = append(p.inv.Identities, companion.Held{Alias: "smime-sign-" + strings.Repeat(sum, 6), CertSHA256: strings.Repeat(sum, 32), Present: true})
	}
	p.inventory()
}

func grantOf(sum string) string {
	return "grant:" + profiles.PackageOutlook + ":smime-sign-" + strings.Repeat(sum, 6)
}

// TestAndroidSignsWithoutAGap: the app keeps its right to the former key until it has that to the renewed one.
func TestAndroidSignsWithoutAGap(t *testing.T) {
	p, _ := signer(t)
	p.issued(strings.Repeat("02", 32), "i2")
	if i, told := p.items()[grantOf("01")]; told {
		t.Errorf("before the next key is sealed: %+v", i)
	}
	p.rendered()
	key := p.items()["identity:smime-sign-020202020202"]
	p.done(key, companion.StateInstalled)
	items := p.items()
	if i, told := items[grantOf("01")]; told || items[grantOf("02")].Op != companion.OpInstall {
		t.Errorf("before the app may use the next key: %+v, %+v", i, items[grantOf("02")])
	}
	p.holds("01", "02") // and so the next key is verified
	if i, told := p.items()["identity:smime-sign-010101010101"]; told || p.doc("identity.sign").Status != model.DocumentVerified {
		t.Errorf("the key that the app signs with goes before it may use the next one: %+v; %s", i, p.doc("identity.sign").Status)
	}
	p.done(items[grantOf("02")], companion.StateGranted)
	if i := p.items()["identity:smime-sign-010101010101"]; i.Op != companion.OpRemove {
		t.Errorf("the former key stays: %+v", i)
	}
	if i := p.items()[grantOf("01")]; i.Op != companion.OpRemove {
		t.Errorf("the former right stays: %+v", i)
	}
}

// TestAndroidAnAppThatIsNotMeantAnyMoreLosesItsRightsAtOnce, whatever becomes of the key.
func TestAndroidAnAppThatIsNotMeantAnyMoreLosesItsRightsAtOnce(t *testing.T) {
	p, root := signer(t)
	p.issued(strings.Repeat("02", 32), "i2")
	p.changed(root, p.store.snapshot.Objects[1], assigned("root", "sign"))
	if i := p.items()[grantOf("01")]; i.Op != companion.OpRemove {
		t.Errorf("%+v", i)
	}
}

// TestAndroidAReportAboutTheFormerKey comes in when the next one is planned, and is about what was sent.
func TestAndroidAReportAboutTheFormerKey(t *testing.T) {
	p := newPhone(t)
	p.changed(p.store.snapshot.Objects[0], profiles.Object{Kind: profiles.KindPKCSCertificate, Name: "sign", Spec: &profiles.PKCSCertificate{
		CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{UserName}}"}}}, assigned("root", "sign"))
	sum := strings.Repeat("01", 32)
	p.issued(sum, "i1")
	p.done(p.item("ca:"), companion.StateInstalled)
	p.state()
	p.rendered()
	key := p.item("identity:")
	p.issued(strings.Repeat("02", 32), "i2")
	p.state()
	err := p.report(key, companion.StateInstalled, func(r *companion.StatusReport) {
		r.Observed = &companion.Observed{Alias: key.Identity.Alias, CertSHA256: sum, HasKeyPair: true}
	})
	if d := p.doc("identity.sign"); err != nil || d.InstalledIdentifier != key.ID || d.Attempts != 0 {
		t.Errorf("%v: %+v", err, d)
	}
}

// TestAndroidWaitingForTheSameIsNoNews: an app that tells it after each state would otherwise get the next state at once.
func TestAndroidWaitingForTheSameIsNoNews(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	waits := func() {
		t.Helper()
		err := p.report(ca, companion.StateWaitingUser, func(r *companion.StatusReport) { r.Error = &companion.Error{Code: companion.ErrScreenLockRequired} })
		if err != nil {
			t.Fatal(err)
		}
	}
	waits()
	p.state()
	for range 3 {
		waits()
		if s, changed, err := p.a.State(t.Context(), p.enr(), p.known); err != nil || changed {
			t.Errorf("another state, though nothing changed: %+v %v", s, err)
		}
	}
	p.done(ca, companion.StateInstalled)
	if d := p.doc("trust"); d.Status != model.DocumentInstalled {
		t.Errorf("%s", d.Status)
	}
}
