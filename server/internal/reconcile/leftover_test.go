package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// byCertificate names the mail document by its signing certificate, as Windows names nodes.
func byCertificate(docs []platforms.Document) []platforms.Document {
	for i := range docs {
		if d := &docs[i]; d.ID == "mail.m" {
			d.Identifier = ""
			if n := len(d.Credentials); n > 1 {
				d.Identifier = "node/" + d.Credentials[n-1].SHA256
			}
		}
	}
	return docs
}

// renew brings the world to where the signing certificate is due.
func renew(w *world) {
	w.now = w.now.Add(52*week - 24*time.Hour)
	w.s.ConnectorSeen, w.s.Enrolment.Dirty = w.now, true
}

func TestAFormerNodeGoesOnceTheNewOneIsVerified(t *testing.T) {
	w := newWorld(t)
	w.edit = byCertificate
	w.settle()
	if d := w.doc("mail.m"); d.InstalledIdentifier != "node/s0" || d.Status != model.DocumentVerified {
		t.Fatalf("%+v", d)
	}
	renew(w)
	w.sent = nil
	w.settle()
	d := w.doc("mail.m")
	if d.InstalledIdentifier != "node/s1" || d.Status != model.DocumentVerified || len(d.Leftovers) != 0 {
		t.Fatalf("%+v", d)
	}
	if _, there := w.docs["node/s0"]; there || w.docs["node/s1"] == "" {
		t.Errorf("the device has %v", w.docs)
	}
	install, remove := slices.Index(w.sent, "install mail.m"), slices.Index(w.sent, "remove node/s0")
	between := w.sent[max(install, 0):max(remove, 0)]
	if install < 0 || remove < install || !slices.Contains(between, "listDocuments ") {
		t.Errorf("sent: %v", w.sent)
	}
}

func TestAFormerNodeThatStaysIsTriedAgainAndSpoilsNothing(t *testing.T) {
	w := newWorld(t)
	w.edit = byCertificate
	w.settle()
	renew(w)
	tries := 0
	for range 40 {
		result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
		for result.Action != nil {
			r := w.answer()
			if result.Action.Kind == reconcile.ActionRemove {
				tries++
				w.docs["node/s0"] = "still there"
				r = reconcile.Report{Outcome: reconcile.OutcomeFailed, CommandUUID: result.Action.UUID, Error: "no"}
			}
			result = w.step(r)
		}
		w.connector()
		w.now = w.now.Add(time.Minute)
	}
	if d := w.doc("mail.m"); d.Status != model.DocumentVerified || d.Reason != platforms.ReasonVerified || len(d.Leftovers) != 1 {
		t.Errorf("%+v", d)
	}
	if tries < 3 || tries > 10 {
		t.Errorf("%d tries in 40 minutes", tries)
	}
}

func TestLeftoversGoWithTheirDocument(t *testing.T) {
	w := newWorld(t)
	w.edit = byCertificate
	w.settle()
	renew(w)
	w.refuse["mail.m"] = ""
	for range 3 { // installed, not yet verified
		w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
		w.connector()
	}
	for w.last != nil && w.last.Kind != reconcile.ActionListDocuments {
		w.step(w.answer())
	}
	if len(w.doc("mail.m").Leftovers) != 1 {
		t.Fatalf("%+v", w.doc("mail.m"))
	}
	w.s.Device.State = model.DeviceRetiring
	w.settle()
	for identifier := range w.docs {
		if strings.HasPrefix(identifier, "node/") {
			t.Errorf("%s is still there", identifier)
		}
	}
	if w.s.Device.State != model.DeviceLeft || w.s.Device.Removal != model.RemovalVerified {
		t.Errorf("%s %s", w.s.Device.State, w.s.Device.Removal)
	}
}

// TestAnotherDocumentMayTakeTheNameOver: who comes second under one name is not removed in the name of the first.
func TestAnotherDocumentMayTakeTheNameOver(t *testing.T) {
	w := newWorld(t)
	name := "history"
	w.edit = func(docs []platforms.Document) []platforms.Document {
		for i := range docs {
			if docs[i].ID == "history" {
				docs[i].ID, docs[i].Identifier = name, "shared"
			}
			docs[i].DependsOn = nil
		}
		return docs
	}
	w.settle()
	name, w.s.Enrolment.Dirty, w.s.Generation = "past", true, 2
	w.sent = nil
	w.settle()
	if d := w.doc("past"); d.Status != model.DocumentVerified || w.doc("history").Document.ID != "" || w.docs["shared"] == "" {
		t.Errorf("%+v; the device has %v", d, w.docs)
	}
	if n := len(w.sent); n > 12 {
		t.Errorf("it took %d commands: %v", n, w.sent)
	}
}

// TestDocumentsMayChangePlaces: what one leaves behind is what another one is now, so nothing is removed.
func TestDocumentsMayChangePlaces(t *testing.T) {
	w := newWorld(t)
	w.s.Imported, w.s.Objects = nil, w.s.Objects[1:]
	w.importKey("k1", w.now.Add(-400*week))
	w.importKey("k2", w.now.Add(-week))
	names := []string{"first", "second"}
	w.edit = func([]platforms.Document) []platforms.Document {
		var docs []platforms.Document
		for i, c := range w.s.Imported {
			docs = append(docs, platforms.Document{ID: names[i], Identifier: "node/" + c.SHA256, Proof: c.SHA256, Revision: c.SHA256,
				Credentials: []profiles.Certificate{c.Certificate}})
		}
		return docs
	}
	w.settle()
	names[0], names[1], w.s.Enrolment.Dirty, w.s.Generation = "second", "first", true, 2
	w.sent = nil
	w.settle()
	for _, s := range w.sent {
		if strings.HasPrefix(s, "remove") {
			t.Errorf("sent: %v", w.sent)
		}
	}
	for id, identifier := range map[string]string{"first": "node/k2", "second": "node/k1"} {
		if d := w.doc(id); d.InstalledIdentifier != identifier || d.Status != model.DocumentVerified || len(d.Leftovers) > 0 {
			t.Errorf("%+v", d)
		}
	}
}

// TestWhatWasRefusedIsRemovedAllTheSame: a device may say no and keep a part of it, a key among it.
func TestWhatWasRefusedIsRemovedAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.edit = byCertificate
	w.refuse["mail.m"] = "it could not be read back"
	w.settle()
	w.docs["node/s0"] = "a part"
	if d := w.doc("mail.m"); d.Status != model.DocumentFailed || d.SentIdentifier != "node/s0" {
		t.Fatalf("%+v", d)
	}
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	w.settle()
	if _, there := w.docs["node/s0"]; there || w.s.Device.Removal != model.RemovalVerified {
		t.Errorf("removal %q, and the device has %v; sent: %v", w.s.Device.Removal, w.docs, w.sent)
	}
}

// TestWhatWasRefusedUnderAFormerNameGoes once the next one is there.
func TestWhatWasRefusedUnderAFormerNameGoes(t *testing.T) {
	w := newWorld(t)
	w.edit = byCertificate
	w.refuse["mail.m"] = "it could not be read back"
	w.settle()
	w.docs["node/s0"] = "a part"
	delete(w.refuse, "mail.m")
	renew(w)
	w.settle()
	if d := w.doc("mail.m"); d.InstalledIdentifier != "node/s1" || d.Status != model.DocumentVerified {
		t.Fatalf("%+v", d)
	}
	if _, there := w.docs["node/s0"]; there {
		t.Errorf("the device has %v", w.docs)
	}
}
