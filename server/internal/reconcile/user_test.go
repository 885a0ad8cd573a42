package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// newPC is a world whose history and account belong to the user, as on Windows; the CA certificate does not.
func newPC(t *testing.T) *world {
	w := newWorld(t)
	w.edit = func(docs []platforms.Document) []platforms.Document {
		for i := range docs {
			docs[i].UserScope = docs[i].ID != "trust"
		}
		return docs
	}
	return w
}

// away is a session without the user.
func (w *world) away() reconcile.Result {
	w.t.Helper()
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle, UserAbsent: true})
	for range 50 {
		if result.Action == nil {
			return result
		}
		answer := w.answer()
		answer.UserAbsent = true
		result = w.step(answer)
	}
	w.t.Fatalf("the session does not end: %v", w.sent)
	return result
}

// sentOf are the actions since the last look that begin so.
func (w *world) sentOf(prefix string) string {
	var out []string
	for _, s := range w.sent {
		if strings.HasPrefix(s, prefix) {
			out = append(out, strings.TrimSpace(s))
		}
	}
	return strings.Join(out, ", ")
}

func TestWhatIsTheUsersWaitsForTheUser(t *testing.T) {
	w := newPC(t)
	for range 4 {
		w.away()
		w.connector()
		w.now = w.now.Add(time.Minute)
		w.s.ConnectorSeen = w.now
	}
	if got := w.sentOf("install"); got != "install trust" {
		t.Errorf("sent: %s", got)
	}
	if got := w.sentOf("list"); got != "" {
		t.Errorf("a list was asked for that cannot be whole: %s", got)
	}
	if w.sentOf("askFacts") != "askFacts" {
		t.Errorf("the facts are the device's own: %v", w.sent)
	}
	w.want("trust", model.DocumentInstalled, platforms.ReasonInstalled)
	w.want("history", model.DocumentWaiting, platforms.ReasonUserNotLoggedOn)
	w.want("mail.m", model.DocumentWaiting, platforms.ReasonUserNotLoggedOn)
	if d := w.doc("history"); len(d.Payload) == 0 || !strings.Contains(d.Detail, "logged on") {
		t.Errorf("the connector's work must not wait: %q, %d bytes", d.Detail, len(d.Payload))
	}
	if !w.s.Enrolment.Dirty {
		t.Error("an enrolment is settled while something is held")
	}

	w.settle()
	for _, id := range []string{"trust", "history", "mail.m"} {
		w.want(id, model.DocumentVerified, platforms.ReasonVerified)
	}
	if w.s.Enrolment.Dirty || !w.now.Before(w.s.Enrolment.InventoryAt) {
		t.Errorf("not settled, though nothing is held: %+v", w.s.Enrolment)
	}
}

// TestTheRenderJobIsMadeMeanwhile, and its reason comes before the user's absence.
func TestTheRenderJobIsMadeMeanwhile(t *testing.T) {
	w := newPC(t)
	result := w.away()
	w.want("history", model.DocumentWaiting, platforms.ReasonRenderPending)
	if result.Pending != 2 {
		t.Errorf("%d pending", result.Pending)
	}
	renders := 0
	for _, j := range w.jobs {
		if j.Kind == link.JobRender {
			renders++
		}
	}
	if renders != 1 {
		t.Errorf("%d render jobs", renders)
	}
	w.connector()
	if result := w.away(); result.Pending != 1 { // the account, whose certificate is there now
		t.Errorf("%d pending", result.Pending)
	}
	w.connector()
	if result := w.away(); result.Pending != 0 {
		t.Errorf("what waits for the user does not come by itself: %d pending", result.Pending)
	}
}

func TestNothingVanishesWhileTheUserIsAway(t *testing.T) {
	w := newPC(t)
	w.settle()
	w.sent = nil
	for range 3 {
		w.now = w.now.Add(25 * time.Hour) // the lists are due
		w.s.ConnectorSeen = w.now
		w.away()
	}
	if w.sentOf("list") != "" || w.sentOf("install") != "" || w.audited("document.vanished") {
		t.Errorf("sent: %v", w.sent)
	}
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
	w.sent = nil
	delete(w.docs, "io.waxseal.history")
	delete(w.held, "io.waxseal.history")
	w.session()
	if w.sentOf("list") == "" || !w.audited("document.vanished") {
		t.Errorf("the lists are due as soon as the user is back: %v", w.sent)
	}
	w.settle()
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
}

// TestASettledPCStaysSettledWhoeverIsLoggedOn: a poll without the user costs nothing.
func TestASettledPCStaysSettledWhoeverIsLoggedOn(t *testing.T) {
	w := newPC(t)
	w.settle()
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle, UserAbsent: true})
	if result.Action != nil || !result.Decision.Empty() || w.s.Enrolment.Dirty {
		t.Errorf("%+v %+v", result.Action, result.Decision)
	}
}

