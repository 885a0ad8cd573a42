package storetest

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

func adminClasses() []class {
	return []class{
		{"apply", applies}, {"apply/dry-run", dryRun}, {"apply/atomic", applyAtomic}, {"apply/dirties-the-user", applyDirties},
		{"delete", deletes}, {"delete/user with a device (LC-01)", deletesLeaver}, {"import", imports}, {"import/record-deleted", recordDeleted}, {"device-state", deviceState},
		{"mark-dirty (CN-07)", markDirty}, {"audit", audits}, {"paging", paging}, {"foreign-text", foreignText}, {"ping", ping},
	}
}

func applies(_ *testing.T, f *fixture) {
	before := get(f.Generation(f.ctx))(f)
	same(f, "first", f.apply(userObject("Alice@x.example"), importedProfile("history"), assignment("all", "history")), []string{"created", "created", "created"})
	after := get(f.Generation(f.ctx))(f)
	equal(f, "generation", after, before+1)
	same(f, "again", f.apply(userObject("Alice@x.example"), importedProfile("history"), assignment("all", "history")), []string{"unchanged", "unchanged", "unchanged"})
	equal(f, "generation", get(f.Generation(f.ctx))(f), after)
	same(f, "changed", f.apply(userObject("alice@X.example", "sales"), assignment("all", "history", "x")), []string{"updated", "updated"})
	u, err := f.UserByUPN(f.ctx, "ALICE@x.EXAMPLE")
	f.ok(err)
	equal(f, "UPN", u.UPN, "alice@X.example")
	same(f, "groups", u.Spec.Groups, []string{"sales"})
	byID, err := f.UserByID(f.ctx, u.ID)
	f.ok(err)
	same(f, "user", byID, u)
	objects := get(f.Objects(f.ctx))(f)
	equal(f, "objects", len(objects), 2)
	same(f, "assignment", objects[0], assignment("all", "history", "x"))
	same(f, "profile", objects[1], importedProfile("history"))
	_, err = f.Apply(f.ctx, []profiles.Object{{APIVersion: profiles.APIVersion, Kind: profiles.KindCustom, Name: "history", Spec: &profiles.Custom{}}}, false, f.now, f.audit("apply"))
	f.is(err, model.ErrConflict)
}

func dryRun(_ *testing.T, f *fixture) {
	changes, err := f.Apply(f.ctx, []profiles.Object{userObject("a@x.example"), importedProfile("p")}, true, f.now, f.audit("apply"))
	f.ok(err)
	same(f, "changes", changes, []admin.Change{{Kind: profiles.KindUser, Name: "a@x.example", Action: "created"},
		{Kind: profiles.KindPKCSImportedCertificate, Name: "p", Action: "created"}})
	equal(f, "users", len(get(f.Users(f.ctx, admin.Page{}))(f)), 0)
	equal(f, "objects", len(get(f.Objects(f.ctx))(f)), 0)
	equal(f, "audited", f.audited("apply"), 0)
}

func applyAtomic(_ *testing.T, f *fixture) {
	f.apply(importedProfile("p"))
	generation := get(f.Generation(f.ctx))(f)
	_, err := f.Apply(f.ctx, []profiles.Object{userObject("a@x.example"), importedProfile("q"),
		{APIVersion: profiles.APIVersion, Kind: profiles.KindCustom, Name: "p", Spec: &profiles.Custom{}}}, false, f.now, f.audit("apply"))
	f.is(err, model.ErrConflict)
	equal(f, "users", len(get(f.Users(f.ctx, admin.Page{}))(f)), 0)
	equal(f, "objects", len(get(f.Objects(f.ctx))(f)), 1)
	equal(f, "generation", get(f.Generation(f.ctx))(f), generation)
	equal(f, "audited", f.audited("apply"), 1)
}

func applyDirties(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	a, b := f.enrol(f.user("a@x.example"), c, "UDID-A"), f.enrol(f.user("b@x.example"), c, "UDID-B")
	f.settle(a.ID)
	f.settle(b.ID)
	f.apply(userObject("a@x.example", "sales"))
	equal(f, "the user's", f.snapshot(a.ID).Enrolment.Dirty, true)
	equal(f, "another's", f.snapshot(b.ID).Enrolment.Dirty, false)
}

