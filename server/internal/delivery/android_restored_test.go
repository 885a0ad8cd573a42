package delivery_test

import (
	"testing"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
)

// TestAndroidAfterARestore: the app knows a generation that the database has not had yet, and has done what it will not
// report again. Its inventory suffices.
func TestAndroidAfterARestore(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	for _, known := range []string{"99", "2000000"} {
		s, changed, err := p.a.State(t.Context(), p.enr(), known)
		if err != nil || !changed || !s.Policy.ReportInventory {
			t.Fatalf("%s is known: changed %t, %+v, %v", known, changed, s.Policy, err)
		}
	}
	p.inv = companion.Inventory{CAs: []string{ca.CACert.SHA256},
		Identities: []companion.Held{{Alias: "smime-enc-" + keySum[:12], CertSHA256: keySum, Present: true}}}
	p.inventory()
	for _, id := range []string{"trust", "history"} {
		if d := p.doc(id); d.Status != model.DocumentVerified || d.InstalledRevision != d.Document.Revision || len(d.Payload) > 0 {
			t.Errorf("%s is %s: %s", id, d.Status, d.Detail)
		}
	}
	for _, c := range p.store.all {
		if c.State == model.CommandSent {
			t.Errorf("the command for %s is still open", c.DocumentID)
		}
	}
	if err := p.report(ca, companion.StateInstalled); err != nil {
		t.Errorf("a report after all: %v", err)
	}
	p.inv = companion.Inventory{}
	p.inventory()
	if d := p.doc("history"); d.Status == model.DocumentVerified {
		t.Error("a key that is gone is still verified")
	}
}

// TestAndroidAdoptsOnlyWhatFits: another certificate under the alias proves nothing.
func TestAndroidAdoptsOnlyWhatFits(t *testing.T) {
	p := newPhone(t)
	ca := p.item("ca:")
	p.inv = companion.Inventory{CAs: []string{ca.CACert.SHA256},
		Identities: []companion.Held{{Alias: "smime-enc-" + keySum[:12], CertSHA256: "cd" + keySum[2:], Present: true}, {Alias: "other", CertSHA256: keySum, Present: true}}}
	p.inventory()
	if d := p.doc("history"); d.InstalledRevision != "" {
		t.Errorf("it is %s", d.Status)
	}
}
