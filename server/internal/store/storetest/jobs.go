package storetest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

func jobClasses() []class {
	return []class{
		{"jobs/keys", jobKeys}, {"jobs/lease (CN-05)", leases}, {"jobs/late-answer", lateAnswer}, {"jobs/failure (CN-09)", failures},
		{"jobs/fair (CN-11)", fair}, {"jobs/needs (CN-03)", needs}, {"jobs/render", renders}, {"jobs/render-again", renderedAgain}, {"jobs/two-certificates", twoCertificates},
		{"jobs/certificate-after-the-end", certificateAfterEnd},
	}
}

// want makes a job of an enrolment by a decision.
func (f *fixture) want(e model.Enrolment, j model.Job) {
	f.Helper()
	if j.ID == "" {
		j.ID = f.id()
	}
	if j.Kind == "" {
		j.Kind = link.JobRender
	}
	if j.Payload == nil {
		j.Payload = json.RawMessage(`{"records":["sealed"]}`)
	}
	if j.RunAt.IsZero() {
		j.RunAt = f.now
	}
	if j.UserID == "" {
		j.UserID = e.UserID
	}
	j.EnrolmentID, j.CreatedAt = e.ID, f.now
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) { d.Jobs = []model.Job{j} })
}

func (f *fixture) claimIDs(c model.Connector, limit int) []string {
	f.Helper()
	var ids []string
	for _, j := range get(f.Claim(f.ctx, c.ID, limit, time.Minute, f.now))(f) {
		ids = append(ids, j.ID)
	}
	return ids
}

func jobKeys(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	f.want(e, model.Job{ID: "1", Key: "k"})
	f.want(e, model.Job{ID: "2", Key: "k"})
	_, err := f.JobByID(f.ctx, "2")
	f.is(err, model.ErrNotFound)
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) { d.Obsolete = []string{"k", "unknown"} })
	equal(f, "obsolete", f.job("1").State, model.JobObsolete)
	equal(f, "payload", string(f.job("1").Payload), "{}")
	equal(f, "claimed", len(f.claimIDs(c, 9)), 0)
	f.want(e, model.Job{ID: "3", Key: "k"})
	equal(f, "opened again", f.job("1").State, model.JobOpen)
	j := f.claim(c)
	f.want(e, model.Job{ID: "4", Key: "k"})
	equal(f, "leased stays", f.job("1").State, model.JobLeased)
	done := f.completion(j)
	done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID}
	f.ok(f.Complete(f.ctx, done))
	equal(f, "payload of a done job", string(f.job("1").Payload), "{}")
	f.want(e, model.Job{ID: "5", Key: "other", Kind: link.JobRevoke})
	done = f.completion(f.claim(c))
	done.Revoked = &connectorapi.RevokedEffect{At: f.now}
	f.ok(f.Complete(f.ctx, done))
	f.want(e, model.Job{ID: "6", Key: "other", Kind: link.JobRevoke})
	equal(f, "done stays", f.job("5").State, model.JobDone)
}

func leases(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	other := f.connector("m2")
	f.publish(c, link.PublishRequest{KeySet: keySet(1, member("m1"), member("m2"))})
	f.want(e, model.Job{ID: "later", Key: "later", RunAt: f.now.Add(time.Hour)})
	f.want(e, model.Job{ID: "now", Key: "now"})
	j := f.claim(c)
	equal(f, "id", j.ID, "now")
	equal(f, "attempt", j.Attempt, 1)
	equal(f, "lease", j.LeaseUntil, f.now.Add(time.Minute))
	equal(f, "by", j.LeasedBy, c.ID)
	equal(f, "leased", len(f.claimIDs(other, 9)), 0)
	equal(f, "seen", get(f.ConnectorByID(f.ctx, c.ID))(f).LastSeen, f.now)
	equal(f, "snapshot knows", f.snapshot(e.ID).ConnectorSeen, f.now)
	f.now = f.now.Add(time.Minute)
	j = f.claim(other)
	equal(f, "taken over", j.ID, "now")
	equal(f, "attempt", j.Attempt, 2)
	f.now = f.now.Add(time.Hour)
	equal(f, "both", len(f.claimIDs(c, 9)), 2)
	_, err := f.Claim(f.ctx, "none", 1, time.Minute, f.now)
	f.is(err, model.ErrNotFound)
}

