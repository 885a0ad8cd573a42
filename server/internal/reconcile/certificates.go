package reconcile

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// requestCertificates stores the intent for every certificate that a profile wants on this device: one that is missing,
// one whose profile now asks for something else, one that is inside its renewal window.
//
// A Mac has its certificates in the login keychain, by its user channel.
func (w *work) requestCertificates() {
	if w.enrolment.Platform == profiles.MacOS && w.enrolment.Channel != model.ChannelUser {
		return
	}
	for _, o := range w.applying {
		p, ok := o.Spec.(*profiles.PKCSCertificate)
		if !ok || w.roots()[p.CertificateAuthority] == nil || w.isPartner(p.CertificateAuthority) {
			continue
		}
		if job, needed := w.issueJob(o.Name, p); needed {
			w.issueKeys[o.Name] = job.Key
			w.ask(job)
		}
	}
}

// askAgain is when a job that a connector refused for good is tried once more by itself: a CA or a key may be back.
const askAgain = 6 * time.Hour

// ask adds a job unless it is known: an open one is under way, a failed one waits for askAgain or an admin's sync.
func (w *work) ask(j model.Job) {
	old, known := w.in.Snapshot.Jobs[j.Key]
	if !known || (old.State == model.JobFailed && !w.now.Before(old.UpdatedAt.Add(askAgain))) {
		w.out.Jobs = append(w.out.Jobs, j)
	}
}

func (w *work) issueJob(name string, p *profiles.PKCSCertificate) (model.Job, bool) {
	request, err := w.issueRequest(name, p)
	if err != nil {
		return model.Job{}, false // the plan shows which variable it is, and unwritable what else
	}
	next, had := w.series(name, func(n int) string { return w.intentID(request, n) })
	current, has := w.issued()[name]
	if has && had[current.RecordID] && !w.renewalDue(current, p) {
		return model.Job{}, false
	}
	request.IntentID = next
	payload, err := json.Marshal(request)
	if err != nil {
		return model.Job{}, false
	}
	return model.Job{Key: issueKey(w.enrolment.ID, name, request.IntentID), Kind: link.JobIssue, Payload: payload,
		UserID: w.in.Snapshot.User.ID, EnrolmentID: w.enrolment.ID, Needs: link.Offering(w.in.Snapshot.CAs, p.CertificateAuthority), RunAt: w.now}, true
}

// series goes through the ids of one very request: those that have brought a certificate, whatever became of it, and the first
// that has not. What answers another request, one from before a change, moves neither.
func (w *work) series(profile string, id func(n int) string) (next string, had map[string]bool) {
	made := w.rounds(profile)
	had = map[string]bool{}
	for n := 0; n <= len(made); n++ {
		switch i := id(n); {
		case made[i]:
			had[i] = true
		case next == "":
			next = i
		}
	}
	return next, had
}

// answering are the ids of connectors' certificates that a profile asks for as it is now, by profile name.
func (w *work) answering() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, o := range w.applying {
		p, ok := o.Spec.(*profiles.PKCSCertificate)
		if !ok {
			continue
		}
		if request, err := w.issueRequest(o.Name, p); err == nil {
			_, out[o.Name] = w.series(o.Name, func(n int) string { return w.intentID(request, n) })
		}
	}
	return out
}

func issueKey(enrolmentID, profile, intentID string) string {
	return "issue:" + enrolmentID + ":" + profile + ":" + intentID
}

// issueRequest expands the profile for this user and device. IntentID is still empty.
func (w *work) issueRequest(name string, p *profiles.PKCSCertificate) (link.IssueJob, error) {
	vars := w.vars()
	rdn, err := profiles.ParseSubject(p.Subject, vars)
	if err != nil {
		return link.IssueJob{}, err
	}
	subject, err := asn1.Marshal(rdn)
	if err != nil {
		return link.IssueJob{}, fmt.Errorf("encode the subject of %s: %w", name, err)
	}
	sans, err := profiles.ExpandNames(p.SubjectAlternativeNames, vars)
	if err != nil {
		return link.IssueJob{}, err
	}
	return link.IssueJob{EnrolmentID: w.enrolment.ID, HolderID: w.enrolment.HolderID, DeviceID: w.device.ID, UserID: w.in.Snapshot.User.ID,
		Profile: name, Request: p.CertificateRequest, Subject: subject, SANs: sans}, nil
}

// unwritable names a profile of the document whose certificate cannot be asked for, and says why: a variable has a value, and
// the subject or a name cannot hold it (RFC 5280 appendix A.1: a common name has at most 64 characters).
func (w *work) unwritable(d *model.DocumentState) (what string, err error) {
	for _, o := range w.applying {
		p := requestOf(o.Spec)
		if p == nil || !slices.Contains(d.Document.Profiles, o.Name) {
			continue
		}
		if _, err := w.issueRequest(o.Name, &profiles.PKCSCertificate{CertificateRequest: *p}); err != nil {
			return fmt.Sprintf("%s %s", o.Kind, o.Name), err
		}
	}
	return "", nil
}

