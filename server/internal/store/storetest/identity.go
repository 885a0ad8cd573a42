package storetest

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

type connectorFailure = connectorapi.Failure

func identityClasses() []class {
	return []class{
		{"links+challenges", challenges}, {"links+challenges/expiry", challengeExpiry}, {"links+challenges/one-winner", oneWinner}, {"links+challenges/overtaken", overtaken},
		{"authenticate", authenticates}, {"authenticate/again-and-elsewhere", authenticateAgain}, {"authenticate/new-owner", newOwner},
		{"token-update", tokenUpdates}, {"checkout", checksOut}, {"checkout/by-admin", checkOutByAdmin},
	}
}

func challenges(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	l, ch := f.challenge(f.user("a@x.example"))
	stored := get(f.LinkByToken(f.ctx, l.TokenHash))(f)
	same(f, "link", stored, l)
	_, err := f.LinkByToken(f.ctx, "other")
	f.is(err, model.ErrNotFound)
	_, err = f.redeem(model.Challenge{Hash: "other"}, "key")
	f.is(err, model.ErrNotFound)

	first := get(f.redeem(ch, "key"))(f)
	equal(f, "key", first.KeySHA256, "key")
	again := get(f.redeem(ch, "key"))(f)
	same(f, "the same key again", again, first)
	_, err = f.redeem(ch, "another key")
	f.is(err, model.ErrSpent)
	equal(f, "jobs", len(f.jobsOf("identity")), 1)

	done := f.completion(f.claim(c))
	cert := f.certificate(f.sha())
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: ch.EnrolmentID, Certificate: cert, Chain: [][]byte{[]byte("ca")}}
	f.ok(f.Complete(f.ctx, done))
	f.is(f.Complete(f.ctx, done), model.ErrConflict)
	f.now = f.now.Add(100 * time.Hour) // a SCEP client that lost the answer asks again, much later
	answer := get(f.redeem(ch, "key"))(f)
	same(f, "certificate", answer.Certificate, cert.DER)
	same(f, "chain", answer.Chain, [][]byte{[]byte("ca")})
	same(f, "by hash", get(f.ChallengeByHash(f.ctx, ch.Hash))(f), answer)
	equal(f, "link spent", get(f.LinkByToken(f.ctx, l.TokenHash))(f).SpentAt, done.At)
	e := get(f.EnrolmentByCertificate(f.ctx, cert.SHA256))(f)
	equal(f, "enrolment", e.ID, ch.EnrolmentID)
	equal(f, "state", e.State, model.EnrolmentIssued)
	same(f, "bound", e.Certificate, cert.DER)
	row := f.certificateBySHA(cert.SHA256)
	equal(f, "kind", row.Kind, model.CertificateIdentity)
	equal(f, "of", row.EnrolmentID, e.ID)
	_, err = f.redeem(f.another(l), "third key")
	f.is(err, model.ErrSpent)
}

func challengeExpiry(_ *testing.T, f *fixture) {
	l, ch := f.challenge(f.user("a@x.example"))
	f.now = f.now.Add(16 * time.Minute)
	_, err := f.redeem(ch, "key")
	f.is(err, model.ErrExpired)
	f.now = l.ExpiresAt.Add(-time.Second)
	late := f.another(l)
	f.now = l.ExpiresAt.Add(time.Second)
	_, err = f.redeem(late, "key")
	f.is(err, model.ErrExpired)
	equal(f, "jobs", len(f.jobsOf("identity")), 0)
}

// oneWinner: two downloads of one link, both redeemed; the first certificate spends the link.
func oneWinner(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	l, first := f.challenge(f.user("a@x.example"))
	second := f.another(l)
	get(f.redeem(first, "key 1"))(f)
	jobs := []model.Job{f.claim(c)}
	get(f.redeem(second, "key 2"))(f)
	jobs = append(jobs, f.claim(c))
	for _, j := range jobs {
		done := f.completion(j)
		done.Identity = &connectorapi.IdentityEffect{EnrolmentID: j.EnrolmentID, Certificate: f.certificate(f.sha())}
		f.ok(f.Complete(f.ctx, done))
	}
	equal(f, "winner", f.job(jobs[0].ID).State, model.JobDone)
	equal(f, "loser", f.job(jobs[1].ID).State, model.JobFailed)
	_, err := f.Snapshot(f.ctx, jobs[1].EnrolmentID)
	f.is(err, model.ErrNotFound)
	for _, ch := range []model.Challenge{first, second} {
		if ch.EnrolmentID == jobs[1].EnrolmentID {
			_, err := f.redeem(ch, map[string]string{first.Hash: "key 1", second.Hash: "key 2"}[ch.Hash])
			f.is(err, model.ErrSpent)
		}
	}
}

