package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/expiry"
	"github.com/waxseal/waxseal/server/internal/model"
)

var _ expiry.Store = Store(nil)

func expiryClasses() []class {
	return []class{
		{"what is in use and ends soon", expires},
		{"a notice is given once, and waits until it is taken", notifies},
	}
}

// expires: an old key of the history has a successor and is no news; the last one is.
func expires(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	old, _ := f.imports(u, "m1")
	f.now = f.now.Add(time.Hour)
	last, _ := f.imports(u, "m1")
	issued, _ := f.issue(e, c)
	far := f.now.Add(100 * 365 * 24 * time.Hour)
	found := map[string]bool{}
	for _, cert := range get(f.Expiring(f.ctx, far, 100))(f) {
		found[cert.SHA256] = true
	}
	equal(f, "the identity", found[e.CertSHA256], true)
	equal(f, "the issued one", found[issued], true)
	equal(f, "the last of the history", found[last], true)
	equal(f, "an old one", found[old], f.certificateBySHA(old).NotAfter.Equal(f.certificateBySHA(last).NotAfter))
	equal(f, "in time", len(get(f.Expiring(f.ctx, f.now.Add(-far.Sub(f.now)), 100))(f)), 0)
	equal(f, "bounded", len(get(f.Expiring(f.ctx, far, 1))(f)), 1)
	end := f.certificateBySHA(issued).NotAfter
	unsaid := func(after, until time.Time) (there bool) {
		for _, cert := range get(f.Unsaid(f.ctx, after, until, 30, 100))(f) {
			there = there || cert.SHA256 == issued
		}
		return there
	}
	equal(f, "until its end", unsaid(time.Time{}, end), true)
	equal(f, "before", unsaid(time.Time{}, end.Add(-time.Second)), false)
	equal(f, "after", unsaid(end, far), false)
	get(f.Notify(f.ctx, expiry.Notice{Item: expiry.OfCertificate(f.certificateBySHA(issued)), Days: 7}.Key(), []byte("7"), f.audit("x")))(f)
	equal(f, "said at another threshold", unsaid(time.Time{}, end), true)
	get(f.Notify(f.ctx, expiry.Notice{Item: expiry.OfCertificate(f.certificateBySHA(issued)), Days: 30}.Key(), []byte("30"), f.audit("x")))(f)
	equal(f, "said", unsaid(time.Time{}, end), false)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	_, unspoken := f.challenge(u)
	never, silent := f.certify(unspoken, c), f.enrol(u, c, "SILENT")
	f.decide(silent.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		s.Device.State, s.Device.Removal = model.DeviceRetiring, model.RemovalUnconfirmed
		d.Device = &s.Device
	})
	for _, cert := range get(f.Expiring(f.ctx, far, 100))(f) {
		if slices.Contains([]string{e.CertSHA256, issued, never.CertSHA256, silent.CertSHA256}, cert.SHA256) {
			f.Errorf("certificate %s of a device that left, that never spoke, or that is silent", cert.SHA256)
		}
	}
}

func notifies(_ *testing.T, f *fixture) {
	equal(f, "first", get(f.Notify(f.ctx, "k1", []byte("one"), f.audit("certificate.expiring")))(f), true)
	equal(f, "again", get(f.Notify(f.ctx, "k1", []byte("one"), f.audit("certificate.expiring")))(f), false)
	equal(f, "audited", f.audited("certificate.expiring"), 1)
	f.now = f.now.Add(time.Minute)
	equal(f, "another", get(f.Notify(f.ctx, "k0", []byte("two"), f.audit("certificate.expiring")))(f), true)
	waiting := get(f.Notices(f.ctx, 10))(f)
	equal(f, "waiting", len(waiting), 2)
	equal(f, "oldest first", string(waiting[0].Payload), "one")
	f.ok(f.Taken(f.ctx, "k1", f.now))
	equal(f, "waiting", get(f.Notices(f.ctx, 10))(f)[0].Key, "k0")
}
