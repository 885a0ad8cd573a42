package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
)

var _ issuance.Store = Store(nil)

func scepClasses() []class {
	return []class{
		{"a challenge is good for one key, and gives the same certificate again", scepOnce},
		{"each request has a certificate of its own beside the others", scepBeside},
		{"a certificate for an enrolment that ended is revoked", scepTooLate},
		{"a certificate for a device that was given up is revoked", scepGivenUp},
		{"a late answer of a CA is not thrown away", scepLate},
		{"of two certificates for one request the first counts", scepTwice},
		{"a request that was refused is over", scepRefused},
		{"a replaced certificate goes with its device", scepLeaves},
		{"a request ends with its enrolment", scepEnds},
		{"a request is made for so many keys and no more", scepBounded},
		{"a request that was forgotten gets the same certificate again", scepForgotten},
		{"what is found out about a CA is kept with its job", testsCA},
	}
}

func (f *fixture) scepRequest(e model.Enrolment, hash, key string) (model.SCEPRequest, error) {
	f.Helper()
	return f.BeginSCEPRequest(f.ctx, model.SCEPRequest{Hash: hash, EnrolmentID: e.ID, RequestID: "request", KeySHA256: key, TransactionID: "t-" + hash, CreatedAt: f.now},
		model.Job{Key: "certify:" + hash, Kind: link.JobCertify, Payload: []byte(`{}`), UserID: e.UserID, EnrolmentID: e.ID, RunAt: f.now})
}

// certified lets the connector answer a certify job.
func (f *fixture) certified(e model.Enrolment, c model.Connector) (connectorapi.Completion, string) {
	f.Helper()
	done := f.completion(f.claim(c))
	cert := f.certificate(f.sha())
	cert.Kind, cert.UserID, cert.DeviceID, cert.EnrolmentID = model.CertificateIssued, e.UserID, e.DeviceID, e.ID
	cert.Profile, cert.CA, cert.RecordID, cert.Status, cert.StatusAt, cert.CreatedAt = "own", "softca", "request", model.CertificateCurrent, f.now, f.now
	done.Certified = &connectorapi.CertifiedEffect{Certificate: cert, Chain: [][]byte{[]byte("issuer")}}
	return done, cert.SHA256
}

func scepOnce(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	r, err := f.scepRequest(e, "h1", "key")
	f.ok(err)
	again, err := f.scepRequest(e, "h1", "key")
	f.ok(err)
	equal(f, "job", again.JobID, r.JobID)
	_, err = f.scepRequest(e, "h1", "another key")
	f.is(err, model.ErrSpent)
	_, err = f.SCEPRequest(f.ctx, "h2")
	f.is(err, model.ErrNotFound)
	renamed := r
	renamed.TransactionID = "another"
	equal(f, "job", get(f.BeginSCEPRequest(f.ctx, renamed, model.Job{}))(f).JobID, r.JobID)
	renamed.Hash = "swept away meanwhile"
	_, err = f.BeginSCEPRequest(f.ctx, renamed, model.Job{})
	f.is(err, model.ErrNotFound)
	equal(f, "found by its later name", get(f.SCEPRequestByTransaction(f.ctx, "another", "key"))(f).Hash, "h1")
	get(f.scepRequest(e, "h1", "key"))(f)
	renewal := model.SCEPRequest{Hash: "h3", EnrolmentID: e.ID, RequestID: "request", KeySHA256: "next key", SignerSHA256: "key", TransactionID: "t-h3", CreatedAt: f.now}
	get(f.BeginSCEPRequest(f.ctx, renewal, model.Job{Key: "certify:h3", Kind: link.JobCertify, Payload: []byte(`{}`), UserID: u.ID, EnrolmentID: e.ID, RunAt: f.now.Add(day)}))(f)
	for _, key := range []string{"key", "next key"} {
		equal(f, "found by "+key, get(f.SCEPRequestByTransaction(f.ctx, "t-h3", key))(f).Hash, "h3")
	}
	done, sha := f.certified(e, c)
	f.settle(e.ID)
	f.ok(f.Complete(f.ctx, done))
	stored := get(f.SCEPRequest(f.ctx, "h1"))(f)
	equal(f, "chain", string(stored.Chain[0]), "issuer")
	equal(f, "found by transaction", get(f.SCEPRequestByTransaction(f.ctx, "t-h1", "key"))(f).Hash, "h1")
	_, err = f.SCEPRequestByTransaction(f.ctx, "t-h1", "another key")
	f.is(err, model.ErrNotFound)
	equal(f, "certificate", get(f.IssuedCertificate(f.ctx, sha))(f).Profile, "own")
	equal(f, "the device shall be looked at", f.snapshot(e.ID).Enrolment.Dirty, true)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	_ = f.Complete(f.ctx, done) // again, and late: nothing becomes current by it
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateRemoved)
}

