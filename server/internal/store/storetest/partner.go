package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Partners is what a partner CA and its admin need of the database.
type Partners interface {
	AddPartner(ctx context.Context, p model.Partner, audit model.AuditEntry) error
	RemovePartner(ctx context.Context, name string, audit model.AuditEntry) error
	Partners(ctx context.Context) ([]model.Partner, error)
	PartnerByApp(ctx context.Context, appID string) (model.Partner, error)
	NotePartnerCertificate(ctx context.Context, words model.PartnerCertificate, cert model.Certificate, audit model.AuditEntry) error
	RefusePartnerRequest(ctx context.Context, hash, words string, audit model.AuditEntry) error
	ClaimRevocations(ctx context.Context, partner, issuer string, limit int, lease time.Duration, audit model.AuditEntry) ([]model.Revocation, error)
	AnswerRevocations(ctx context.Context, partner string, answers []model.RevocationAnswer, audit model.AuditEntry) error
}

func partnerClasses() []class {
	return []class{
		{"a partner is a CA beside the connectors'", partnerIsACA},
		{"what a partner tells of a certificate is kept once", partnerNotes},
		{"a certificate that a partner issued for nothing is revoked", partnerTooLate},
		{"what a partner refuses fails its request", partnerRefuses},
		{"revocations are leased to their partner until it answers", partnerRevokes},
		{"requests that a partner forgot are given up", partnerForgets},
	}
}

func (f *fixture) partner(name string) model.Partner {
	f.Helper()
	p := model.Partner{Name: name, AppID: "app-" + name, SecretHash: "hash", URL: "https://" + name + ".example/scep",
		Chain: [][]byte{[]byte("issuing"), []byte("root")}, CreatedAt: f.now}
	f.ok(f.AddPartner(f.ctx, p, f.audit("partner.add")))
	return p
}

func partnerIsACA(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	before := get(f.Generation(f.ctx))(f)
	p := f.partner("ejbca")
	same(f, "listed", get(f.Partners(f.ctx))(f), []model.Partner{p})
	same(f, "by its app", get(f.PartnerByApp(f.ctx, p.AppID))(f), p)
	_, err := f.PartnerByApp(f.ctx, "nobody")
	f.is(err, model.ErrNotFound)
	same(f, "CAs", f.snapshot(e.ID).CAs, []link.CA{p.CA()})
	equal(f, "generation", get(f.Generation(f.ctx))(f), before+1)
	f.is(f.AddPartner(f.ctx, p, f.audit("partner.add")), model.ErrConflict)
	f.ok(f.RemovePartner(f.ctx, "ejbca", f.audit("partner.remove")))
	f.is(f.RemovePartner(f.ctx, "ejbca", f.audit("partner.remove")), model.ErrNotFound)
	equal(f, "CAs left", len(f.snapshot(e.ID).CAs), 0)
	equal(f, "audited", f.audited("partner.add")+f.audited("partner.remove"), 2)
}

// asksPartner binds a challenge to a key for a partner.
func (f *fixture) asksPartner(e model.Enrolment, partner, hash string) model.SCEPRequest {
	f.Helper()
	return get(f.BeginSCEPRequest(f.ctx, model.SCEPRequest{Hash: hash, EnrolmentID: e.ID, RequestID: "request-" + hash, KeySHA256: "key", TransactionID: "t", CreatedAt: f.now},
		model.Job{Key: "certify:" + hash, Kind: link.JobCertify, Payload: []byte(`{}`), UserID: e.UserID, EnrolmentID: e.ID, Needs: []string{link.PartnerMember(partner)}, RunAt: f.now}))(f)
}

func (f *fixture) told(e model.Enrolment, hash, sha1 string) (model.PartnerCertificate, model.Certificate) {
	words := model.PartnerCertificate{ID: model.NotedID(sha1), Partner: "ejbca", RequestHash: hash, Serial: "0A:" + sha1, Issuer: "CN=EJBCA", CAConfiguration: "cfg", At: f.now}
	c := model.Certificate{Certificate: profiles.Certificate{SHA256: words.ID, SHA1: sha1, NotBefore: f.now, NotAfter: f.now.Add(day)}, Kind: model.CertificateIssued,
		UserID: e.UserID, DeviceID: e.DeviceID, EnrolmentID: e.ID, Profile: "own", CA: "ejbca", Issuer: words.Issuer, StatusAt: f.now,
		RevokeOn: []profiles.Event{profiles.EventUnenroll}, CreatedAt: f.now}
	return words, c
}

func (f *fixture) tells(e model.Enrolment, hash, sha1 string) error {
	words, c := f.told(e, hash, sha1)
	return f.NotePartnerCertificate(f.ctx, words, c, f.audit("partner.issued"))
}

func partnerNotes(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	f.partner("ejbca")
	f.is(f.tells(e, "h1", "aa"), model.ErrNotFound)
	r := f.asksPartner(e, "ejbca", "h1")
	equal(f, "left to the partner", len(get(f.Claim(f.ctx, c.ID, 10, time.Minute, f.now))(f)), 0)
	f.settle(e.ID)
	for range 2 {
		f.ok(f.tells(e, "h1", "aa"))
	}
	s := f.snapshot(e.ID)
	equal(f, "certificates", len(s.Issued), 1)
	equal(f, "status", s.Issued[0].Status, model.CertificateCurrent)
	equal(f, "noted", s.Issued[0].Noted(), true)
	equal(f, "for the request", s.Issued[0].RecordID, r.RequestID)
	equal(f, "to be looked at", s.Enrolment.Dirty, true)
	equal(f, "list to be read anew", s.Inventory.CertificatesAt.IsZero(), true)
	equal(f, "job", f.job(r.JobID).State, model.JobDone)
	for range 2 {
		f.is(f.tells(e, "h1", "bb"), model.ErrConflict)
	}
	equal(f, "second certificate", f.certificateBySHA(model.NotedID("bb")).Status, model.CertificateSuperseded)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), 1)
	f.asksPartner(e, "ejbca", "h2")
	f.is(f.tells(e, "h2", "aa"), model.ErrConflict)
	equal(f, "audited", f.audited("partner.issued"), 5)
}

