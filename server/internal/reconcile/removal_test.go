package reconcile_test

import (
	"testing"
	"time"

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