func scepBeside(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	for _, hash := range []string{"h1", "h2"} {
		get(f.scepRequest(e, hash, "key "+hash))(f)
		done, _ := f.certified(e, c)
		f.ok(f.Complete(f.ctx, done))
	}
	current := 0
	for _, cert := range f.snapshot(e.ID).Issued {
		if cert.Status == model.CertificateCurrent && cert.RecordID == "request" {
			current++
		}
	}
	equal(f, "current certificates", current, 2)
}

func scepTooLate(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	get(f.scepRequest(e, "h1", "key"))(f)
	done, sha := f.certified(e, c)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	if err := f.Complete(context.WithoutCancel(f.ctx), done); err != nil {
		f.is(err, model.ErrConflict)
	}
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateSuperseded)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), 1)
	_, err := f.scepRequest(e, "h2", "key")
	f.is(err, model.ErrConflict)
}

// scepGivenUp: nobody would look at the certificate again, for the device will not come.
func scepGivenUp(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	f.partner("ejbca")
	get(f.scepRequest(e, "h1", "key"))(f)
	f.asksPartner(e, "ejbca", "h2")
	done, sha := f.certified(e, c)
	f.ok(f.SetDeviceState(f.ctx, e.DeviceID, model.DeviceWiping, f.now, f.audit("device.wipe")))
	f.now = f.now.Add(31 * day)
	f.ok(f.Sweep(f.ctx, f.now, retention()))
	f.ok(f.Complete(f.ctx, done))
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateSuperseded)
	f.is(f.tells(e, "h2", "aa"), model.ErrConflict)
	equal(f, "the partner's", f.certificateBySHA(model.NotedID("aa")).Status, model.CertificateSuperseded)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), 2)
}

func scepLate(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	get(f.scepRequest(e, "h1", "key"))(f)
	done, sha := f.certified(e, c)
	done.Attempt-- // of a lease that ran out
	if err := f.Complete(f.ctx, done); err != nil {
		f.is(err, model.ErrConflict)
	}
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateCurrent)
	if len(get(f.SCEPRequest(f.ctx, "h1"))(f).Certificate) == 0 {
		f.Errorf("the request has no answer")
	}
}

// scepTwice: two connectors had the same job, and each its CA's certificate. The device has the first, or will have.
func scepTwice(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	get(f.scepRequest(e, "h1", "key"))(f)
	done, first := f.certified(e, c)
	f.ok(f.Complete(f.ctx, done))
	late, effect := done, *done.Certified
	late.Attempt--
	second := f.sha()
	effect.Certificate = f.certificate(second)
	effect.Certificate.Kind, effect.Certificate.UserID, effect.Certificate.EnrolmentID = model.CertificateIssued, e.UserID, e.ID
	effect.Certificate.Profile, effect.Certificate.CA, effect.Certificate.RecordID = "own", "softca", "request"
	late.Certified = &effect
	f.is(f.Complete(f.ctx, late), model.ErrConflict)
	equal(f, "first", f.certificateBySHA(first).Status, model.CertificateCurrent)
	equal(f, "second", f.certificateBySHA(second).Status, model.CertificateSuperseded)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), 1)
	equal(f, "the request's", string(get(f.SCEPRequest(f.ctx, "h1"))(f).Certificate), string(done.Certified.Certificate.DER))
}

