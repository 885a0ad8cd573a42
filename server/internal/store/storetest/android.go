package storetest

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

func androidClasses() []class {
	return []class{
		{"credential", credential}, {"credential/beside-a-decision", credentialBeside}, {"credential/of-who-left", credentialOfEnded},
		{"other-owner", otherOwner}, {"reported-seq", reportedSeq}, {"authenticate/wrap-key-changed", wrapKeyChanged},
	}
}

func credential(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "install-1")
	equal(f, "before", e.CredentialHash, "")
	for _, hash := range []string{"hash 1", "hash 2"} {
		before := get(f.EnrolmentByID(f.ctx, e.ID))(f)
		f.ok(f.SetCredential(f.ctx, e.ID, hash))
		stored := get(f.EnrolmentByID(f.ctx, e.ID))(f)
		equal(f, "stored", stored.CredentialHash, hash)
		before.CredentialHash, before.Version = hash, before.Version+1
		same(f, "nothing else", stored, before)
	}
	_, err := f.EnrolmentByID(f.ctx, "nobody")
	f.is(err, model.ErrNotFound)
	f.is(f.SetCredential(f.ctx, "nobody", "hash"), model.ErrNotFound)
}

// credentialBeside: a decision that was made before cannot bring the former credential back.
func credentialBeside(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "install-1")
	f.ok(f.SetCredential(f.ctx, e.ID, "hash 1"))
	s := f.snapshot(e.ID)
	f.ok(f.SetCredential(f.ctx, e.ID, "hash 2"))
	f.is(f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: s.Enrolment.Version, Enrolment: &s.Enrolment}), model.ErrConflict)
	f.settle(e.ID)
	equal(f, "kept by decisions", get(f.EnrolmentByID(f.ctx, e.ID))(f).CredentialHash, "hash 2")
}

// credentialOfEnded: who has left is still known, and can be told so.
func credentialOfEnded(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "install-1")
	f.ok(f.SetCredential(f.ctx, e.ID, "hash"))
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("device.checkout")))
	ended := get(f.EnrolmentByID(f.ctx, e.ID))(f)
	equal(f, "state", ended.State, model.EnrolmentEnded)
	equal(f, "credential", ended.CredentialHash, "hash")
}

func otherOwner(_ *testing.T, f *fixture) {
	a, b, c := f.user("a@x.example"), f.user("b@x.example"), f.connector("m1")
	e := f.enrol(a, c, "install-1")
	asked := func(what string, platform profiles.Platform, externalID, userID string, want bool) {
		f.Helper()
		equal(f, what, get(f.OtherOwner(f.ctx, platform, externalID, userID))(f), want)
	}
	asked("of another user", profiles.IOS, "install-1", b.ID, true)
	asked("of the user", profiles.IOS, "install-1", a.ID, false)
	asked("another device", profiles.IOS, "install-2", b.ID, false)
	asked("another platform", profiles.Android, "install-1", b.ID, false)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("device.checkout")))
	asked("given back", profiles.IOS, "install-1", b.ID, false)
}

// reportedSeq: the number of the latest report survives the process.
func reportedSeq(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "install-1")
	for _, seq := range []int64{3, 1 << 40} {
		f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
			doc := document("history", "r1")
			doc.ReportedSeq, doc.SentIdentifier, doc.Leftovers = seq, "identity:smime-enc-0123456789ab", []string{"identity:smime-enc-ba9876543210"}
			d.Documents = []model.DocumentState{doc}
		})
		doc := f.snapshot(e.ID).Documents[0]
		equal(f, "seq", doc.ReportedSeq, seq)
		equal(f, "sent as", doc.SentIdentifier, "identity:smime-enc-0123456789ab")
		same(f, "leftovers", doc.Leftovers, []string{"identity:smime-enc-ba9876543210"})
	}
}

// wrapKeyChanged: the same installation enrols with a new key. What was sealed to the former one is void, and the former
// credential opens nothing.
func wrapKeyChanged(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	first := f.enrol(u, c, "install-1")
	f.ok(f.SetCredential(f.ctx, first.ID, "hash 1"))
	f.decide(first.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		doc := document("history", "r1")
		doc.Payload, doc.PayloadRevision, doc.PayloadRecipient = []byte("sealed"), "r1", first.CertSHA256
		d.Documents = []model.DocumentState{doc}
	})
	f.now = f.now.Add(time.Hour)
	second := f.enrol(u, c, "install-1")
	equal(f, "device", second.DeviceID, first.DeviceID)
	equal(f, "former enrolment", get(f.EnrolmentByID(f.ctx, first.ID))(f).State, model.EnrolmentEnded)
	equal(f, "former envelope", len(f.snapshot(first.ID).Documents[0].Payload), 0)
	equal(f, "documents of the new one", len(f.snapshot(second.ID).Documents), 0)
	equal(f, "credential of the new one", second.CredentialHash, "")
}
