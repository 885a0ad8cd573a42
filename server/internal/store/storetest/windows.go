package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

var _ windowsmdm.Sessions = Store(nil)

func windowsClasses() []class {
	return []class{
		{"a PC is known by its hardware, an enrolment by its DeviceID", reenrolledPC},
		{"a renewed certificate is good beside the old one until it is used", renews},
		{"a renewal that is asked for again gives the same", renewsAgain},
		{"a renewal that was asked for anew since gives nothing", renewsAnew},
		{"a renewal of an enrolment that ended gives nothing", renewsTooLate},
		{"one session for each enrolment, the latest version wins", keepsSession},
	}
}

func (f *fixture) enrolPC(u model.User, c model.Connector, deviceID, hardware string) model.Enrolment {
	f.Helper()
	_, ch := f.challenge(u)
	e := f.certify(ch, c)
	d := model.Device{ID: f.id(), ExternalID: hardware, Name: "PC", OSVersion: "10.0.22631.1", LastSeen: f.now}
	get(f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: deviceID, CertStore: "System"}, d, f.audit("device.enrol")))(f)
	f.ok(f.TokenUpdate(f.ctx, e.ID, nil, "", "", false, f.now))
	return f.snapshot(e.ID).Enrolment
}

func reenrolledPC(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	old := f.enrolPC(u, c, "DEVICE-1", "HARDWARE")
	equal(f, "external id and store of the enrolment", old.ExternalID+" "+old.CertStore, "DEVICE-1 System")
	fresh := f.enrolPC(u, c, "DEVICE-2", "HARDWARE")
	equal(f, "device", fresh.DeviceID, old.DeviceID)
	equal(f, "external id", fresh.ExternalID, "DEVICE-2")
	equal(f, "external id of the device", get(f.DeviceByID(f.ctx, fresh.DeviceID))(f).ExternalID, "HARDWARE")
	equal(f, "the old enrolment", f.snapshot(old.ID).Enrolment.State, model.EnrolmentEnded)
	equal(f, "its certificate", f.certificateOf(old).Status, model.CertificateRemoved)
}

func (f *fixture) certificateOf(e model.Enrolment) model.Certificate {
	f.Helper()
	for _, c := range get(f.Certificates(f.ctx, adminPage()))(f) {
		if c.SHA256 == e.CertSHA256 {
			return c
		}
	}
	f.Fatalf("no certificate %s", e.CertSHA256)
	return model.Certificate{}
}

// asks makes the challenge of a renewal and its job.
func (f *fixture) asks(e model.Enrolment, key string) (model.Challenge, error) {
	c := model.Challenge{Hash: "renew " + e.ID + key, UserID: e.UserID, Platform: e.Platform, EnrolmentID: e.ID, CreatedAt: f.now,
		ExpiresAt: f.now.Add(time.Hour), KeySHA256: key}
	job := model.Job{ID: f.id(), Key: "identity:" + e.ID + ":" + key, Kind: link.JobIdentity, Payload: json.RawMessage(`{}`),
		UserID: e.UserID, EnrolmentID: e.ID, RunAt: f.now, CreatedAt: f.now}
	return f.Renew(f.ctx, c, job)
}

// answers lets the connector certify the renewal.
func (f *fixture) answers(c model.Connector, ch model.Challenge) model.Certificate {
	f.Helper()
	done := f.completion(f.claim(c))
	cert := f.certificate(f.sha())
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: ch.EnrolmentID, Certificate: cert, Chain: [][]byte{[]byte("ca")}}
	f.ok(f.Complete(f.ctx, done))
	return cert
}

func renews(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrolPC(u, c, "DEVICE", "HARDWARE")
	ch := get(f.asks(e, "key"))(f)
	equal(f, "linkless", ch.LinkID, "")
	cert := f.answers(c, ch)
	stored := get(f.ChallengeByHash(f.ctx, ch.Hash))(f)
	equal(f, "the answer", string(stored.Certificate), string(cert.DER))
	for _, sum := range []string{e.CertSHA256, cert.SHA256} {
		got := get(f.EnrolmentByCertificate(f.ctx, sum))(f)
		equal(f, "bound", got.ID+" "+got.CertSHA256+" "+got.NextCertSHA256, e.ID+" "+e.CertSHA256+" "+cert.SHA256)
	}
	before := f.snapshot(e.ID).Enrolment.Version
	same(f, "nothing by a stranger", get(f.Promote(f.ctx, e.ID, f.sha(), f.now, f.audit("x")))(f).CertSHA256, e.CertSHA256)
	equal(f, "version", f.snapshot(e.ID).Enrolment.Version, before)
	promoted := get(f.Promote(f.ctx, e.ID, cert.SHA256, f.now, f.audit("enrolment.renew")))(f)
	same(f, "promoted", f.snapshot(e.ID).Enrolment, promoted)
	equal(f, "certificate", promoted.CertSHA256+string(promoted.Certificate)+promoted.NextCertSHA256, cert.SHA256+string(cert.DER))
	equal(f, "the old one", f.certificateOf(e).Status, model.CertificateSuperseded)
	equal(f, "the new one", f.certificateOf(promoted).Status, model.CertificateCurrent)
	equal(f, "its device", f.certificateOf(promoted).DeviceID, e.DeviceID)
	_, err := f.EnrolmentByCertificate(f.ctx, e.CertSHA256)
	f.is(err, model.ErrNotFound)
	same(f, "again", get(f.Promote(f.ctx, e.ID, cert.SHA256, f.now, f.audit("x")))(f), promoted)
}

