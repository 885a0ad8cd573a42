package reconcile_test

import (
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// TestARenewedRecipientGetsAPayloadOfItsOwn: the device's certificate changes while an install is under way. What was made
// for the former one is of no use; nothing is sent without a payload, and another is asked for.
func TestARenewedRecipientGetsAPayloadOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.session()
	w.connector()
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if result.Action == nil || result.Action.Document.ID != "history" || len(result.Action.Payload) == 0 {
		t.Fatalf("%+v", result.Action)
	}
	w.s.Enrolment.CertSHA256, w.s.Enrolment.Certificate, w.s.Enrolment.Dirty = "bb", []byte("renewed"), true
	result = w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for _, a := range result.Actions {
		if a.Document.HasSecrets() && len(a.Payload) == 0 {
			t.Errorf("%s of %s is sent without a payload", a.Kind, a.Document.ID)
		}
	}
	w.want("history", model.DocumentWaiting, platforms.ReasonRenderPending)
	w.settle()
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
	w.want("mail.m", model.DocumentVerified, platforms.ReasonVerified)
}
