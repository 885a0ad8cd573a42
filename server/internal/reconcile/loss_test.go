package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// hideAll makes the certificate list leave the identities of a profile out, or show them again.
func (w *world) hideAll(identifier string, hide bool) {
	for _, sha := range w.held[identifier] {
		w.hide[sha] = hide
	}
}

// later is the next day, when the lists are read anew.
func (w *world) later(d time.Duration) {
	w.now = w.now.Add(d)
	w.s.ConnectorSeen = w.now
	w.settle()
}

// TestALossCountsUntilItIsMadeGood: what vanished and came back has vanished once, and its next loss is another.
func TestALossCountsUntilItIsMadeGood(t *testing.T) {
	w := newWorld(t)
	w.settle()
	for range 6 {
		w.hide["k1"] = true
		w.now = w.now.Add(25 * time.Hour)
		w.s.ConnectorSeen = w.now
		w.session()
		w.hide["k1"] = false
		w.settle()
		w.want("history", model.DocumentVerified, platforms.ReasonVerified)
	}
	if n := w.doc("history").Redeliver["k1"]; n != 6 {
		t.Errorf("delivered again %d times; each has a UUID of its own", n)
	}
}

// TestAnIdentityThatShowsAfterAllIsVerified: iOS 15.0 to 15.3 leave identities out of the list before the first unlocking
// (apple.md section 3).
func TestAnIdentityThatShowsAfterAllIsVerified(t *testing.T) {
	w := newWorld(t)
	w.hide["k1"] = true
	w.settle()
	w.want("history", model.DocumentFailed, platforms.ReasonVanished)
	if d := w.doc("history"); !strings.Contains(d.Detail, "waxctl device sync") {
		t.Errorf("detail %q", d.Detail)
	}
	w.hide["k1"] = false
	w.later(25 * time.Hour)
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
	if n := w.doc("history").Redeliver["k1"]; n != 3 {
		t.Errorf("delivered again %d times", n)
	}
}

// TestAnAdminsSyncForgivesLosses: store.MarkDirty takes the counts away.
func TestAnAdminsSyncForgivesLosses(t *testing.T) {
	w := newWorld(t)
	w.hide["k1"] = true
	w.settle()
	w.later(25 * time.Hour)
	for i := range w.s.Documents {
		w.s.Documents[i].Losses = nil
	}
	w.s.Enrolment.Dirty = true
	w.settle()
	if n := w.doc("history").Redeliver["k1"]; n != 6 {
		t.Errorf("delivered again %d times, want three more", n)
	}
	w.want("history", model.DocumentFailed, platforms.ReasonVanished)
}

// TestAKeyThatWasThereForLongBeginsANewCount of losses: renewals are no losses, and a lost one in a year is no habit.
func TestAKeyThatWasThereForLongBeginsANewCount(t *testing.T) {
	w := newOwn(t)
	w.settle()
	for range 6 {
		w.hideAll("io.waxseal.identity.own", true)
		w.later(6 * week)
		w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	}
	if n := len(w.own()); n != 7 {
		t.Errorf("%d certificates %q, want the first and one for each loss", n, w.own())
	}
}

// TestIdentitiesThatDriveEachOtherOutAreNotSentForEver: the device keeps the one that came last, and shows it.
func TestIdentitiesThatDriveEachOtherOutAreNotSentForEver(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.sent = nil
	w.hide["k1"] = true
	w.now = w.now.Add(25 * time.Hour)
	w.s.ConnectorSeen = w.now
	for range 20 {
		result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
		for range 50 {
			if result.Action == nil {
				break
			}
			if id := result.Action.Document.ID; result.Action.Kind == reconcile.ActionInstall && (id == "history" || id == "mail.m") {
				w.hide["k1"], w.hide["k2"] = id != "history", id == "history"
			}
			result = w.step(w.answer())
		}
		w.connector()
	}
	if n := countPrefix(w.sent, "install"); n > 8 {
		t.Errorf("%d installs: %v", n, w.sent)
	}
}
