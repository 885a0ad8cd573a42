package storetest

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
)

const day = 24 * time.Hour

func sweepClasses() []class {
	return []class{{"sweep", sweeps}, {"sweep/silence", silence}}
}

func retention() store.Retention {
	return store.Retention{Silence: 30 * day, Commands: 30 * day, Jobs: 90 * day}
}

func sweeps(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	_, unused := f.challenge(u)
	f.want(e, model.Job{ID: "done", Key: "done"})
	done := f.completion(f.claim(c))
	done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID}
	f.ok(f.Complete(f.ctx, done))
	f.want(e, model.Job{ID: "open", Key: "open", RunAt: f.now.Add(1000 * day)})
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Commands = []model.Command{{UUID: "answered", State: model.CommandDone, UpdatedAt: f.now}, {UUID: "waiting", State: model.CommandSent, UpdatedAt: f.now}}
	})
	command := func(uuid string) error { _, err := f.LastCommand(f.ctx, e.ID, uuid); return err }
	f.ok(f.Sweep(f.ctx, f.now.Add(29*day), retention()))
	f.ok(command("answered"))
	f.ok(f.Sweep(f.ctx, f.now.Add(200*day), retention()))
	f.is(command("answered"), model.ErrNotFound)
	f.ok(command("waiting"))
	_, err := f.JobByID(f.ctx, "done")
	f.is(err, model.ErrNotFound)
	equal(f, "open", f.job("open").State, model.JobOpen)
	_, err = f.ChallengeByHash(f.ctx, unused.Hash)
	f.is(err, model.ErrNotFound)
	equal(f, "the enrolment stays", f.snapshot(e.ID).Enrolment.State, model.EnrolmentActive)
	equal(f, "the audit log stays", f.audited("device.enrol"), 1)
}

// silence: a device that should leave and does not come is given up, its certificate revoked; when it comes after all,
// what we know is what it says.
func silence(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e, other := f.enrol(u, c, "A"), f.enrol(u, c, "B")
	sha, intent := f.issue(e, c, profiles.EventRetire)
	f.ok(f.SetDeviceState(f.ctx, e.DeviceID, model.DeviceRetiring, f.now, f.audit("device.retire")))
	f.ok(f.Sweep(f.ctx, f.now.Add(30*day), retention()))
	equal(f, "not yet", f.snapshot(e.ID).Device.Removal, model.Removal(""))
	for range 2 {
		f.ok(f.Sweep(f.ctx, f.now.Add(31*day), retention()))
	}
	s := f.snapshot(e.ID)
	equal(f, "removal", s.Device.Removal, model.RemovalUnconfirmed)
	equal(f, "state", s.Device.State, model.DeviceRetiring)
	equal(f, "enrolment", s.Enrolment.State, model.EnrolmentActive)
	equal(f, "certificate", f.certificateBySHA(sha).Status, model.CertificateRevoking)
	equal(f, "identity", f.certificateBySHA(e.CertSHA256).Status, model.CertificateCurrent)
	equal(f, "revoke jobs", len(f.jobsOf(link.JobRevoke)), 1)
	if _, there := s.Records[intent]; there {
		f.Fatal("the key is still there")
	}
	equal(f, "audited", f.audited("device.silent"), 1)
	equal(f, "others", f.snapshot(other.ID).Device.Removal, model.Removal(""))
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now.Add(40*day), f.audit("leave")))
	s = f.snapshot(e.ID)
	equal(f, "it came after all", s.Device.Removal, model.RemovalReported)
	equal(f, "left", s.Device.State, model.DeviceLeft)
}