func deletes(_ *testing.T, f *fixture) {
	email := profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindEmail, Name: "mail", Spec: &profiles.Email{AccountName: "m",
		SMIME: &profiles.SMIME{Encryption: profiles.SMIMEEncryption{Certificate: "history"}}}}
	f.apply(userObject("a@x.example"), importedProfile("history"), email, assignment("all", "mail"))
	remove := func(kind profiles.Kind, name string) error {
		return f.DeleteObject(f.ctx, kind, name, f.now, f.audit("delete"))
	}
	generation := get(f.Generation(f.ctx))(f)
	f.is(remove(profiles.KindPKCSImportedCertificate, "history"), model.ErrConflict)
	f.is(remove(profiles.KindEmail, "mail"), model.ErrConflict)
	f.is(remove(profiles.KindEmail, "history"), model.ErrNotFound)
	f.is(remove(profiles.KindAssignment, "nobody"), model.ErrNotFound)
	equal(f, "audited", f.audited("delete"), 0)
	f.ok(remove(profiles.KindAssignment, "all"))
	f.ok(remove(profiles.KindEmail, "mail"))
	f.ok(remove(profiles.KindPKCSImportedCertificate, "history"))
	equal(f, "objects", len(get(f.Objects(f.ctx))(f)), 0)
	equal(f, "generation", get(f.Generation(f.ctx))(f), generation+3)

	u := get(f.UserByUPN(f.ctx, "a@x.example"))(f)
	_, recordID := f.imports(u, "m1")
	f.is(remove(profiles.KindUser, "a@x.example"), model.ErrConflict)
	f.ok(f.DeleteRecord(f.ctx, recordID, f.now, f.audit("escrow.delete")))
	f.ok(remove(profiles.KindUser, "A@x.example"))
	_, err := f.UserByUPN(f.ctx, "a@x.example")
	f.is(err, model.ErrNotFound)
	f.apply(userObject("a@x.example"))
	if again := get(f.UserByUPN(f.ctx, "a@x.example"))(f); again.ID == u.ID {
		f.Fatal("a namesake got the id of the deleted user")
	}
}

// deletesLeaver: who still has a device stays, so that nobody forgets to retire it; once it has left the user can go, and
// what is to be revoked still is.
func deletesLeaver(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	sha, _ := f.issue(e, c, profiles.EventRetire)
	remove := func() error {
		return f.DeleteObject(f.ctx, profiles.KindUser, "a@x.example", f.now, f.audit("delete"))
	}
	f.is(remove(), model.ErrConflict)
	f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		enrolment, device := s.Enrolment, s.Device
		enrolment.State, device.State, device.Removal = model.EnrolmentEnded, model.DeviceLeft, model.RemovalVerified
		d.Enrolment, d.Device = &enrolment, &device
		d.Certificates = []delivery.CertificateChange{{SHA256: sha, Status: model.CertificateRevoking, At: f.now, DropKey: true}}
		d.Jobs = []model.Job{{ID: f.id(), Key: "revoke:" + sha, Kind: link.JobRevoke, Payload: json.RawMessage(`{}`), UserID: e.UserID, RunAt: f.now, CreatedAt: f.now}}
	})
	f.ok(remove())
	equal(f, "revocations", len(f.claimIDs(c, 9)), 1)
	equal(f, "certificate", f.certificateBySHA(sha).Status, model.CertificateRevoking)
}

func imports(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	u := f.user("a@x.example")
	e := f.enrol(u, c, "UDID-A")
	f.settle(e.ID)
	sha, recordID := f.imports(u, "m1")
	s := f.snapshot(e.ID)
	equal(f, "dirty", s.Enrolment.Dirty, true)
	equal(f, "imported", len(s.Imported), 1)
	equal(f, "record id", s.Imported[0].RecordID, recordID)
	equal(f, "status", s.Imported[0].Status, model.CertificateCurrent)
	same(f, "record", s.Records[recordID], record(recordID, "urn:waxseal:user:"+u.ID, sha, "m1"))

	f.settle(e.ID)
	again := model.EscrowRecord{Record: record(f.id(), "urn:waxseal:user:"+u.ID, sha, "m1"), UserID: u.ID, Purpose: profiles.PurposeSMIMEEncryption}
	isNew, err := f.Import(f.ctx, again, f.certificate(sha), f.audit("escrow.import"))
	f.ok(err)
	equal(f, "created again", isNew, false)
	equal(f, "dirty after the second", f.snapshot(e.ID).Enrolment.Dirty, false)
	equal(f, "audited", f.audited("escrow.import"), 1)

	// The same certificate for somebody else is a record of its own.
	other := f.user("b@x.example")
	again.UserID, again.Record.ID = other.ID, f.id()
	isNew, err = f.Import(f.ctx, again, f.certificate(sha), f.audit("escrow.import"))
	f.ok(err)
	equal(f, "created for another", isNew, true)
	equal(f, "certificates", countKind(f, model.CertificateImported), 2)
	equal(f, "records", len(get(f.EscrowRecords(f.ctx, admin.Page{}))(f)), 2)
	again.UserID = "nobody"
	_, err = f.Import(f.ctx, again, f.certificate(sha), f.audit("escrow.import"))
	f.is(err, model.ErrNotFound)
}