func renewsAgain(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrolPC(u, c, "DEVICE", "HARDWARE")
	first := get(f.asks(e, "key"))(f)
	same(f, "before the answer", get(f.asks(e, "key"))(f), first)
	cert := f.answers(c, first)
	equal(f, "after it", string(get(f.asks(e, "key"))(f).Certificate), string(cert.DER))
	other := get(f.asks(e, "another key"))(f)
	latest := f.answers(c, other)
	equal(f, "the latest counts", get(f.EnrolmentByCertificate(f.ctx, latest.SHA256))(f).ID, e.ID)
	_, err := f.EnrolmentByCertificate(f.ctx, cert.SHA256)
	f.is(err, model.ErrNotFound)
	equal(f, "the one before", f.certificateOf(model.Enrolment{CertSHA256: cert.SHA256}).Status, model.CertificateSuperseded)
}

// renewsAnew: the PC waited in vain, makes another key, and has its answer; then comes the one to the first request.
func renewsAnew(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrolPC(u, c, "DEVICE", "HARDWARE")
	first := get(f.asks(e, "key"))(f)
	slow := f.claim(c)
	f.now = f.now.Add(time.Second)
	latest := f.answers(c, get(f.asks(e, "another key"))(f))
	done := f.completion(slow)
	late := f.certificate(f.sha())
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: e.ID, Certificate: late}
	f.ok(f.Complete(f.ctx, done))
	equal(f, "bound", f.snapshot(e.ID).Enrolment.NextCertSHA256, latest.SHA256)
	_, err := f.EnrolmentByCertificate(f.ctx, late.SHA256)
	f.is(err, model.ErrNotFound)
	equal(f, "the answer to the first", len(get(f.ChallengeByHash(f.ctx, first.Hash))(f).Certificate), 0)

	f.now = f.now.Add(time.Second)
	get(f.asks(e, "third key"))(f)
	f.now = f.now.Add(time.Second)
	get(f.asks(e, "fourth key"))(f)
	equal(f, "requests that a connector still works on", len(f.claimIDs(c, 10)), 1)
}

func renewsTooLate(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrolPC(u, c, "DEVICE", "HARDWARE")
	get(f.asks(e, "key"))(f)
	job := f.claim(c)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.checkout")))
	_, err := f.asks(e, "another key")
	f.is(err, model.ErrConflict)
	done := f.completion(job)
	cert := f.certificate(f.sha())
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: e.ID, Certificate: cert}
	f.is(f.Complete(f.ctx, done), model.ErrConflict)
	_, err = f.EnrolmentByCertificate(f.ctx, cert.SHA256)
	f.is(err, model.ErrNotFound)
}

func keepsSession(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrolPC(u, c, "DEVICE", "HARDWARE")
	_, err := f.Session(f.ctx, e.ID)
	f.is(err, model.ErrNotFound)
	s := model.Session{EnrolmentID: e.ID, ID: "5A", Heard: 1, Login: "user", State: json.RawMessage(`{"uuid":"C1"}`), UpdatedAt: f.now}
	f.ok(f.SaveSession(f.ctx, s))
	f.is(f.SaveSession(f.ctx, s), model.ErrConflict)
	s.Version = 1
	same(f, "stored", get(f.Session(f.ctx, e.ID))(f), s)
	s.ID, s.Heard, s.Login, s.State = "5B", 2, "none", nil
	f.ok(f.SaveSession(f.ctx, s))
	f.is(f.SaveSession(f.ctx, s), model.ErrConflict)
	got := get(f.Session(f.ctx, e.ID))(f)
	equal(f, "waits for nothing", len(got.State), 0)
	equal(f, "stored", got.ID+got.Login, "5Bnone")
	f.decide(e.ID, func(*delivery.Decision, delivery.Snapshot) {})
	equal(f, "a decision leaves it", get(f.Session(f.ctx, e.ID))(f).ID, "5B")
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.checkout")))
	_, err = f.Session(f.ctx, e.ID)
	f.is(err, model.ErrNotFound)
}
