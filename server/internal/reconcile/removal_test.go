package reconcile_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// A removal, and what the device's lists say of it.

// stubborn lets the device answer removals of an identifier as it likes.
func (w *world) stubborn(identifier string, answer func(reconcile.Report) reconcile.Report) {
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			return
		}
		if result.Action.Kind == reconcile.ActionRemove && result.Action.Identifier == identifier {
			result = w.step(answer(reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: result.Action.UUID}))
			continue
		}
		result = w.step(w.answer())
	}
	w.t.Fatal("the session does not end")
}

// TestARemovalThatTheListsDoNotConfirmIsSaidAgainLater: neither the profile that stays nor the certificate that stays keeps
// device and server busy.
func TestARemovalThatTheListsDoNotConfirmIsSaidAgainLater(t *testing.T) {
	for name, stays := range map[string]func(*world){
		"profile":     func(*world) {},
		"certificate": func(w *world) { delete(w.docs, "io.waxseal.history") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.settle()
			w.s.Objects, w.s.Generation = w.s.Objects[:2], 2
			w.sent = nil
			for range 3 {
				w.stubborn("io.waxseal.history", func(r reconcile.Report) reconcile.Report { stays(w); return r })
			}
			if n := countOf(w.sent, "remove io.waxseal.history"); n != 2 {
				t.Errorf("told %d times, want twice and then a pause", n)
			}
			if d := w.doc("history"); d.Status != model.DocumentRemoving || d.Attempts != 2 || !d.RetryAt.Equal(w.now.Add(time.Minute)) {
				t.Errorf("history is %s after %d attempts, again at %s", d.Status, d.Attempts, d.RetryAt)
			}
			if at := w.s.Enrolment.InventoryAt; at.After(w.now.Add(time.Minute)) {
				t.Errorf("looked at again at %s", at)
			}
			w.now = w.now.Add(time.Minute)
			w.session()
			if len(w.s.Documents) != 0 {
				t.Errorf("%d documents", len(w.s.Documents))
			}
		})
	}
}

func countOf(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// refusal is an error that says nothing of whether the thing is there (MCMDMErrorDomain 12013).
func refusal(r reconcile.Report) reconcile.Report {
	r.Outcome, r.Error = reconcile.OutcomeFailed, "profile not managed (MCMDMErrorDomain 12013)"
	return r
}

// TestARefusedRemovalIsOverOnceTheListsShowNothing: the inventory counts, and not the code of the refusal.
func TestARefusedRemovalIsOverOnceTheListsShowNothing(t *testing.T) {
	for name, retires := range map[string]bool{"retired": true, "unassigned": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.settle()
			delete(w.docs, "io.waxseal.history")
			delete(w.held, "io.waxseal.history")
			if retires {
				w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
			} else {
				w.s.Objects, w.s.Generation = w.s.Objects[:2], 2
			}
			w.stubborn("io.waxseal.history", refusal)
			if len(w.s.Documents) != 0 || !w.audited("document.removal") {
				t.Errorf("%d documents, history is %s", len(w.s.Documents), w.doc("history").Status)
			}
			if got := w.s.Device; retires && (got.State != model.DeviceLeft || got.Removal != model.RemovalVerified) {
				t.Errorf("device is %s/%s", got.State, got.Removal)
			}
		})
	}
}

// TestARefusedRemovalOfWhatIsThereGoesOn: neither the profile nor a certificate of it is gone because the device says no.
func TestARefusedRemovalOfWhatIsThereGoesOn(t *testing.T) {
	for name, gone := range map[string]bool{"profile": false, "certificate": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.settle()
			if gone {
				delete(w.docs, "io.waxseal.history")
			}
			w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
			for range 3 {
				w.stubborn("io.waxseal.history", refusal)
				w.want("history", model.DocumentRemoving, platforms.ReasonDeviceRefused)
				w.now = w.now.Add(time.Hour)
			}
			if w.s.Device.State != model.DeviceRetiring {
				t.Errorf("device is %s", w.s.Device.State)
			}
		})
	}
}

// TestARetireEndsThoughTheDeviceKeepsAThing: after a week the enrolment goes, and the platform takes what came by it.
func TestARetireEndsThoughTheDeviceKeepsAThing(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
	for day := range 8 {
		w.stubborn("io.waxseal.history", refusal)
		if day < 7 && w.s.Device.State != model.DeviceRetiring {
			t.Fatalf("device is %s after %d days", w.s.Device.State, day)
		}
		w.now = w.now.Add(24 * time.Hour)
	}
	if got := w.s.Device; got.State != model.DeviceLeft || got.Removal != model.RemovalReported {
		t.Errorf("device is %s/%s", got.State, got.Removal)
	}
}

// TestARetireOfADeviceThatWasAwayIsProved all the same: the week is long over when it hears of it.
func TestARetireOfADeviceThatWasAwayIsProved(t *testing.T) {
	w := newWorld(t)
	w.edit = free
	for range 3 { // an app that takes all at once, and has it all
		for _, a := range w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle}).Actions {
			if a.Kind == reconcile.ActionInstall {
				w.docs[a.Document.Identifier] = a.Document.Proof
				w.together(reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: a.UUID})
			}
		}
		w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle, Documents: maps.Clone(w.docs), Certificates: map[string]bool{}})
	}
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
	w.now = w.now.Add(8 * week)
	for range 2 {
		r := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle})
		for _, a := range r.Actions {
			if a.Kind == reconcile.ActionRemoveEnrolment {
				t.Fatalf("the enrolment goes at once: %s", kinds(r.Actions))
			}
		}
	}
	w.now = w.now.Add(2 * week) // something of it waits for what does not come
	if r := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle, Documents: maps.Clone(w.docs), Certificates: map[string]bool{}}); !strings.Contains(kinds(r.Actions), string(reconcile.ActionRemoveEnrolment)) {
		t.Errorf("%s", kinds(r.Actions))
	}
}

// TestARetireOfALockedDeviceIsProved: one that was away long and is locked when it hears of it gets its time.
func TestARetireOfALockedDeviceIsProved(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
	w.now = w.now.Add(8 * week)
	w.locked = true
	w.session()
	w.locked = false
	w.settle()
	if got := w.s.Device; got.State != model.DeviceLeft || got.Removal != model.RemovalVerified {
		t.Errorf("device is %s/%s", got.State, got.Removal)
	}
}

// TestAssignedAgainAsItsRemovalIsProved: the document that is wanted again is not forgotten with the former one.
func TestAssignedAgainAsItsRemovalIsProved(t *testing.T) {
	w := newWorld(t)
	w.settle()
	all := w.s.Objects
	w.s.Objects, w.s.Generation = all[:2], 2
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			break
		}
		answer := w.answer()
		if result.Action.Kind == reconcile.ActionListCertificates {
			w.s.Objects = all
		}
		result = w.step(answer)
		if result.Action != nil && result.Action.Kind == reconcile.ActionInstall && w.doc(result.Action.Document.ID).Document.ID == "" {
			t.Fatalf("%s is sent and not known", result.Action.Document.ID)
		}
	}
	w.settle()
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
}