func countKind(f *fixture, kind model.CertificateKind) int {
	n := 0
	for _, c := range get(f.Certificates(f.ctx, admin.Page{}))(f) {
		if c.Kind == kind {
			n++
		}
	}
	return n
}

func recordDeleted(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	u := f.user("a@x.example")
	e := f.enrol(u, c, "UDID-A")
	sha, recordID := f.imports(u, "m1")
	f.settle(e.ID)
	equal(f, "imported for the user", len(get(f.Imported(f.ctx, u.ID))(f)), 1)
	equal(f, "for another", len(get(f.Imported(f.ctx, "another"))(f)), 0)
	f.ok(f.DeleteRecord(f.ctx, recordID, f.now, f.audit("escrow.delete")))
	equal(f, "imported for the user", len(get(f.Imported(f.ctx, u.ID))(f)), 0)
	s := f.snapshot(e.ID)
	equal(f, "imported", len(s.Imported), 0)
	equal(f, "records", len(s.Records), 0)
	equal(f, "dirty", s.Enrolment.Dirty, true)
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateRemoved)
	equal(f, "revoke jobs", len(f.jobsOf("revoke")), 0)
	f.is(f.DeleteRecord(f.ctx, recordID, f.now, f.audit("escrow.delete")), model.ErrNotFound)
	r := model.EscrowRecord{Record: record(f.id(), "urn:waxseal:user:"+u.ID, sha, "m1"), UserID: u.ID, Purpose: profiles.PurposeSMIMEEncryption}
	isNew, err := f.Import(f.ctx, r, f.certificate(sha), f.audit("escrow.import"))
	f.ok(err)
	equal(f, "imported again", isNew, true)
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateCurrent)
}

func deviceState(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID-A")
	set := func(s model.DeviceState) error {
		return f.SetDeviceState(f.ctx, e.DeviceID, s, f.now, f.audit("device.state"))
	}
	f.settle(e.ID)
	f.now = f.now.Add(time.Hour)
	f.ok(set(model.DeviceRetiring))
	f.ok(set(model.DeviceRetiring))
	equal(f, "audited", f.audited("device.state"), 1)
	s := f.snapshot(e.ID)
	equal(f, "state", s.Device.State, model.DeviceRetiring)
	equal(f, "since", s.Device.StateAt, f.now)
	equal(f, "dirty", s.Enrolment.Dirty, true)
	f.is(set(model.DeviceEnrolled), model.ErrConflict)
	f.ok(set(model.DeviceWiping))
	f.is(set(model.DeviceRetiring), model.ErrConflict)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.leave")))
	f.ok(set(model.DeviceRetiring))
	equal(f, "left stays", f.snapshot(e.ID).Device.State, model.DeviceLeft)
	f.is(f.SetDeviceState(f.ctx, "none", model.DeviceRetiring, f.now, f.audit("device.state")), model.ErrNotFound)
}

