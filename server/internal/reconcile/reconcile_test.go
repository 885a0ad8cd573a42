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

func (w *world) want(id string, status model.DocumentStatus, reason platforms.Reason) {
	w.t.Helper()
	if d := w.doc(id); d.Status != status || d.Reason != reason {
		w.t.Errorf("%s is %s/%s (%s), want %s/%s", id, d.Status, d.Reason, d.Detail, status, reason)
	}
}

func TestEverythingArrivesAndIsVerified(t *testing.T) {
	w := newWorld(t)
	first := w.session()
	w.want("trust", model.DocumentVerified, platforms.ReasonVerified)
	w.want("history", model.DocumentWaiting, platforms.ReasonRenderPending)
	w.want("mail.m", model.DocumentWaiting, platforms.ReasonIssuePending)
	if first.Pending != 2 {
		t.Errorf("pending is %d, want 2: the history and the account will come by themselves", first.Pending)
	}
	w.settle()
	for _, id := range []string{"trust", "history", "mail.m"} {
		w.want(id, model.DocumentVerified, platforms.ReasonVerified)
		if d := w.doc(id); len(d.Payload) > 0 {
			t.Errorf("%s: the payload must be erased when the device confirms", id)
		}
	}
	if got := w.s.Device.Name; got != "Alice's iPhone" {
		t.Errorf("device name %q", got)
	}
	if n := len(w.sent); w.session().Action != nil || len(w.sent) != n || w.s.Enrolment.Dirty {
		t.Errorf("a settled device must be left in peace, sent %v", w.sent[n:])
	}
}

func TestNothingChangesNothingIsWritten(t *testing.T) {
	w := newWorld(t)
	w.settle()
	r := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if !r.Decision.Empty() {
		t.Errorf("a second look must change nothing, got %+v", r.Decision)
	}
}

func TestADocumentWaitsForItsDependency(t *testing.T) {
	w := newWorld(t)
	w.refuse["trust"] = "no room"
	w.settle()
	w.want("trust", model.DocumentFailed, platforms.ReasonDeviceRefused)
	w.want("history", model.DocumentWaiting, platforms.ReasonDependency)
	if d := w.doc("trust"); d.Detail != "no room" || d.Attempts != 1 {
		t.Errorf("trust: %q after %d attempts", d.Detail, d.Attempts)
	}
	for range 5 {
		w.now = w.now.Add(time.Hour)
		w.settle()
	}
	if d := w.doc("trust"); d.Attempts != 3 {
		t.Errorf("%d attempts, the bound is 3", d.Attempts)
	}
}

func TestNotNowIsOfferedAgainAtTheNextIdleOnly(t *testing.T) {
	w := newWorld(t)
	w.locked = true
	w.session()
	w.want("trust", model.DocumentReady, platforms.ReasonNotNow)
	if n := countPrefix(w.sent, "install"); n != 1 {
		t.Errorf("%d installs in one connection, a refused one must not be offered twice: %v", n, w.sent)
	}
	uuid := w.s.Commands[0].UUID
	w.session()
	if n := countPrefix(w.sent, "install"); n != 2 || w.s.Commands[0].UUID != uuid {
		t.Errorf("the next Idle must offer the same command again: %v", w.sent)
	}
	w.locked = false
	w.settle()
	w.want("mail.m", model.DocumentVerified, platforms.ReasonVerified)
}

func countPrefix(list []string, prefix string) int {
	n := 0
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func TestALostAnswerIsAskedForAgainUnderTheSameUUID(t *testing.T) {
	w := newWorld(t)
	first := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	again := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if first.Action == nil || again.Action == nil || first.Action.UUID != again.Action.UUID {
		t.Fatalf("first %+v, again %+v", first.Action, again.Action)
	}
	w.step(w.answer())
	before := len(w.audits)
	w.step(reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: first.Action.UUID})
	for _, a := range w.audits[before:] {
		if a.Action == "document.installed" {
			t.Error("a result that arrives twice must count once")
		}
	}
}

func TestRolloverPutsTheOldKeyIntoTheHistoryFirst(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.sent = nil
	w.importKey("k3", w.now.Add(-time.Hour))
	w.settle()
	var installs []string
	for _, s := range w.sent {
		if strings.HasPrefix(s, "install") {
			installs = append(installs, s)
		}
	}
	if want := []string{"install history", "install mail.m"}; !slices.Equal(installs, want) {
		t.Errorf("installs %v, want %v", installs, want)
	}
	if got := w.held["io.waxseal.history"]; !slices.Equal(got, []string{"k1", "k2"}) {
		t.Errorf("history holds %v", got)
	}
	if got := w.doc("mail.m").InstalledCredentials; !slices.Equal(got, []string{"k3", "s0"}) {
		t.Errorf("the account carries %v; a longer history must not issue the signing certificate again", got)
	}
}