func lateAnswer(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	f.want(e, model.Job{Key: "k"})
	first := f.completion(f.claim(c))
	first.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID, DocumentID: "a"}
	f.now = f.now.Add(2 * time.Minute)
	second := f.completion(f.claim(c))
	second.Rendered = first.Rendered
	version := f.snapshot(e.ID).Enrolment.Version
	f.is(f.Complete(f.ctx, first), model.ErrConflict)
	stranger := second
	stranger.ConnectorID = "stranger"
	f.is(f.Complete(f.ctx, stranger), model.ErrConflict)
	equal(f, "nothing changed", f.snapshot(e.ID).Enrolment.Version, version)
	equal(f, "audited", f.audited("job.render"), 0)
	f.ok(f.Complete(f.ctx, second))
	f.is(f.Complete(f.ctx, second), model.ErrConflict)
	equal(f, "audited", f.audited("job.render"), 1)
	second.JobID = "none"
	f.is(f.Complete(f.ctx, second), model.ErrNotFound)
}

func failures(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	f.want(e, model.Job{ID: "j", Key: "k"})
	f.settle(e.ID)
	failed := f.completion(f.claim(c))
	failed.Failure = &connectorapi.Failure{Message: "CA is away", RetryAt: f.now.Add(time.Minute), Reason: "IssuePending"}
	f.ok(f.Complete(f.ctx, failed))
	j := f.job("j")
	equal(f, "state", j.State, model.JobOpen)
	equal(f, "error", j.Error+" "+string(j.Reason), "CA is away IssuePending")
	equal(f, "no device is woken for it", f.snapshot(e.ID).Enrolment.Dirty, false)
	equal(f, "not yet", len(f.claimIDs(c, 9)), 0)
	f.now = f.now.Add(time.Minute)
	failed = f.completion(f.claim(c))
	failed.Failure = &connectorapi.Failure{Message: "refused", Final: true, Reason: "IssueRefused"}
	f.ok(f.Complete(f.ctx, failed))
	equal(f, "state", f.job("j").State, model.JobFailed)
	equal(f, "dirty", f.snapshot(e.ID).Enrolment.Dirty, true)
	equal(f, "shown", f.snapshot(e.ID).Jobs["k"].Error, "refused")
	f.now = f.now.Add(time.Hour)
	equal(f, "never again", len(f.claimIDs(c, 9)), 0)
	f.want(e, model.Job{Key: "k", Payload: json.RawMessage(`{"new":true}`)})
	j = f.claim(c)
	equal(f, "opened again", j.ID, "j")
	equal(f, "payload", string(j.Payload), `{"new":true}`)
	equal(f, "attempts go on", j.Attempt, 3)
	equal(f, "error", f.job("j").Error, "")
}

// fair: a user with a thousand jobs does not keep another waiting.
func fair(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	for i := range 6 {
		f.want(e, model.Job{ID: fmt.Sprintf("big-%d", i), Key: fmt.Sprintf("big-%d", i), UserID: "big", RunAt: f.now.Add(-time.Hour + time.Duration(i)*time.Second)})
	}
	f.want(e, model.Job{ID: "small-0", Key: "small-0", UserID: "small"})
	f.want(e, model.Job{ID: "small-1", Key: "small-1", UserID: "small", RunAt: f.now.Add(-time.Second)})
	same(f, "first claim", f.claimIDs(c, 3), []string{"big-0", "small-1", "big-1"})
	same(f, "counts what is leased", f.claimIDs(c, 2), []string{"small-0", "big-2"})
	f.want(e, model.Job{ID: "new-0", Key: "new-0", UserID: "new"})
	same(f, "somebody new", f.claimIDs(c, 2), []string{"new-0", "big-3"})
	equal(f, "the rest", len(f.claimIDs(c, 9)), 2)
}

func needs(_ *testing.T, f *fixture) {
	first := f.connector("aa")
	e := f.enrol(f.user("a@x.example"), first, "UDID")
	second := f.connector("bb")
	f.want(e, model.Job{ID: "only-b", Key: "only-b", Needs: []string{"bb"}})
	f.want(e, model.Job{ID: "both", Key: "both", Needs: []string{"aa", "bb"}})
	f.want(e, model.Job{ID: "any", Key: "any"})
	equal(f, "pending", second.State, model.ConnectorPending)
	equal(f, "a pending one gets nothing", len(f.claimIDs(second, 9)), 0)
	equal(f, "the first", len(f.claimIDs(first, 9)), 2)
	f.publish(first, link.PublishRequest{KeySet: keySet(1, member("aa"), member("bb"))})
	same(f, "the second", f.claimIDs(second, 9), []string{"only-b"})
}