// TestAnotherKeyForAnAbsentUser: the document's revision changes while the old one is on the device.
func TestAnotherKeyForAnAbsentUser(t *testing.T) {
	w := newPC(t)
	w.settle()
	w.sent = nil
	w.importKey("k3", w.now.Add(-time.Hour))
	for range 3 {
		w.away()
		w.connector()
	}
	w.want("history", model.DocumentWaiting, platforms.ReasonUserNotLoggedOn)
	if d := w.doc("history"); len(w.sent) != 0 || d.InstalledRevision == "" || !w.s.Enrolment.Dirty {
		t.Errorf("sent %v; %+v", w.sent, d)
	}
	w.settle()
	if got := w.sentOf("install"); got != "install history, install mail.m" {
		t.Errorf("sent: %s", got)
	}
	w.want("mail.m", model.DocumentVerified, platforms.ReasonVerified)
	if w.s.Enrolment.Dirty {
		t.Error("not settled")
	}
}

// TestTheUserLeavesWhileACommandIsUnderWay: it is offered again, under its UUID, once the user is back.
func TestTheUserLeavesWhileACommandIsUnderWay(t *testing.T) {
	w := newPC(t)
	w.session()
	w.connector()
	first := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if first.Action == nil || first.Action.Document.ID != "history" {
		t.Fatalf("%+v", first.Action)
	}
	w.sent = nil
	w.away()
	w.want("history", model.DocumentSent, w.doc("history").Reason)
	if w.sentOf("install") != "" || !w.s.Enrolment.Dirty {
		t.Errorf("sent %v, dirty %v", w.sent, w.s.Enrolment.Dirty)
	}
	again := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if again.Action == nil || again.Action.UUID != first.Action.UUID {
		t.Errorf("%+v, then %+v", first.Action, again.Action)
	}
}

func TestRemovalsWaitForTheUser(t *testing.T) {
	w := newPC(t)
	w.settle()
	w.sent = nil
	w.s.Objects, w.s.Generation = w.s.Objects[:2], 2
	for range 3 {
		w.away()
	}
	if got := w.sentOf("remove"); got != "remove io.waxseal.trust" {
		t.Errorf("sent: %s", got)
	}
	w.want("history", model.DocumentRemoving, platforms.ReasonUnassigned)
	w.want("trust", model.DocumentRemoved, platforms.ReasonUnassigned)
	if d := w.doc("history"); !strings.Contains(d.Detail, "logged on") || d.Attempts != 0 || w.sentOf("list") != "" || !w.s.Enrolment.Dirty {
		t.Errorf("%q after %d attempts, sent %v", d.Detail, d.Attempts, w.sent)
	}
	if c, changed := w.status["s0"]; changed {
		t.Errorf("the certificate is still on the device, and %s", c.Status)
	}
	w.settle()
	if len(w.docs) != 0 || len(w.s.Documents) != 0 || w.s.Enrolment.Dirty {
		t.Errorf("the device has %v, the store %d documents", w.docs, len(w.s.Documents))
	}
}

func TestRetiringWaitsForTheUser(t *testing.T) {
	w := newPC(t)
	w.settle()
	w.sent = nil
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	for range 3 {
		w.away()
		w.now = w.now.Add(25 * time.Hour)
		w.s.ConnectorSeen = w.now
	}
	if w.s.Device.State != model.DeviceRetiring || w.s.Enrolment.State != model.EnrolmentActive || w.s.Device.Removal != "" || w.sentOf("removeEnrolment") != "" {
		t.Errorf("device is %s/%s; sent %v", w.s.Device.State, w.s.Device.Removal, w.sent)
	}
	w.want("history", model.DocumentRemoving, platforms.ReasonRetired)
	w.settle()
	if d := w.s.Device; d.State != model.DeviceLeft || d.Removal != model.RemovalVerified || w.sent[len(w.sent)-1] != "removeEnrolment " {
		t.Errorf("device is %s/%s; sent %v", d.State, d.Removal, w.sent)
	}
}

// TestRetiringAPCWithoutAnythingOfTheUsers waits for the user as well: the lists alone can prove that nothing is left.
func TestRetiringAPCWithoutAnythingOfTheUsers(t *testing.T) {
	w := newPC(t)
	w.away()
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	w.away()
	if w.s.Device.State != model.DeviceRetiring || w.sentOf("remove") != "remove io.waxseal.trust" {
		t.Errorf("device is %s; sent %v", w.s.Device.State, w.sent)
	}
	w.settle()
	if d := w.s.Device; d.State != model.DeviceLeft || d.Removal != model.RemovalVerified {
		t.Errorf("device is %s/%s", d.State, d.Removal)
	}
}

// TestAWipeWaitsForNobody.
func TestAWipeWaitsForNobody(t *testing.T) {
	w := newPC(t)
	w.settle()
	w.s.Device.State = model.DeviceWiping
	w.away()
	if d := w.s.Device; d.State != model.DeviceLeft || d.Removal != model.RemovalReported {
		t.Errorf("device is %s/%s", d.State, d.Removal)
	}
}

// TestDocumentsOfTheDeviceDoNotMindTheUser: on other platforms nothing has a user scope.
func TestDocumentsOfTheDeviceDoNotMindTheUser(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.away()
		w.connector()
	}
	for _, id := range []string{"trust", "history", "mail.m"} {
		w.want(id, model.DocumentInstalled, platforms.ReasonInstalled)
	}
}