func partnerTooLate(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	f.partner("ejbca")
	f.asksPartner(e, "ejbca", "h1")
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, "unenroll", f.now, f.audit("device.unenrol")))
	f.is(f.tells(e, "h1", "aa"), model.ErrConflict)
	equal(f, "status", f.certificateBySHA(model.NotedID("aa")).Status, model.CertificateSuperseded)
	equal(f, "revocations", len(f.revocations("", 10)), 1)
}

func partnerRefuses(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	f.is(f.RefusePartnerRequest(f.ctx, "h1", "no", f.audit("partner.refused")), model.ErrNotFound)
	r := f.asksPartner(e, "ejbca", "h1")
	f.settle(e.ID)
	f.ok(f.RefusePartnerRequest(f.ctx, "h1", "the CA is closed", f.audit("partner.refused")))
	j := f.snapshot(e.ID).Jobs["certify:h1"]
	equal(f, "job", string(j.State)+" "+string(j.Reason)+" "+j.Error, "failed IssueRefused the CA is closed")
	equal(f, "to be looked at", f.snapshot(e.ID).Enrolment.Dirty, true)
	f.ok(f.tells(e, "h1", "aa")) // it was asked again
	f.ok(f.RefusePartnerRequest(f.ctx, "h1", "late", f.audit("partner.refused")))
	equal(f, "job", f.job(r.JobID).State, model.JobDone)
}

func (f *fixture) revocations(issuer string, limit int) []model.Revocation {
	f.Helper()
	return get(f.ClaimRevocations(f.ctx, "ejbca", issuer, limit, time.Minute, f.audit("partner.revocations")))(f)
}

func (f *fixture) partnerAnswers(partner string, a ...model.RevocationAnswer) {
	f.Helper()
	f.ok(f.AnswerRevocations(f.ctx, partner, a, f.audit("partner.revoked")))
}

func partnerRevokes(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	f.partner("ejbca")
	for i := range 3 {
		hash := fmt.Sprint("h", i)
		f.asksPartner(e, "ejbca", hash)
		f.ok(f.tells(e, hash, fmt.Sprintf("a%d", i)))
	}
	f.ok(f.CheckOut(f.ctx, e.ID, model.RemovalReported, string(profiles.EventUnenroll), f.now, f.audit("device.unenrol")))
	equal(f, "status", f.certificateBySHA(model.NotedID("a0")).Status, model.CertificateRevoking)
	equal(f, "for connectors", len(get(f.Claim(f.ctx, c.ID, 10, time.Minute, f.now))(f)), 0)
	other := get(f.ClaimRevocations(f.ctx, "other", "", 10, time.Minute, f.audit("x")))(f)
	equal(f, "for another partner", len(other), 0)
	equal(f, "of another issuer", len(f.revocations("CN=Other", 10)), 0)
	two := f.revocations("CN=EJBCA", 2)
	equal(f, "at most", len(two), 2)
	equal(f, "in its words", two[0].Serial[:3]+two[0].Issuer+two[0].CAConfiguration, "0A:CN=EJBCAcfg")
	rest := f.revocations("", 10)
	equal(f, "the rest", len(rest), 1)
	f.partnerAnswers("other", model.RevocationAnswer{JobID: rest[0].JobID, Revoked: true})
	equal(f, "only its own", f.job(rest[0].JobID).State, model.JobLeased)
	f.partnerAnswers("ejbca", model.RevocationAnswer{JobID: rest[0].JobID, Error: "no such certificate"}, model.RevocationAnswer{JobID: two[1].JobID, Error: "busy", RetryAt: f.now.Add(time.Hour)},
		model.RevocationAnswer{JobID: "unknown", Revoked: true}, model.RevocationAnswer{JobID: two[0].JobID, Revoked: true})
	f.partnerAnswers("ejbca", model.RevocationAnswer{JobID: two[0].JobID, Error: "late"})
	equal(f, "revoked", f.certificateBySHA(two[0].ID).Status, model.CertificateRevoked)
	equal(f, "done", f.job(two[0].JobID).State, model.JobDone)
	equal(f, "given up", f.job(rest[0].JobID).State, model.JobFailed)
	equal(f, "not yet again", len(f.revocations("", 10)), 0)
	f.now = f.now.Add(time.Hour)
	equal(f, "again", f.revocations("", 10)[0].JobID, two[1].JobID)
	equal(f, "leased", len(f.revocations("", 10)), 0)
	f.now = f.now.Add(2 * time.Minute)
	equal(f, "an unanswered one comes again", f.revocations("", 10)[0].JobID, two[1].JobID)
}

func partnerForgets(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	r := f.asksPartner(f.enrol(u, c, "UDID"), "ejbca", "h1")
	f.ok(f.Sweep(f.ctx, f.now.Add(24*time.Hour), retention()))
	equal(f, "job", f.job(r.JobID).State, model.JobOpen)
	f.ok(f.Sweep(f.ctx, f.now.Add(400*day), retention()))
	equal(f, "job", f.job(r.JobID).State, model.JobObsolete)
}
