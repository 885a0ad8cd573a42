package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// signer imports a signing certificate for an address.
func (w *world) signer(name, address string, notBefore time.Time) {
	c := model.Certificate{Certificate: profiles.Certificate{SHA256: strings.Repeat(name, 32), SHA1: strings.Repeat(name, 20), RecordID: "r" + name, Purpose: profiles.PurposeSMIMESigning,
		Addresses: []string{address}, NotBefore: notBefore, NotAfter: notBefore.Add(100 * week)}, Kind: model.CertificateImported}
	w.s.Imported = append(slices.Clone(w.s.Imported), c)
	w.s.Records[c.RecordID] = escrow.Record{ID: c.RecordID, Wraps: []escrow.Wrap{{Member: "m1"}}}
	w.s.Enrolment.Dirty = true
}

// pc has two imported signing certificates, one for each address.
func pc(t *testing.T) *world {
	w := newWorld(t)
	w.maker = windows.Plan
	w.s.Device.Platform, w.s.Enrolment.Platform, w.s.Device.OSVersion = profiles.Windows, profiles.Windows, "10.0.22631.1"
	w.s.Objects = []profiles.Object{
		{Kind: profiles.KindPKCSImportedCertificate, Name: "sig", Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning}},
		{Kind: profiles.KindAssignment, Name: "a", Spec: &profiles.Assignment{Profiles: []string{"sig"}, Include: []profiles.Target{{Group: "sales"}}}},
	}
	w.s.User.Spec.Addresses = []string{"alice@corp.test", "info@corp.test"}
	w.s.Imported = nil
	w.signer("aa", "alice@corp.test", w.now.Add(-week))
	w.signer("bb", "info@corp.test", w.now.Add(-week))
	w.settle()
	return w
}

func (w *world) removals() (out []string) {
	for _, s := range w.sent {
		if strings.HasPrefix(s, "remove ") {
			out = append(out, s)
		}
	}
	return out
}

// The documents change their names with the order of the addresses. The keys are the same, and stay where they are.
func TestTheOrderOfAddressesMovesNoKey(t *testing.T) {
	w := pc(t)
	w.hasKeys(strings.Repeat("aa", 32), strings.Repeat("bb", 32))
	for _, addresses := range [][]string{{"info@corp.test", "alice@corp.test"}, {"alice@corp.test", "info@corp.test"}} {
		w.s.User.Spec.Addresses, w.s.Generation = addresses, w.s.Generation+1
		w.work(strings.Repeat("aa", 32), strings.Repeat("bb", 32))
		if got := w.removals(); len(got) > 0 || len(w.docs) != 2 || len(w.s.Documents) != 2 {
			t.Errorf("removals %v, on the PC %v, %d documents", got, w.docs, len(w.s.Documents))
		}
		for _, d := range w.s.Documents {
			if d.Status != model.DocumentVerified || len(d.Leftovers) > 0 {
				t.Errorf("%s is %s with the leftovers %v", d.Document.ID, d.Status, d.Leftovers)
			}
		}
	}
}

// A newer certificate for an address, the first or another one, is there before the former goes.
func TestASigningKeyIsReplacedWithoutAGap(t *testing.T) {
	for _, address := range []string{"alice@corp.test", "info@corp.test"} {
		w := pc(t)
		w.signer("cc", address, w.now)
		w.settle()
		installed := slices.IndexFunc(w.sent[len(w.sent)-8:], func(s string) bool { return strings.HasPrefix(s, "install identity.sig") })
		removed := slices.IndexFunc(w.sent[len(w.sent)-8:], func(s string) bool { return strings.HasPrefix(s, "remove ") })
		if installed < 0 || removed < installed || len(w.docs) != 2 {
			t.Errorf("%s: sent %v, on the PC %v", address, w.sent, w.docs)
		}
	}
}
