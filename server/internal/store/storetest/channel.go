package storetest

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
)

func channelClasses() []class {
	return []class{
		{"a Mac's user channel hangs on the device channel", userChannel},
		{"only one user of a Mac has the channel", otherUser},
		{"a user channel ends with the device's", userChannelEnds},
		{"the device channel waits for the user's, and is told when it is empty", userChannelFirst},
		{"a Mac that begins anew is asked what its user has", macBeginsAnew},
		{"a Mac's bootstrap token goes when it leaves", bootstrapTokenGoes},
		{"a device that obeyed takes its user channel along", obeyedWithUser},
	}
}

func (f *fixture) mac() (device, user model.Enrolment) {
	f.Helper()
	u, c := f.user("carol@x.example"), f.connector("m1")
	device = f.enrol(u, c, "UDID")
	user = get(f.OpenUserChannel(f.ctx, f.userOf(device, "UDID:U1"), f.now, f.audit("device.userChannel")))(f)
	return device, user
}

func (f *fixture) userOf(device model.Enrolment, externalID string) model.Enrolment {
	return model.Enrolment{ID: f.id(), HolderID: device.ID, ExternalID: externalID, PushToken: []byte("user token"), PushMagic: "m2", PushTopic: "topic"}
}

func userChannel(_ *testing.T, f *fixture) {
	device, user := f.mac()
	same(f, "stored", f.snapshot(user.ID).Enrolment, user)
	equal(f, "channel", user.Channel+" "+user.DeviceID+" "+user.CertSHA256+" "+string(user.State), "user "+device.DeviceID+" "+device.CertSHA256+" active")
	equal(f, "the certificate is the device channel's", get(f.EnrolmentByCertificate(f.ctx, device.CertSHA256))(f).ID, device.ID)
	same(f, "found", get(f.UserChannel(f.ctx, device.ID))(f), user)
	f.now = f.now.Add(time.Hour)
	again := f.userOf(device, "UDID:U1")
	again.PushToken = []byte("another token")
	equal(f, "the same channel", get(f.OpenUserChannel(f.ctx, again, f.now, f.audit("x")))(f).ID, user.ID)
	equal(f, "token", string(get(f.UserChannel(f.ctx, device.ID))(f).PushToken), "another token")
	_, err := f.UserChannel(f.ctx, user.ID)
	f.is(err, model.ErrNotFound)
	_, err = f.UserChannel(f.ctx, "")
	f.is(err, model.ErrNotFound)
}

func otherUser(_ *testing.T, f *fixture) {
	device, user := f.mac()
	_, err := f.OpenUserChannel(f.ctx, f.userOf(device, "UDID:U2"), f.now, f.audit("x"))
	f.is(err, model.ErrConflict)
	same(f, "unchanged", get(f.UserChannel(f.ctx, device.ID))(f), user)
	_, err = f.OpenUserChannel(f.ctx, model.Enrolment{ID: f.id(), HolderID: "none"}, f.now, f.audit("x"))
	f.is(err, model.ErrNotFound)
}

func userChannelEnds(_ *testing.T, f *fixture) {
	device, user := f.mac()
	f.ok(f.CheckOut(f.ctx, device.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.checkout")))
	equal(f, "user channel", f.snapshot(user.ID).Enrolment.State, model.EnrolmentEnded)
	_, err := f.UserChannel(f.ctx, device.ID)
	f.is(err, model.ErrNotFound)
	_, err = f.OpenUserChannel(f.ctx, f.userOf(device, "UDID:U1"), f.now, f.audit("x"))
	f.is(err, model.ErrConflict)
}

// onMac makes the pair one of a Mac, which the challenge of the fixture is not.
func onMac(f *fixture) (device, user model.Enrolment) {
	device, user = f.mac()
	for _, id := range []string{device.ID, user.ID} {
		f.decide(id, func(d *delivery.Decision, s delivery.Snapshot) {
			e := s.Enrolment
			e.Platform = "macos"
			d.Enrolment = &e
		})
	}
	return f.snapshot(device.ID).Enrolment, f.snapshot(user.ID).Enrolment
}

func userChannelFirst(_ *testing.T, f *fixture) {
	device, user := onMac(f)
	f.decide(user.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Documents = []model.DocumentState{document("history", "r1")}
	})
	equal(f, "documents of the user", f.snapshot(device.ID).UserDocuments, int64(1))
	equal(f, "of the user channel itself", f.snapshot(user.ID).UserDocuments, int64(0))
	f.decide(device.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		e := s.Enrolment
		e.Dirty = false
		d.Enrolment = &e
	})
	f.decide(user.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		e := s.Enrolment
		e.State = model.EnrolmentEnded
		d.Enrolment, d.Forget = &e, []string{"history"}
	})
	s := f.snapshot(device.ID)
	equal(f, "woken", s.Enrolment.Dirty, true)
	equal(f, "nothing is left", s.UserDocuments, int64(0))
}

func obeyedWithUser(_ *testing.T, f *fixture) {
	device, user := onMac(f)
	equal(f, "its certificate", f.certificateBySHA(device.CertSHA256).Status, model.CertificateCurrent)
	f.decide(device.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		e, dev := s.Enrolment, s.Device
		e.State, dev.State, dev.Removal = model.EnrolmentEnded, model.DeviceLeft, model.RemovalReported
		d.Enrolment, d.Device = &e, &dev
	})
	equal(f, "user channel", f.snapshot(user.ID).Enrolment.State, model.EnrolmentEnded)
	equal(f, "its certificate", f.certificateBySHA(device.CertSHA256).Status, model.CertificateRemoved)
}

func macBeginsAnew(_ *testing.T, f *fixture) {
	device, user := f.mac()
	f.decide(user.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		e := s.Enrolment
		e.Dirty = false
		d.Enrolment, d.Inventory = &e, &model.Inventory{ProfilesAt: f.now, Profiles: map[string]string{"x": "y"}}
	})
	d := f.snapshot(device.ID).Device
	get(f.Authenticate(f.ctx, model.Enrolment{ID: device.ID, ExternalID: device.ExternalID}, d, f.audit("device.enrol")))(f)
	s := f.snapshot(user.ID)
	equal(f, "asked again", s.Enrolment.Dirty, true)
	equal(f, "what it had", len(s.Inventory.Profiles), 0)
	equal(f, "the channel", s.Enrolment.State, model.EnrolmentActive)
}

func bootstrapTokenGoes(_ *testing.T, f *fixture) {
	u, c := f.user("carol@x.example"), f.connector("m1")
	for udid, leave := range map[string]func(device model.Enrolment){
		"UDID-1": func(device model.Enrolment) {
			f.decide(device.ID, func(d *delivery.Decision, s delivery.Snapshot) {
				dev := s.Device
				dev.State = model.DeviceLeft
				d.Device = &dev
			})
		},
		"UDID-2": func(device model.Enrolment) {
			f.ok(f.CheckOut(f.ctx, device.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.checkout")))
		},
	} {
		device := f.enrol(u, c, udid)
		name := store.BootstrapSetting(device.DeviceID)
		f.ok(f.SetSetting(f.ctx, name, []byte(`"c2VjcmV0"`)))
		leave(device)
		_, err := f.Setting(f.ctx, name)
		f.is(err, model.ErrNotFound)
	}
}