func renders(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Documents = []model.DocumentState{document("mail", "r1")}
	})
	render := func(revision, recipient string) model.DocumentState {
		f.Helper()
		f.want(e, model.Job{Key: f.id()})
		f.settle(e.ID)
		done := f.completion(f.claim(c))
		done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID, DocumentID: "mail", Revision: revision, Recipient: recipient, Payload: []byte("for " + revision)}
		f.ok(f.Complete(f.ctx, done))
		s := f.snapshot(e.ID)
		equal(f, "dirty", s.Enrolment.Dirty, true)
		return s.Documents[0]
	}
	equal(f, "another revision", len(render("r0", e.CertSHA256).Payload), 0)
	equal(f, "another recipient", len(render("r1", "other").Payload), 0)
	d := render("r1", e.CertSHA256)
	equal(f, "payload", string(d.Payload), "for r1")
	equal(f, "for", d.PayloadRevision+d.PayloadRecipient, "r1"+e.CertSHA256)
	equal(f, "status is the core's", d.Status, model.DocumentWaiting)
}

// renderedAgain: a document that was delivered, unassigned and assigned again asks for the same render job once more.
func renderedAgain(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	for range 2 {
		f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
			d.Documents = []model.DocumentState{document("mail", "r1")}
		})
		f.want(e, model.Job{Key: "render:mail:r1:0"})
		done := f.completion(f.claim(c))
		done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID, DocumentID: "mail", Revision: "r1", Recipient: e.CertSHA256, Payload: []byte("sealed")}
		f.ok(f.Complete(f.ctx, done))
		equal(f, "payload", string(f.snapshot(e.ID).Documents[0].Payload), "sealed")
		f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) { d.Forget = []string{"mail"} })
	}
}

// twoCertificates: two connectors answered one intent; the first stored wins, the other is revoked, never lost.
func twoCertificates(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	other := f.connector("m2")
	f.publish(c, link.PublishRequest{KeySet: keySet(1, member("m1"), member("m2"))})
	late := f.ask(e, c, "intent-000000000001")
	f.now = f.now.Add(2 * time.Minute)
	j := f.claim(other)
	equal(f, "same job", j.ID, late.ID)
	done, winner := f.issued(e, j, "intent-000000000001")
	f.ok(f.Complete(f.ctx, done))
	second, loser := f.issued(e, late, "intent-000000000001")
	f.is(f.Complete(f.ctx, second), model.ErrConflict)
	f.is(f.Complete(f.ctx, second), model.ErrConflict)
	equal(f, "winner", f.certificateBySHA(winner).Status, model.CertificateCurrent)
	equal(f, "loser", f.certificateBySHA(loser).Status, model.CertificateSuperseded)
	revokes := f.jobsOf(link.JobRevoke)
	equal(f, "revoke jobs", len(revokes), 1)
	var payload link.RevokeJob
	f.ok(json.Unmarshal(revokes[0].Payload, &payload))
	equal(f, "revokes", string(payload.Certificate), "der "+loser)
	equal(f, "of", payload.CA, "softca")
	equal(f, "key of the winner", f.snapshot(e.ID).Records["intent-000000000001"].CertSHA256, winner)

	// An answer whose lease ran out is as good as any while there is no other.
	slow := f.ask(e, c, "intent-000000000002")
	f.now = f.now.Add(2 * time.Minute)
	f.claim(other)
	done, sha := f.issued(e, slow, "intent-000000000002")
	f.ok(f.Complete(f.ctx, done))
	equal(f, "late and first", f.certificateBySHA(sha).Status, model.CertificateCurrent)
	equal(f, "job", f.job(slow.ID).State, model.JobDone)
}

// certificateAfterEnd: the CA answers when the device is gone already.
func certificateAfterEnd(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	j := f.ask(e, c, "intent-000000000001")
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("leave")))
	done, sha := f.issued(e, j, "intent-000000000001")
	f.is(f.Complete(f.ctx, done), model.ErrConflict)
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateSuperseded)
	equal(f, "revoke jobs", len(f.jobsOf(link.JobRevoke)), 1)
	equal(f, "keys", len(f.snapshot(e.ID).Records), 0)
}
