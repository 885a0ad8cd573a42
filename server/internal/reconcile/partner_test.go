package reconcile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// newPartner is a world whose SCEPCertificate "own" comes from a partner CA. Of its certificates only SHA-1 are known.
func newPartner(t *testing.T) *world {
	w := newOwn(t)
	p := model.Partner{Name: "ejbca", URL: "https://ca.example/scep", Chain: [][]byte{[]byte("issuing"), []byte("root")}}
	w.s.CAs = append(w.s.CAs, p.CA())
	i := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Name == "own" })
	w.s.Objects[i].Spec = &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "ejbca", Subject: "CN={{UserName}}", RenewalThresholdPercentage: 20}}
	return w
}

// plans are what the platforms are told of the profile.
func (w *world) enrolmentOf(profile string) (e platforms.SCEPEnrolment) {
	plan := func(in platforms.Input) []platforms.Document { e = in.SCEP[profile]; return w.plan(in) }
	reconcile.Decide(reconcile.Input{Snapshot: w.s, Report: reconcile.Report{Outcome: reconcile.OutcomeIdle}, Now: w.now, Plan: plan, CanDecrypt: true,
		Settings: reconcile.Settings{Namespace: "io.waxseal", SCEPURL: "https://mdm.example/scep", ConnectorSilence: 2 * time.Minute, MaxAttempts: 3}, NewUUID: func() string { return "X" }})
	return e
}

// TestPartnerIsAskedAtItsURL: the device goes to the partner itself, with what it needs to trust it.
func TestPartnerIsAskedAtItsURL(t *testing.T) {
	w := newPartner(t)
	if e := w.enrolmentOf("own"); e.URL != "https://ca.example/scep" || e.Name != "" || len(e.Intermediates) != 1 || string(e.Intermediates[0]) != "issuing" {
		t.Errorf("got %+v", e)
	}
	w = newOwn(t)
	if e := w.enrolmentOf("own"); e.URL != "https://mdm.example/scep/softca" || e.Name != "softca" {
		t.Errorf("got %+v", e)
	}
}

// told makes what the device got at its last installation known as a partner tells it: by its SHA-1 only.
func (w *world) told() {
	for i := range w.s.Issued {
		if c := &w.s.Issued[i]; c.Profile == "own" && !c.Noted() {
			c.SHA1 = fmt.Sprintf("%040d", i)
			for id, held := range w.held {
				if at := slices.Index(held, c.SHA256); at >= 0 {
					w.held[id][at] = c.SHA1
				}
			}
			c.SHA256, c.CA = model.NotedID(c.SHA1), "ejbca"
			w.s.Inventory.CertificatesAt = time.Time{}
		}
	}
}

// bySHA1 is the device's answer, with both names of each certificate.
func (w *world) bySHA1() reconcile.Report {
	w.told()
	r := w.answer()
	if r.Certificates == nil {
		return r
	}
	r.SHA1 = map[string]bool{}
	for sha, hasKey := range r.Certificates {
		if strings.HasPrefix(sha, "0000") { // one of the partner's: the device tells its SHA-256, which nobody knows
			delete(r.Certificates, sha)
			r.Certificates["the SHA-256 of "+sha], r.SHA1[sha] = hasKey, hasKey
		}
	}
	return r
}

func (w *world) partnerSession() {
	w.t.Helper()
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			w.connector()
			return
		}
		answer := w.bySHA1()
		w.told()
		result = w.step(answer)
	}
	w.t.Fatal("the session does not end")
}

func (w *world) partnerSettles() {
	for range 10 {
		w.partnerSession()
		w.told()
		w.now = w.now.Add(time.Second)
	}
}