// PK-11: another key history is not made for it; the same keys are sent again.
func TestPK11WhatTheUserDeletesComesBack(t *testing.T) {
	w := newWorld(t)
	w.settle()
	delete(w.docs, "io.waxseal.history")
	delete(w.held, "io.waxseal.history")
	w.now = w.now.Add(25 * time.Hour)
	w.s.ConnectorSeen = w.now
	w.settle()
	w.want("history", model.DocumentVerified, platforms.ReasonVerified)
	if w.docs["io.waxseal.history"] == "" {
		t.Error("the history profile is not on the device")
	}
}

func TestAVanishedIdentityIsDeliveredUnderAFreshRevisionAndNotForEver(t *testing.T) {
	w := newWorld(t)
	w.hide["k1"] = true
	w.settle()
	if d := w.doc("history"); d.Redeliver["k1"] != 3 {
		t.Errorf("redelivered %d times, the bound is 3", d.Redeliver["k1"])
	}
	w.want("history", model.DocumentFailed, platforms.ReasonVanished)
	w.want("mail.m", model.DocumentVerified, platforms.ReasonVerified)
}

func TestATrustDocumentCountsOnlyOnceItsCertificatesShow(t *testing.T) {
	w := newWorld(t)
	w.ca = "root"
	w.settle()
	w.want("trust", model.DocumentVerified, platforms.ReasonVerified)
	w.hide["root"] = true
	w.now = w.now.Add(25 * time.Hour)
	w.settle()
	w.want("trust", model.DocumentInstalled, platforms.ReasonInstalled)
}

func TestUnassignedDocumentsAreRemovedAndSeenToBeGone(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Objects, w.s.Generation = w.s.Objects[:2], 2
	w.settle()
	if len(w.docs) != 0 || len(w.s.Documents) != 0 {
		t.Errorf("device has %v, store has %d documents", w.docs, len(w.s.Documents))
	}
	if c := w.status["s0"]; c.Status != model.CertificateRemoved || !c.DropKey {
		t.Errorf("signing certificate %+v: revokeOn has no unassign, so it is removed, and its key goes", c)
	}
	if !w.audited("document.removal") {
		t.Error("a removal that the inventory shows must be in the audit log")
	}
}

func (w *world) audited(action string) bool {
	return slices.ContainsFunc(w.audits, func(a model.AuditEntry) bool { return a.Action == action })
}

// LC-02: at the next check-in; and what was imported is not revoked (LC-05).
func TestLC02RetireRemovesTheEnrolmentLastAndProvesIt(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.sent = nil
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	w.settle()
	if got := w.s.Device; got.State != model.DeviceLeft || got.Removal != model.RemovalVerified {
		t.Errorf("device is %s/%s", got.State, got.Removal)
	}
	if last := w.sent[len(w.sent)-1]; last != "removeEnrolment " {
		t.Errorf("last action %q in %v", last, w.sent)
	}
	if c := w.status["s0"]; c.Status != model.CertificateRevoking {
		t.Errorf("the signing certificate is %s, revokeOn names retire", c.Status)
	}
	if j, ok := w.jobs["revoke:s0"]; !ok || len(w.status) != 1 {
		t.Errorf("revoke job %+v, changes %v: imported ones are never revoked", j, w.status)
	}
}

func TestWipeIsReportedNotVerified(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.s.Device.State = model.DeviceWiping
	w.settle()
	if got := w.s.Device; got.State != model.DeviceLeft || got.Removal != model.RemovalReported {
		t.Errorf("device is %s/%s", got.State, got.Removal)
	}
	if len(w.s.Documents) != 0 || w.s.Enrolment.State != model.EnrolmentEnded {
		t.Errorf("%d documents, enrolment %s", len(w.s.Documents), w.s.Enrolment.State)
	}
}

// PK-10: the former certificate stays until its successor is on the device.
func TestPK10RenewalKeepsTheOldCertificateUntilTheNewOneIsThere(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.now = w.now.Add(45 * week)
	w.s.ConnectorSeen = w.now
	w.session()
	if c, changed := w.status["s0"]; changed {
		t.Fatalf("the old certificate changed to %s before the new one is on the device", c.Status)
	}
	w.settle()
	if got := w.doc("mail.m").InstalledCredentials; !slices.Contains(got, "s1") || slices.Contains(got, "s0") {
		t.Errorf("the account carries %v", got)
	}
	if c := w.status["s0"]; c.Status != model.CertificateSuperseded {
		t.Errorf("the old certificate is %q", c.Status)
	}
	if len(w.s.Issued) != 2 {
		t.Errorf("%d certificates issued, want 2", len(w.s.Issued))
	}
}