// scepRefused: the device has given its key up by then, so that a sync has it ask anew and never has the CA asked again.
func scepRefused(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	r := get(f.scepRequest(e, "h1", "key"))(f)
	done := f.completion(f.claim(c))
	done.Failure = &connectorapi.Failure{Message: "no such template", Final: true}
	f.ok(f.Complete(f.ctx, done))
	f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("device.sync")))
	equal(f, "after a sync", f.job(r.JobID).State, model.JobFailed)
	f.ok(f.Sweep(f.ctx, f.now.Add(91*day), retention()))
	equal(f, "in the end", f.job(r.JobID).State, model.JobObsolete)
}

// scepBounded: a device that makes one key after the other is broken, or up to no good.
func scepBounded(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e, other := f.enrol(u, c, "A"), f.enrol(u, c, "B")
	for i := range 100 {
		get(f.scepRequest(e, fmt.Sprint("h", i), fmt.Sprint("key ", i)))(f)
	}
	_, err := f.scepRequest(e, "h100", "key 100")
	f.is(err, model.ErrTooMany)
	get(f.scepRequest(e, "h1", "key 1"))(f)
	get(f.scepRequest(other, "h101", "key 101"))(f)
}

// scepForgotten: a device asks by the same key long after its request was swept away.
func scepForgotten(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	get(f.scepRequest(e, "h1", "key"))(f)
	f.now = f.now.Add(50 * day)
	done, sha := f.certified(e, c)
	f.ok(f.Complete(f.ctx, done))
	f.now = f.now.Add(50 * day)
	f.ok(f.Sweep(f.ctx, f.now, retention()))
	_, err := f.SCEPRequest(f.ctx, "h1")
	f.is(err, model.ErrNotFound)
	get(f.scepRequest(e, "h1", "key"))(f)
	again := f.completion(f.claim(c))
	again.Certified = done.Certified
	f.ok(f.Complete(f.ctx, again))
	if len(get(f.SCEPRequest(f.ctx, "h1"))(f).Certificate) == 0 {
		f.Errorf("the request has no answer")
	}
	equal(f, "status", f.certificateBySHA(sha).Status, model.CertificateCurrent)
}

func testsCA(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	id := get(f.CreateJob(f.ctx, model.Job{Key: "testca:x", Kind: link.JobTestCA, Payload: []byte(`{"ca":"x"}`), RunAt: f.now}, f.audit("ca.test")))(f)
	done := f.completion(f.claim(c))
	done.Tested = &link.TestCAAnswer{Findings: []link.CAFinding{{Check: "url", OK: true, Detail: "it answers"}}}
	f.ok(f.Complete(f.ctx, done))
	j := f.job(id)
	equal(f, "state", j.State, model.JobDone)
	equal(f, "payload", string(j.Payload), `{"findings":[{"check":"url","ok":true,"detail":"it answers"}]}`)
}

// scepLeaves: what was replaced goes with the device, unless it has ended by itself: many a CA revokes no such thing.
func scepLeaves(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	var all []string
	for i, life := range []time.Duration{day, 100 * day} {
		get(f.scepRequest(e, fmt.Sprint("h", i), "key"))(f)
		done, sha := f.certified(e, c)
		done.Certified.Certificate.NotAfter = f.now.Add(life)
		done.Certified.Certificate.RevokeOn = []profiles.Event{profiles.EventUnenroll}
		f.ok(f.Complete(f.ctx, done))
		f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
			d.Certificates = []delivery.CertificateChange{{SHA256: sha, Status: model.CertificateSuperseded, At: f.now}}
		})
		all = append(all, sha)
	}
	f.now = f.now.Add(2 * day)
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	equal(f, "ended", f.certificateBySHA(all[0]).Status, model.CertificateRemoved)
	equal(f, "good", f.certificateBySHA(all[1]).Status, model.CertificateRevoking)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), 1)
}

// scepEnds: the device has obeyed and left, so that no CA need be asked any more.
func scepEnds(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	r := get(f.scepRequest(e, "h1", "key"))(f)
	f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		s.Enrolment.State = model.EnrolmentEnded
		d.Enrolment = &s.Enrolment
	})
	equal(f, "the job", f.job(r.JobID).State, model.JobObsolete)
	equal(f, "claimed", len(f.claimIDs(c, 10)), 0)
}