// overtaken: no connector was there; who downloads the profile again gives the former request up, and it does not spend
// the link when the connector comes back.
func overtaken(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	l, first := f.challenge(f.user("a@x.example"))
	given := get(f.redeem(first, "key 1"))(f)
	second := f.another(l)
	get(f.redeem(second, "key 2"))(f)
	equal(f, "the former", f.job(given.JobID).State, model.JobObsolete)
	equal(f, "the latter", f.claim(c).EnrolmentID, second.EnrolmentID)
	again := get(f.redeem(first, "key 1"))(f)
	equal(f, "the former again", f.job(again.JobID).State, model.JobObsolete)
}

func authenticates(_ *testing.T, f *fixture) {
	u := f.user("a@x.example")
	_, ch := f.challenge(u)
	e := f.certify(ch, f.connector("m1"))
	d := model.Device{ID: "device-1", ExternalID: "UDID", Name: "phone", OSVersion: "18.1", LastSeen: f.now}
	bound := get(f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: d.ExternalID}, d, f.audit("device.enrol")))(f)
	equal(f, "device", bound.DeviceID, "device-1")
	equal(f, "state", bound.State, model.EnrolmentAuthenticated)
	equal(f, "external id", bound.ExternalID, "UDID")
	stored := get(f.EnrolmentByCertificate(f.ctx, e.CertSHA256))(f)
	same(f, "stored", stored, bound)
	device := get(f.DeviceByID(f.ctx, "device-1"))(f)
	equal(f, "owner", device.UserID, u.ID)
	equal(f, "platform", device.Platform, profiles.IOS)
	equal(f, "device state", device.State, model.DeviceEnrolled)

	f.decide(e.ID, func(dec *delivery.Decision, _ delivery.Snapshot) { dec.Inventory = &model.Inventory{ProfilesAt: f.now} })
	d.ID, d.OSVersion, d.Name = "device-2", "18.2", ""
	get(f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: d.ExternalID}, d, f.audit("device.enrol")))(f)
	device = get(f.DeviceByID(f.ctx, "device-1"))(f)
	equal(f, "facts", device.Name+" "+device.OSVersion, "phone 18.2")
	equal(f, "its inventory must be asked again", f.snapshot(e.ID).Inventory.ProfilesAt.IsZero(), true)
	equal(f, "dirty", f.snapshot(e.ID).Enrolment.Dirty, true)
	d.ExternalID = "ANOTHER"
	_, err := f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: d.ExternalID}, d, f.audit("device.enrol"))
	f.is(err, model.ErrConflict)
	_, err = f.Authenticate(f.ctx, model.Enrolment{ID: "none", ExternalID: d.ExternalID}, d, f.audit("device.enrol"))
	f.is(err, model.ErrNotFound)
	equal(f, "devices", len(get(f.Devices(f.ctx, adminPage()))(f)), 1)
}

// authenticateAgain: the same phone enrols a second time; the device stays, the first enrolment ends.
func authenticateAgain(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	old := f.enrol(u, c, "UDID")
	signing, intent := f.issue(old, c)
	f.decide(old.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Documents = []model.DocumentState{document("trust", "r1")}
	})
	f.now = f.now.Add(time.Hour)
	fresh := f.enrol(u, c, "UDID")
	equal(f, "device", fresh.DeviceID, old.DeviceID)
	equal(f, "old", f.snapshot(old.ID).Enrolment.State, model.EnrolmentEnded)
	s := f.snapshot(fresh.ID)
	equal(f, "documents", len(s.Documents)+len(s.Commands)+len(s.Issued)+len(s.Inventory.Profiles), 0)
	equal(f, "signing certificate", f.certificateBySHA(signing).Status, model.CertificateRemoved)
	if _, ok := f.snapshot(old.ID).Records[intent]; ok {
		f.Fatal("the sealed key of the ended enrolment is still there")
	}
	all := get(f.EnrolmentsOfDevice(f.ctx, old.DeviceID))(f)
	equal(f, "enrolments", len(all), 2)
	equal(f, "newest first", all[0].ID, fresh.ID)
	active := get(f.EnrolmentOfDevice(f.ctx, old.DeviceID, "device"))(f)
	equal(f, "active", active.ID, fresh.ID)
}

// newOwner: a phone is handed to a colleague.
func newOwner(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	old := f.enrol(f.user("a@x.example"), c, "UDID")
	revoked, _ := f.issue(old, c, profiles.EventUnenroll)
	kept, _ := f.issue(old, c)
	fresh := f.enrol(f.user("b@x.example"), c, "UDID")
	if fresh.DeviceID == old.DeviceID {
		f.Fatal("the device row was reused for another user")
	}
	s := f.snapshot(old.ID)
	equal(f, "state", s.Device.State, model.DeviceLeft)
	equal(f, "removal", s.Device.Removal, model.RemovalUnconfirmed)
	equal(f, "enrolment", s.Enrolment.State, model.EnrolmentEnded)
	equal(f, "revoking", f.certificateBySHA(revoked).Status, model.CertificateRevoking)
	equal(f, "removed", f.certificateBySHA(kept).Status, model.CertificateRemoved)
	equal(f, "revoke jobs", len(f.jobsOf("revoke")), 1)
}