// CN-06: what counts of a connector is whether it asks for work, and no date of a version.
func TestCN06ReasonsOfAConnectorThatIsDownOrRefuses(t *testing.T) {
	w := newWorld(t)
	w.s.ConnectorSeen = time.Time{}
	w.session()
	w.want("history", model.DocumentWaiting, platforms.ReasonConnectorDown)
	w.s.ConnectorSeen = w.now
	for k, j := range w.jobs {
		j.State, j.Error, j.UpdatedAt = model.JobFailed, "no such template", w.now
		w.jobs[k] = j
	}
	w.s.Enrolment.Dirty = true
	w.session()
	w.want("history", model.DocumentWaiting, platforms.ReasonRenderFailed)
	w.want("mail.m", model.DocumentWaiting, platforms.ReasonIssueRefused)
	if d := w.doc("mail.m"); d.Detail != "no such template" {
		t.Errorf("detail %q", d.Detail)
	}
	// It goes out by itself later: the device is looked at again, and the refused jobs are asked again.
	if at := w.s.Enrolment.InventoryAt; at.After(w.now.Add(6 * time.Hour)) {
		t.Errorf("looked at again only at %s", at)
	}
	w.now = w.now.Add(6 * time.Hour)
	w.s.ConnectorSeen = w.now
	w.session()
	for k, j := range w.jobs {
		if j.State == model.JobFailed {
			t.Errorf("job %s was not asked again", k)
		}
	}
}

func TestARenderJobGoesOnlyToMembersOfEveryRecord(t *testing.T) {
	w := newWorld(t)
	w.s.Records["rk1"] = recordFor("m1", "m2")
	w.importKey("k0", w.now.Add(-500*week))
	w.s.Records["rk0"] = recordFor("m2", "m3")
	w.session()
	for _, j := range w.jobs {
		if j.DocumentID == "history" && !slices.Equal(j.Needs, []string{"m2"}) {
			t.Errorf("needs %v, want only m2", j.Needs)
		}
	}
}

func TestASecretNeverGoesToACertificateThatCannotDecrypt(t *testing.T) {
	w := newWorld(t)
	w.s.Jobs = map[string]model.Job{}
	w.settle()
	in := reconcile.Input{Snapshot: w.s, Now: w.now, Plan: planner, NewUUID: func() string { return "X" }, Report: reconcile.Report{Outcome: reconcile.OutcomeIdle}}
	in.Snapshot.Documents = nil
	r := reconcile.Decide(in)
	for _, d := range r.Decision.Documents {
		if d.Document.ID == "history" && d.Reason != platforms.ReasonDependency && d.Reason != platforms.ReasonDeviceIdentityCannotDecrypt {
			t.Errorf("history: %s", d.Reason)
		}
	}
	for _, j := range r.Decision.Jobs {
		if j.Kind == "render" {
			t.Errorf("render job %s", j.Key)
		}
	}
}

// SC-11, for a key that the connector makes.
func TestSC11AProfileEditThatChangesNothingInTheCertificateIssuesNothing(t *testing.T) {
	w := newWorld(t)
	w.settle()
	spec := *w.s.Objects[0].Spec.(*profiles.PKCSCertificate)
	spec.RenewalThresholdPercentage, spec.RevokeOn = 30, nil
	w.s.Objects[0].Spec, w.s.Generation = &spec, 2
	w.settle()
	if len(w.s.Issued) != 1 {
		t.Errorf("%d certificates issued", len(w.s.Issued))
	}
	spec.Subject = "CN={{UserName}},OU=Mail"
	w.s.Generation = 3
	w.settle()
	if len(w.s.Issued) != 2 {
		t.Errorf("another subject needs another certificate, %d issued", len(w.s.Issued))
	}
}

// TestWhatNeverShowsIsNotSentAgainAtOnce: the device says that it installed it, and its list says otherwise, each time.
func TestWhatNeverShowsIsNotSentAgainAtOnce(t *testing.T) {
	w := newWorld(t)
	w.edit = func(docs []platforms.Document) []platforms.Document {
		delete(w.docs, "io.waxseal.trust")
		return docs
	}
	for range 10 {
		w.settle()
		w.now = w.now.Add(7 * time.Hour)
		w.s.ConnectorSeen = w.now
	}
	installs := 0
	for _, s := range w.sent {
		if s == "install trust" {
			installs++
		}
	}
	if installs != 3 {
		t.Errorf("sent %d times; the bound is 3", installs)
	}
	w.want("trust", model.DocumentFailed, platforms.ReasonVanished)
}
