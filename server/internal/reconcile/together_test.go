package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

func (w *world) together(r reconcile.Report) reconcile.Result {
	w.s.Jobs = map[string]model.Job{}
	for k, j := range w.jobs {
		w.s.Jobs[k] = j
	}
	result := reconcile.Decide(reconcile.Input{Snapshot: w.s, Report: r, Now: w.now, Plan: w.plan, CanDecrypt: true, Together: true,
		Settings: reconcile.Settings{InventoryEvery: 24 * time.Hour, ConnectorSilence: time.Hour, MaxAttempts: 3},
		NewUUID:  func() string { w.uuids++; return strings.Repeat("T", w.uuids) }})
	w.save(result.Decision)
	return result
}

// free lets every document go out at once.
func free(docs []platforms.Document) []platforms.Document {
	for i := range docs {
		docs[i].DependsOn, docs[i].Credentials, docs[i].Reason = nil, nil, ""
	}
	return docs
}

func kinds(actions []reconcile.Action) string {
	var out []string
	for _, a := range actions {
		out = append(out, string(a.Kind)+" "+a.Document.ID)
	}
	return strings.Join(out, ", ")
}

func TestTogetherEverythingIsSaidAtOnce(t *testing.T) {
	w := newWorld(t)
	w.edit = free
	r := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if got := kinds(r.Actions); got != "install trust, install history, install mail.m, askFacts " || r.Action == nil || r.Action.Document.ID != "trust" {
		t.Fatalf("%s", got)
	}
	before := w.s.Enrolment.Version
	again := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if kinds(again.Actions) != kinds(r.Actions) || !again.Decision.Empty() || again.Actions[1].UUID != r.Actions[1].UUID {
		t.Errorf("asked again: %s, decision %+v, version %d then %d", kinds(again.Actions), again.Decision, before, w.s.Enrolment.Version)
	}
}

func TestTogetherVolunteeredListsAnswerTheQuestions(t *testing.T) {
	w := newWorld(t)
	w.edit = free
	for _, a := range w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle}).Actions {
		w.together(reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: a.UUID, Seq: 5})
		w.docs[a.Document.Identifier] = a.Document.Proof
	}
	if w.doc("trust").ReportedSeq != 5 {
		t.Errorf("seq %d", w.doc("trust").ReportedSeq)
	}
	if asked := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle}); len(asked.Actions) != 1 || asked.Actions[0].Kind == reconcile.ActionInstall {
		t.Fatalf("%s", kinds(asked.Actions))
	}
	lists := map[string]string{}
	for k, v := range w.docs {
		lists[k] = v
	}
	r := w.together(reconcile.Report{Outcome: reconcile.OutcomeIdle, Documents: lists, Certificates: map[string]bool{}})
	if len(r.Actions) != 0 || w.doc("history").Status != model.DocumentVerified || len(w.s.Commands) != 0 || w.s.Enrolment.Dirty {
		t.Errorf("%s; history is %s; open commands %v", kinds(r.Actions), w.doc("history").Status, w.s.Commands)
	}
}

// macWorld is the world as one channel of a Mac.
func macWorld(t *testing.T, channel string) *world {
	w := newWorld(t)
	w.s.Device.Platform, w.s.Enrolment.Platform, w.s.Enrolment.Channel = profiles.MacOS, profiles.MacOS, channel
	if channel == model.ChannelUser {
		w.s.Enrolment.HolderID = "e0"
	}
	return w
}

func TestMacIssuesForItsUserChannelOnly(t *testing.T) {
	w := macWorld(t, model.ChannelDevice)
	w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for key := range w.jobs {
		if strings.HasPrefix(key, "issue:") {
			t.Errorf("the device channel asked for a certificate: %s", key)
		}
	}
	w = macWorld(t, model.ChannelUser)
	w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	found := false
	for key, j := range w.jobs {
		if strings.HasPrefix(key, "issue:") {
			found = strings.Contains(string(j.Payload), `"holderId":"e0"`)
		}
	}
	if !found {
		t.Errorf("no certificate for the holder of the device certificate: %v", w.jobs)
	}
}

func TestMacRetiresItsUserFirst(t *testing.T) {
	w := macWorld(t, model.ChannelUser)
	w.settle()
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	w.sent = nil
	w.settle()
	if w.s.Enrolment.State != model.EnrolmentEnded || strings.Contains(strings.Join(w.sent, " "), "removeEnrolment") || w.s.Device.State != model.DeviceRetiring {
		t.Errorf("user channel %s, device %s, sent %v", w.s.Enrolment.State, w.s.Device.State, w.sent)
	}
	w = macWorld(t, model.ChannelDevice)
	w.settle()
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty, w.s.UserDocuments = model.DeviceRetiring, w.now, true, 1
	w.sent = nil
	w.settle()
	if strings.Contains(strings.Join(w.sent, " "), "removeEnrolment") {
		t.Errorf("the device channel did not wait: %v", w.sent)
	}
	w.s.UserDocuments, w.s.Enrolment.Dirty = 0, true
	w.settle()
	if w.s.Device.State != model.DeviceLeft || w.s.Device.Removal != model.RemovalVerified {
		t.Errorf("device %s %s", w.s.Device.State, w.s.Device.Removal)
	}
}

func TestMacIsErasedByTheDeviceChannel(t *testing.T) {
	w := macWorld(t, model.ChannelUser)
	w.settle()
	w.s.Device.State = model.DeviceWiping
	if r := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle}); r.Action != nil {
		t.Errorf("the user channel says %s", r.Action.Kind)
	}
}

// TestMacWhoseUserNeverComes: after a week the Mac takes the user's profiles away with the enrolment; that is reported.
func TestMacWhoseUserNeverComes(t *testing.T) {
	w := macWorld(t, model.ChannelDevice)
	w.settle()
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty, w.s.UserDocuments = model.DeviceRetiring, w.now, true, 1
	w.settle()
	if w.s.Device.State != model.DeviceRetiring || w.s.Enrolment.InventoryAt.After(w.s.Device.StateAt.Add(week)) {
		t.Fatalf("device %s, looked at again at %s", w.s.Device.State, w.s.Enrolment.InventoryAt)
	}
	w.now = w.s.Device.StateAt.Add(week)
	w.settle()
	if w.s.Device.State != model.DeviceLeft || w.s.Device.Removal != model.RemovalReported {
		t.Errorf("device %s %s, sent %v", w.s.Device.State, w.s.Device.Removal, w.sent)
	}
}
