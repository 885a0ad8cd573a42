package storetest

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/push"
)

func pace() push.Pace {
	return push.Pace{MinGap: time.Minute, Repeat: 10 * time.Minute, MaxGap: 24 * time.Hour, NotNowAfter: time.Hour, NotNowMost: 10 * time.Hour}
}

// due gives the enrolments that are to be woken now.
func (f *fixture) due(limit int) []string {
	f.Helper()
	var ids []string
	for _, p := range get(f.DuePushes(f.ctx, f.now, limit, pace()))(f) {
		equal(f, "push values", string(p.Token)+p.Magic+p.Topic, "tokenmagictopic")
		ids = append(ids, p.EnrolmentID)
	}
	return ids
}

func pushes(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	a, b := f.enrol(u, c, "A"), f.enrol(u, c, "B")
	_, ch := f.challenge(u)
	f.certify(ch, c) // has a certificate and never spoke
	equal(f, "paced", len(f.due(1)), 1)
	equal(f, "the other", len(f.due(9)), 1)
	equal(f, "none twice within the gap", len(f.due(9)), 0)
	f.settle(a.ID)
	f.settle(b.ID)
	f.now = f.now.Add(time.Hour)
	equal(f, "settled", len(f.due(9)), 0)
	f.apply(importedProfile("p"))
	equal(f, "older generation", len(f.due(9)), 2)
	f.settle(a.ID)
	f.settle(b.ID)
	f.ok(f.TokenUpdate(f.ctx, b.ID, []byte("token"), "magic", "topic", true, f.now))
	equal(f, "must re-enrol", len(f.due(9)), 0)
	f.ok(f.CheckOut(f.ctx, a.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("leave")))
	f.now = f.now.Add(10 * time.Hour)
	equal(f, "ended", len(f.due(9)), 0)
}

func pushLost(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	f.ok(f.PushFailed(f.ctx, e.ID, "Unregistered", f.now))
	equal(f, "lost", len(f.due(9)), 0)
	f.ok(f.TokenUpdate(f.ctx, e.ID, []byte("token"), "magic", "topic", false, f.now))
	equal(f, "new token", len(f.due(9)), 1)
	f.is(f.PushFailed(f.ctx, "none", "Unregistered", f.now), model.ErrNotFound)
}

// pushBackOff: a device that does not come is left alone longer and longer, and woken at once for what is new.
func pushBackOff(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	equal(f, "at once", len(f.due(9)), 1)
	start, wakeups := f.now, 0
	for f.now.Sub(start) < 10*24*time.Hour {
		f.now = f.now.Add(30 * time.Minute)
		wakeups += len(f.due(9))
	}
	if wakeups < 10 || wakeups > 20 {
		f.Fatalf("%d wake-ups in 10 days for a device that is off", wakeups)
	}
	f.now = f.now.Add(time.Minute)
	f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("sync")))
	equal(f, "new work", len(f.due(9)), 1)
	f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("sync")))
	equal(f, "not within the gap", len(f.due(9)), 0)
	f.now = f.now.Add(time.Minute)
	equal(f, "after the gap", len(f.due(9)), 1)
	f.ok(f.PushUnsent(f.ctx, e.ID))
	f.now = f.now.Add(9 * time.Minute)
	equal(f, "APNs was away", len(f.due(9)), 0)
	f.now = f.now.Add(time.Minute)
	equal(f, "sent again", len(f.due(9)), 1)
	f.is(f.PushUnsent(f.ctx, "none"), model.ErrNotFound)
}

// pushTalking: what a device was told when it came is no work to wake it for; when it falls silent then, it is.
func pushTalking(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	equal(f, "at once", len(f.due(9)), 1)
	came := f.now.Add(time.Second)
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) { d.Seen = came })
	s := f.snapshot(e.ID)
	equal(f, "device", s.Device.LastSeen, came)
	equal(f, "enrolment", s.Enrolment.LastSeen, came)
	f.now = f.now.Add(9 * time.Minute)
	equal(f, "is talking", len(f.due(9)), 0)
	f.now = f.now.Add(time.Minute)
	equal(f, "fell silent", len(f.due(9)), 1)
	f.ok(f.Touch(f.ctx, e.ID, f.now.Add(time.Second)))
	equal(f, "the first visit after a wake-up counts", f.snapshot(e.ID).Enrolment.LastSeen, f.now.Add(time.Second))
}

// pushByTime: real devices never poll, so what time alone makes due needs a wake-up too.
func pushByTime(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	equal(f, "at once", len(f.due(9)), 1)
	settle := func(due time.Time, commands ...model.Command) {
		f.Helper()
		f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
			s.Enrolment.Dirty, s.Enrolment.SettledGeneration, s.Enrolment.InventoryAt = false, s.Generation, due
			d.Enrolment, d.Commands, d.Seen = &s.Enrolment, commands, f.now
			d.Inventory = &model.Inventory{FactsAt: f.now, ProfilesAt: f.now.Add(time.Second), CertificatesAt: f.now.Add(time.Second)}
		})
	}
	settle(f.now.Add(24 * time.Hour))
	f.now = f.now.Add(24*time.Hour - time.Second)
	equal(f, "not yet", len(f.due(9)), 0)
	f.now = f.now.Add(time.Second)
	same(f, "inventory is due", f.due(9), []string{e.ID})
	settle(f.now) // as old as the lists: it waits for a connector
	f.now = f.now.Add(time.Hour)
	equal(f, "time alone changes nothing", len(f.due(9)), 0)
	refused := model.Command{UUID: "c", State: model.CommandNotNow, CreatedAt: f.now, UpdatedAt: f.now}
	settle(f.now, refused)
	f.now = f.now.Add(59 * time.Minute)
	equal(f, "NotNow a while ago", len(f.due(9)), 0)
	f.now = f.now.Add(time.Minute)
	same(f, "NotNow long ago", f.due(9), []string{e.ID})
	f.now = f.now.Add(4 * time.Hour)
	refused.UpdatedAt = f.now
	settle(f.now, refused)
	f.now = f.now.Add(2 * time.Hour)
	equal(f, "it has been refusing for hours", len(f.due(9)), 0)
	f.now = f.now.Add(3 * time.Hour)
	equal(f, "once more", len(f.due(9)), 1)
}

// pushTopics: a push certificate that comes later, or another one, leaves those behind that enrolled with another topic.
func pushTopics(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e, left := f.enrol(u, c, "A"), f.enrol(u, c, "B")
	f.ok(f.CheckOut(f.ctx, left.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("leave")))
	equal(f, "other topic", get(f.SettleTopic(f.ctx, "other"))(f), int64(1))
	equal(f, "marked", f.snapshot(e.ID).Enrolment.MustReenroll, true)
	equal(f, "never woken", len(f.due(9)), 0)
	equal(f, "again", get(f.SettleTopic(f.ctx, "other"))(f), int64(1))
	equal(f, "counted", get(f.MustReenroll(f.ctx))(f), int64(1))
	equal(f, "its own topic", get(f.SettleTopic(f.ctx, "topic"))(f), int64(0))
	equal(f, "woken", len(f.due(9)), 1)
}