func markDirty(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID-A")
	f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		doc := document("mail", "r1")
		doc.Status, doc.Attempts, doc.RetryAt = model.DocumentFailed, 8, f.now.Add(time.Hour)
		doc.Redeliver, doc.Losses = map[string]int{"k1": 3}, map[string]int{"k1": 3}
		d.Documents = []model.DocumentState{doc}
		d.Jobs = []model.Job{{ID: "j1", Key: "k1", Kind: "issue", Payload: json.RawMessage(`{}`), EnrolmentID: e.ID, UserID: e.UserID, RunAt: f.now, CreatedAt: f.now}}
		s.Enrolment.Dirty, s.Enrolment.InventoryAt = false, f.now.Add(24*time.Hour)
		d.Enrolment = &s.Enrolment
	})
	failed := f.completion(f.claim(c))
	failed.Failure = &connectorFailure{Message: "refused", Final: true, Reason: "IssueRefused"}
	f.ok(f.Complete(f.ctx, failed))
	equal(f, "failed", f.job("j1").State, model.JobFailed)
	version := f.snapshot(e.ID).Enrolment.Version
	f.now = f.now.Add(time.Minute)
	f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("device.sync")))
	s := f.snapshot(e.ID)
	equal(f, "dirty", s.Enrolment.Dirty, true)
	equal(f, "version", s.Enrolment.Version, version+1)
	equal(f, "inventory due", s.Enrolment.InventoryAt, f.now)
	equal(f, "attempts", s.Documents[0].Attempts, 0)
	equal(f, "retry", s.Documents[0].RetryAt, f.now)
	equal(f, "losses", s.Documents[0].Losses["k1"], 0)
	equal(f, "delivered again", s.Documents[0].Redeliver["k1"], 3)
	equal(f, "job", f.job("j1").State, model.JobOpen)
	equal(f, "claimed again", f.claim(c).ID, "j1")
	// A revocation that the CA refused belongs to no enrolment any more, but to the device.
	f.issue(e, c, profiles.EventUnenroll)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("leave")))
	failed = f.completion(f.claim(c))
	failed.Failure = &connectorFailure{Message: "refused", Final: true}
	f.ok(f.Complete(f.ctx, failed))
	f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("device.sync")))
	equal(f, "revoked again", f.claim(c).Kind, link.JobRevoke)
	f.is(f.MarkDirty(f.ctx, "none", f.now, f.audit("device.sync")), model.ErrNotFound)
}

func audits(_ *testing.T, f *fixture) {
	for range 3 {
		f.ok(f.AppendAudit(f.ctx, f.audit("one"), f.audit("two")))
	}
	first := get(f.Audit(f.ctx, 0, 4))(f)
	equal(f, "first page", len(first), 4)
	rest := get(f.Audit(f.ctx, first[3].ID, 0))(f)
	equal(f, "second page", len(rest), 2)
	want := f.audit("two")
	want.ID = rest[1].ID
	same(f, "entry", rest[1], want)
	if !slices.IsSortedFunc(append(first, rest...), func(a, b model.AuditEntry) int { return int(a.ID - b.ID) }) {
		f.Fatal("entries are not in order")
	}
}

func paging(_ *testing.T, f *fixture) {
	var want []string
	for _, name := range []string{"a", "B", "c", "Z", "é", "_"} {
		upn := name + "@x.example"
		f.imports(f.user(upn), "m1")
		want = append(want, strings.ToLower(upn))
	}
	slices.Sort(want)
	same(f, "users", pages(f, f.Users, func(u model.User) string { return strings.ToLower(u.UPN) }), want)
	equal(f, "certificates", len(pages(f, f.Certificates, func(c model.Certificate) string { return c.SHA256 })), 6)
	equal(f, "certificates by both keys", len(pages(f, f.Certificates, func(c model.Certificate) string { return c.SHA256 + "/" + c.UserID })), 6)
	equal(f, "records", len(pages(f, f.EscrowRecords, func(r model.EscrowRecord) string { return r.Record.ID })), 6)
	equal(f, "devices", len(pages(f, f.Devices, func(d model.Device) string { return d.ID })), 0)
}

func foreignText(_ *testing.T, f *fixture) {
	_, ch := f.challenge(f.user("a@x.example"))
	e := f.certify(ch, f.connector("m1"))
	d := model.Device{ExternalID: "UDID", Name: "nul \x00 broken \xff ☎", LastSeen: f.now}
	bound, err := f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: d.ExternalID}, d, f.audit("device.enrol"))
	f.ok(err)
	stored := get(f.DeviceByID(f.ctx, bound.DeviceID))(f)
	equal(f, "name", stored.Name, "nul \uFFFD broken \uFFFD ☎")
}

func ping(_ *testing.T, f *fixture) { f.ok(f.Ping(f.ctx)) }
