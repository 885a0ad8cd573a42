package reconcile_test

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// TestADeviceThatRefusesToLeaveIsToldAgainLater: an error must not be answered with the same command at once.
func TestADeviceThatRefusesToLeaveIsToldAgainLater(t *testing.T) {
	for state, kind := range map[model.DeviceState]reconcile.ActionKind{
		model.DeviceWiping: reconcile.ActionErase, model.DeviceRetiring: reconcile.ActionRemoveEnrolment} {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t)
			w.settle()
			w.s.Device.State = state
			refused := 0
			result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
			for range 50 {
				if result.Action == nil {
					break
				}
				answer := w.answer()
				if result.Action.Kind == kind {
					answer.Outcome, answer.Error = reconcile.OutcomeFailed, "not now, not ever"
					refused++
				}
				result = w.step(answer)
			}
			if refused != 1 || result.Action != nil {
				t.Fatalf("told %d times in one connection", refused)
			}
			if at := w.s.Enrolment.InventoryAt; !at.Equal(w.now.Add(time.Hour)) {
				t.Errorf("looked at again at %s", at)
			}
			w.now = w.now.Add(time.Hour)
			w.session()
			if w.s.Device.State != model.DeviceLeft {
				t.Errorf("device is %s", w.s.Device.State)
			}
		})
	}
}

// TestAListThatWasRefusedProvesNothing: a device that never shows what it has is not verified.
func TestAListThatWasRefusedProvesNothing(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Device.State = model.DeviceRetiring
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			break
		}
		answer := w.answer()
		if result.Action.Kind == reconcile.ActionListDocuments || result.Action.Kind == reconcile.ActionListCertificates {
			answer = reconcile.Report{Outcome: reconcile.OutcomeFailed, CommandUUID: result.Action.UUID, Error: "no"}
		}
		result = w.step(answer)
	}
	if w.s.Device.Removal == model.RemovalVerified || w.s.Device.State == model.DeviceLeft {
		t.Errorf("device is %s/%s without a list", w.s.Device.State, w.s.Device.Removal)
	}
}

// TestWhyItStaysIsSeen: a document that the device will not give up shows why until it does.
func TestWhyItStaysIsSeen(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Device.State = model.DeviceRetiring
	w.stubborn("io.waxseal.history", func(r reconcile.Report) reconcile.Report {
		r.Outcome, r.Error = reconcile.OutcomeFailed, "the profile is in use"
		return r
	})
	w.session()
	w.want("history", model.DocumentRemoving, platforms.ReasonDeviceRefused)
	if d := w.doc("history"); d.Detail != "the profile is in use" {
		t.Errorf("detail %q", d.Detail)
	}
}

// TestWhatWasOnADeviceThatLeftIsKept: with how it is known that it is gone, and without what never got there.
func TestWhatWasOnADeviceThatLeftIsKept(t *testing.T) {
	for state, want := range map[model.DeviceState]platforms.Reason{
		model.DeviceWiping: platforms.ReasonRemovalReported, model.DeviceRetiring: platforms.ReasonRemovalVerified} {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t)
			w.settle()
			w.s.Documents = append(w.s.Documents, model.DocumentState{Document: platforms.Document{ID: "never"}, Status: model.DocumentWaiting})
			w.s.Device.State, w.s.Enrolment.Dirty = state, true
			w.session()
			if w.s.Device.State != model.DeviceLeft || len(w.s.Documents) != 0 || len(w.kept) != 3 {
				t.Fatalf("device is %s with %d documents and %d records", w.s.Device.State, len(w.s.Documents), len(w.kept))
			}
			for id, r := range w.kept {
				if !r.IsRecord() || r.Reason != want || len(r.Payload) > 0 || (id != "trust" && len(r.Document.Credentials) == 0) {
					t.Errorf("%s: %+v", id, r)
				}
			}
		})
	}
}

// TestWhatIsUnassignedLeavesNoRecord: the device is still here, and what it has is what it should have.
func TestWhatIsUnassignedLeavesNoRecord(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Objects, w.s.Generation, w.s.Enrolment.Dirty = nil, w.s.Generation+1, true
	w.session()
	if len(w.s.Documents)+len(w.kept) != 0 {
		t.Errorf("documents %+v, records %+v", w.s.Documents, w.kept)
	}
}