// TestPartnersCertificateIsVerified by the SHA-1 that the device shows, and then nothing more happens; when it is due the device
// gets another, and the former goes.
func TestPartnersCertificateIsVerified(t *testing.T) {
	w := newPartner(t)
	w.partnerSettles()
	w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	if all := w.own(); len(all) != 1 || !strings.HasSuffix(all[0], " current") || !strings.HasPrefix(all[0], "sha1:") {
		t.Fatalf("certificates %q", all)
	}
	w.now = w.now.Add(4 * week)
	w.s.ConnectorSeen = w.now
	w.partnerSettles()
	if all := w.own(); len(all) != 1 {
		t.Errorf("certificates %q", all)
	}
	w.now = w.now.Add(40 * week)
	w.s.ConnectorSeen = w.now
	w.partnerSettles()
	if all := w.own(); len(all) != 2 || !strings.HasSuffix(all[0], " superseded") || !strings.HasSuffix(all[1], " current") {
		t.Errorf("certificates %q", all)
	}
}

// TestPartnersCertificateIsGone: a device that does not show it gets another.
func TestPartnersCertificateIsGone(t *testing.T) {
	w := newPartner(t)
	w.partnerSettles()
	for id := range w.held {
		if strings.Contains(id, "identity.own") {
			w.held[id] = nil
		}
	}
	w.now = w.now.Add(25 * time.Hour)
	w.s.ConnectorSeen = w.now
	w.partnerSettles()
	if all := w.own(); len(all) != 2 || !strings.HasSuffix(all[1], " current") {
		t.Errorf("certificates %q", all)
	}
}

// TestPartnersRevocationIsThePartners: no connector has that work.
func TestPartnersRevocationIsThePartners(t *testing.T) {
	w := newPartner(t)
	w.partnerSettles()
	w.assign("sign", "hist")
	w.partnerSettles()
	all := w.own()
	if len(all) != 1 || !strings.HasSuffix(all[0], " revoking") {
		t.Fatalf("certificates %q", all)
	}
	job := w.jobs["revoke:"+strings.Fields(all[0])[0]]
	if link.PartnerOf(job.Needs) != "ejbca" {
		t.Errorf("job %+v", job)
	}
}

// TestPartnersRefusalIsExplained in the partner's words, when the device has said no more than that it got nothing.
func TestPartnersRefusalIsExplained(t *testing.T) {
	w := newPartner(t)
	payload, err := json.Marshal(link.CertifyJob{Profile: "own", RequestID: reconcile.Orders(w.s, reconcile.Settings{}, w.now)[0].RequestID})
	if err != nil {
		t.Fatal(err)
	}
	w.jobs["certify:x"] = model.Job{Key: "certify:x", Kind: link.JobCertify, Payload: payload, Needs: []string{link.PartnerMember("ejbca")}, State: model.JobFailed,
		Reason: platforms.ReasonIssueRefused, Error: "the CA is closed (0x80092004)", CreatedAt: w.now, UpdatedAt: w.now}
	w.refuse["identity.own"] = "MCSCEPErrorDomain 22013"
	for range 6 {
		w.session()
		w.now = w.now.Add(24 * time.Hour)
		w.s.ConnectorSeen = w.now
	}
	if d := w.doc("identity.own"); d.Reason != platforms.ReasonIssueRefused || !strings.Contains(d.Detail, "the CA is closed (0x80092004)") {
		t.Errorf("%s: %s %q", d.Status, d.Reason, d.Detail)
	}
}

// TestPartnerMakesNoKeys: a PKCSCertificate has none to ask.
func TestPartnerMakesNoKeys(t *testing.T) {
	w := newPartner(t)
	i := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Name == "sign" })
	w.s.Objects[i].Spec = &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "ejbca", Subject: "CN={{UserName}}"}}
	w.session()
	for _, j := range w.jobs {
		if j.Kind == link.JobIssue {
			t.Errorf("job %+v", j)
		}
	}
	if d := w.doc("mail.m"); !strings.Contains(d.Detail, "ejbca") || !strings.Contains(d.Detail, "SCEPCertificate") {
		t.Errorf("%s: %s %q", d.Status, d.Reason, d.Detail)
	}
}
