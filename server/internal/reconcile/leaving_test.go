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
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			break
		}
		answer := w.answer()
		if result.Action.Kind == reconcile.ActionRemove && result.Action.Identifier == "io.waxseal.history" {
			answer = reconcile.Report{Outcome: reconcile.OutcomeFailed, CommandUUID: result.Action.UUID, Error: "the profile is in use"}
		}
		result = w.step(answer)
	}
	w.session()
	w.want("history", model.DocumentRemoving, platforms.ReasonDeviceRefused)
	if d := w.doc("history"); d.Detail != "the profile is in use" {
		t.Errorf("detail %q", d.Detail)
	}
}