func tokenUpdates(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	_, ch := f.challenge(u)
	e := f.certify(ch, c)
	update := func() error { return f.TokenUpdate(f.ctx, e.ID, []byte("t"), "m", "topic", true, f.now) }
	f.is(update(), model.ErrConflict)
	_, err := f.EnrolmentOfDevice(f.ctx, e.DeviceID, "device")
	f.is(err, model.ErrNotFound)
	e = f.checkIn(e, "UDID")
	f.settle(e.ID)
	f.ok(update())
	f.ok(update())
	s := f.snapshot(e.ID).Enrolment
	equal(f, "state", s.State, model.EnrolmentActive)
	equal(f, "dirty", s.Dirty, true)
	equal(f, "push", string(s.PushToken)+s.PushMagic+s.PushTopic, "tmtopic")
	equal(f, "must re-enrol", s.MustReenroll, true)
	f.is(f.TokenUpdate(f.ctx, "none", nil, "", "", false, f.now), model.ErrNotFound)
}

func checksOut(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	imported, _ := f.imports(u, "m1")
	revoked, intent := f.issue(e, c, profiles.EventUnenroll, profiles.EventWipe)
	removed, _ := f.issue(e, c, profiles.EventRetire)
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		doc := document("mail", "r1")
		doc.Payload, doc.PayloadRevision, doc.PayloadRecipient = []byte("encrypted"), "r1", e.CertSHA256
		d.Documents = []model.DocumentState{doc}
		d.Jobs = []model.Job{{ID: "render", Key: "render", Kind: "render", Payload: []byte(`{"records":[1]}`), EnrolmentID: e.ID, RunAt: f.now, CreatedAt: f.now}}
	})
	f.now = f.now.Add(time.Hour)
	for range 2 {
		f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.leave")))
	}
	equal(f, "audited", f.audited("device.leave"), 1)
	s := f.snapshot(e.ID)
	equal(f, "enrolment", s.Enrolment.State, model.EnrolmentEnded)
	equal(f, "device", s.Device.State, model.DeviceLeft)
	equal(f, "removal", s.Device.Removal, model.RemovalReported)
	equal(f, "since", s.Device.StateAt, f.now)
	equal(f, "payload", len(s.Documents[0].Payload), 0)
	equal(f, "push token", len(s.Enrolment.PushToken), 0)
	if _, ok := s.Records[intent]; ok {
		f.Fatal("the sealed issued key is still there")
	}
	equal(f, "job", f.job("render").State, model.JobObsolete)
	equal(f, "its payload", string(f.job("render").Payload), "{}")
	equal(f, "revoking", f.certificateBySHA(revoked).Status, model.CertificateRevoking)
	equal(f, "removed", f.certificateBySHA(removed).Status, model.CertificateRemoved)
	equal(f, "imported", f.certificateBySHA(imported).Status, model.CertificateCurrent)
	equal(f, "identity", f.certificateBySHA(e.CertSHA256).Status, model.CertificateRemoved)

	j := f.claim(c)
	equal(f, "revoke job", j.Key, "revoke:"+revoked)
	done := f.completion(j)
	done.Revoked = &connectorapi.RevokedEffect{CertSHA256: revoked, At: f.now}
	f.ok(f.Complete(f.ctx, done))
	equal(f, "revoked", f.certificateBySHA(revoked).Status, model.CertificateRevoked)
	f.is(f.CheckOut(f.ctx, "none", model.RemovalReported, "unenroll", f.now, f.audit("device.leave")), model.ErrNotFound)
}

// checkOutByAdmin: the device says goodbye because an admin retires it, after its inventory has proved the removal.
func checkOutByAdmin(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	sha, _ := f.issue(e, c, profiles.EventRetire)
	f.ok(f.SetDeviceState(f.ctx, e.DeviceID, model.DeviceRetiring, f.now, f.audit("device.retire")))
	f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		s.Device.Removal = model.RemovalVerified
		d.Device = &s.Device
	})
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.leave")))
	s := f.snapshot(e.ID)
	equal(f, "removal", s.Device.Removal, model.RemovalVerified)
	equal(f, "state", s.Device.State, model.DeviceLeft)
	equal(f, "certificate", f.certificateBySHA(sha).Status, model.CertificateRevoking)
}