func (w *work) vars() profiles.Vars {
	u := w.in.Snapshot.User
	v := profiles.VarsFor(u.UPN, &u.Spec)
	v.DeviceID, v.DeviceName, v.SerialNumber, v.IMEI = w.device.ID, w.device.Name, w.device.SerialNumber, w.device.IMEI
	return v
}

// intentID names the n-th certificate that this enrolment gets for this very request: the same question, the same answer.
// Renewal threshold and revocation events do not change what the certificate is.
func (w *work) intentID(r link.IssueJob, n int) string {
	r.IntentID, r.Request.RenewalThresholdPercentage, r.Request.RevokeOn = "", 0, nil
	b, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(b, "/%d", n))
	return hex.EncodeToString(sum[:16])
}

// requestOf is what a profile has issued for each device; nil: it has nothing issued.
func requestOf(spec profiles.Spec) *profiles.CertificateRequest {
	switch p := spec.(type) {
	case *profiles.PKCSCertificate:
		return &p.CertificateRequest
	case *profiles.SCEPCertificate:
		return &p.CertificateRequest
	}
	return nil
}

// renewalDue: the remaining lifetime is below the threshold (Microsoft Learn: renewal threshold, percent that remains).
func (w *work) renewalDue(c profiles.Certificate, p *profiles.PKCSCertificate) bool {
	return !w.now.Before(p.RenewAt(c))
}

// retireCertificates ends issued certificates that the device does not carry and no document will carry again. They are
// revoked if their profile says so; the sealed key goes in any case.
func (w *work) retireCertificates() {
	needed := w.issued()
	for _, c := range w.in.Snapshot.Issued {
		if w.goesToo(c) {
			w.retire(c, w.eventFor(c))
		}
		if c.Status != model.CertificateCurrent || w.carried(c.SHA256, nil) || w.isUnderway(c.SHA256) || w.keeps(c) || w.lost[c.Profile] == c.SHA256 {
			continue
		}
		if n, ok := needed[c.Profile]; ok && n.SHA256 == c.SHA256 && w.applies(c.Profile) {
			continue
		}
		w.retire(c, w.eventFor(c))
	}
}

// goesToo: what was replaced without being revoked is good still, and its key was on a device that leaves.
func (w *work) goesToo(c model.Certificate) bool {
	return c.Status == model.CertificateSuperseded && (w.leaving() || w.leftBy != "") && w.now.Before(c.NotAfter) && slices.Contains(c.RevokeOn, w.eventFor(c))
}

func (w *work) applies(profile string) bool {
	return slices.ContainsFunc(w.applying, func(o profiles.Object) bool { return o.Name == profile })
}

// isUnderway tells whether an install command that carries the certificate may still arrive.
func (w *work) isUnderway(sha string) bool {
	for _, d := range w.docs {
		if d.Status == model.DocumentSent && slices.Contains(d.SentCredentials, sha) {
			return true
		}
	}
	return false
}

func (w *work) eventFor(c model.Certificate) profiles.Event {
	switch {
	case w.leftBy != "":
		return w.leftBy
	case w.device.State == model.DeviceRetiring:
		return profiles.EventRetire
	case w.device.State == model.DeviceWiping:
		return profiles.EventWipe
	case !w.applies(c.Profile):
		return profiles.EventUnassign
	default:
		return "" // superseded by a newer one
	}
}

// crlReason codes of RFC 5280, section 5.3.1.
const (
	crlSuperseded           = 4
	crlCessationOfOperation = 5
)

func (w *work) retire(c model.Certificate, event profiles.Event) {
	change := CertificateChange{SHA256: c.SHA256, Status: model.CertificateRemoved, At: w.now, DropKey: true}
	reason, on := crlCessationOfOperation, event
	if event == "" {
		change.Status, reason, on = model.CertificateSuperseded, crlSuperseded, profiles.EventSupersede
	}
	if slices.Contains(c.RevokeOn, on) {
		change.Status = model.CertificateRevoking
		w.revoke(c, reason)
	}
	w.out.Certificates = append(w.out.Certificates, change)
	w.audit("certificate."+string(change.Status), c.SHA256, "ok", map[string]string{"profile": c.Profile, "event": string(event)})
}

func (w *work) revoke(c model.Certificate, reason int) {
	payload, err := json.Marshal(link.RevokeJob{CA: c.CA, Certificate: c.DER, ReasonCode: reason, At: w.now})
	if err != nil {
		return
	}
	w.ask(model.Job{Key: "revoke:" + c.SHA256, Kind: link.JobRevoke, Payload: payload,
		UserID: c.UserID, Needs: c.Revokers(w.in.Snapshot.CAs), RunAt: w.now})
}
