package reconcile_test

import (
	"encoding/json"
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

// newOwn is a world with a SCEPCertificate "own" beside the rest.
func newOwn(t *testing.T) *world {
	w := newWorld(t)
	w.s.Objects = append(w.s.Objects, profiles.Object{Kind: profiles.KindSCEPCertificate, Name: "own", Spec: &profiles.SCEPCertificate{
		CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{UserName}}", RenewalThresholdPercentage: 20}}})
	w.assign("sign", "hist", "own")
	return w
}

func (w *world) assign(names ...string) {
	i := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Kind == profiles.KindAssignment })
	w.s.Objects[i] = profiles.Object{Kind: profiles.KindAssignment, Name: "a", Spec: &profiles.Assignment{Profiles: names, Include: []profiles.Target{{Group: "sales"}}}}
	w.s.Enrolment.Dirty = true
}

// own are the certificates of the profile, as "sha status".
func (w *world) own() []string {
	var out []string
	for _, c := range w.s.Issued {
		if c.Profile == "own" {
			out = append(out, c.SHA256+" "+string(c.Status))
		}
	}
	return out
}

func (w *world) owns(want ...string) {
	w.t.Helper()
	if got := w.own(); !slices.Equal(got, want) {
		w.t.Errorf("certificates %q, want %q", got, want)
	}
}

// TestOwnKey: one certificate, verified by the inventory; nothing more happens until it is due.
func TestOwnKey(t *testing.T) {
	w := newOwn(t)
	w.settle()
	w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	w.owns("own0 current")
	for range 10 {
		w.now = w.now.Add(4 * week)
		w.settle()
	}
	w.owns("own0 current")
	orders := reconcile.Orders(w.s, reconcile.Settings{}, w.now)
	if len(orders) != 1 || orders[0].RequestID != w.s.Issued[0].RecordID || orders[0].Profile != "own" || orders[0].EnrolmentID != "e1" {
		t.Errorf("orders %+v", orders)
	}
}

// TestSC05OwnKeyIsRenewed: when it is due, and also when it is over (SC-05); the former one stays current until the inventory has
// shown the new one, and is superseded then. There is no moment without.
func TestSC05OwnKeyIsRenewed(t *testing.T) {
	for name, after := range map[string]time.Duration{"due": 43 * week, "expired": 60 * week} {
		t.Run(name, func(t *testing.T) {
			w := newOwn(t)
			w.settle()
			w.now = w.now.Add(after)
			w.s.ConnectorSeen = w.now
			result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
			for range 50 {
				if result.Action == nil {
					break
				}
				result = w.step(w.answer())
				if w.own()[0] == "own0 superseded" {
					w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
				}
			}
			w.settle()
			if all := w.own(); len(all) != 2 || all[0] != "own0 superseded" {
				t.Errorf("certificates %q", all)
			}
			w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
		})
	}
}

// TestSC11OwnKeyOfAnEditedProfile: another certificate only if it would differ, and then the former is superseded.
func TestSC11OwnKeyOfAnEditedProfile(t *testing.T) {
	w := newOwn(t)
	w.settle()
	edit := func(change func(*profiles.CertificateRequest)) {
		i := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Name == "own" })
		spec := *w.s.Objects[i].Spec.(*profiles.SCEPCertificate)
		change(&spec.CertificateRequest)
		w.s.Objects[i].Spec, w.s.Enrolment.Dirty = &spec, true
		w.settle()
	}
	edit(func(r *profiles.CertificateRequest) {
		r.RenewalThresholdPercentage, r.RevokeOn = 30, []profiles.Event{profiles.EventWipe}
	})
	w.owns("own0 current")
	edit(func(r *profiles.CertificateRequest) { r.Subject = "CN=x {{UserName}}" })
	w.owns("own0 superseded", "own2 current")
}

// TestPK11OwnKeyDeletedByHand: a few times another is ordered; then somebody has to look (PK-11).
func TestPK11OwnKeyDeletedByHand(t *testing.T) {
	w := newOwn(t)
	w.settle()
	for range 6 {
		for _, c := range w.s.Issued {
			w.hide[c.SHA256] = c.Profile == "own"
		}
		w.now = w.now.Add(25 * time.Hour)
		w.s.ConnectorSeen = w.now
		w.settle()
	}
	if n := len(w.own()); n != 4 {
		t.Errorf("%d certificates %q, want the first and three more", n, w.own())
	}
}

// TestOwnKeyGoes: when the profile is taken away the certificate stays current until the device has given it up, and goes by
// the event of the profile then.
func TestOwnKeyGoes(t *testing.T) {
	w := newOwn(t)
	w.settle()
	w.assign("sign", "hist")
	w.refuse["identity.own"] = ""
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			break
		}
		if _, there := w.docs["io.waxseal.identity.own"]; there {
			w.owns("own0 current")
		}
		result = w.step(w.answer())
	}
	w.settle()
	w.owns("own0 revoking")
}

// TestSupersededIsRevokedOnlyIfAsked: by the event supersede, and with that reason.
func TestSupersededIsRevokedOnlyIfAsked(t *testing.T) {
	for _, asked := range []bool{false, true} {
		w := newOwn(t)
		w.settle()
		if asked {
			w.s.Issued[0].RevokeOn = []profiles.Event{profiles.EventSupersede}
		}
		w.now = w.now.Add(43 * week)
		w.s.ConnectorSeen = w.now
		w.settle()
		want := "own0 superseded"
		if asked {
			want = "own0 revoking"
		}
		if all := w.own(); all[0] != want {
			t.Errorf("asked %v: %q, want %q", asked, all, want)
		}
		if _, job := w.jobs["revoke:own0"]; job != asked {
			t.Errorf("asked %v: revocation %v", asked, job)
		}
	}
}

// TestOwnKeyWakesItsDevice: a device is told to come when its certificate is due, and not a day later with the inventory.
func TestOwnKeyWakesItsDevice(t *testing.T) {
	w := newOwn(t)
	w.assign("own")
	w.settle()
	c := w.s.Issued[0]
	due := c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 5)
	w.now = due.Add(-time.Hour)
	w.settle()
	if at := w.s.Enrolment.InventoryAt; at.After(due) || at.Before(due.Add(-time.Hour)) {
		t.Errorf("the device is looked at again at %s, its certificate is due at %s", at, due)
	}
}

// TestSurplusCertificateChangesNothing: one that nobody was to have (two connectors answered, or a partner told of two) is no
// reason for another.
func TestSurplusCertificateChangesNothing(t *testing.T) {
	w := newOwn(t)
	w.settle()
	before := len(w.s.Issued)
	for _, profile := range []string{"own", "sign"} {
		w.s.Issued = append(w.s.Issued, model.Certificate{Certificate: profiles.Certificate{SHA256: "surplus " + profile, NotBefore: w.now, NotAfter: w.now.Add(52 * week)},
			Profile: profile, CA: "softca", Status: model.CertificateSuperseded, CreatedAt: w.now})
	}
	w.s.Enrolment.Dirty = true
	w.settle()
	if n := len(w.s.Issued) - before - 2; n != 0 {
		t.Errorf("%d certificates more", n)
	}
	w.owns("own0 current", "surplus own superseded")
}

// TestCAIsGoneDuringRenewal: the former certificate stays current as long as the device may have no other.
func TestCAIsGoneDuringRenewal(t *testing.T) {
	w := newOwn(t)
	w.settle()
	w.now = w.now.Add(43 * week)
	w.s.ConnectorSeen = w.now
	w.locked = true // the device has been told, and has not answered
	w.session()
	w.locked = false
	own := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Name == "own" })
	spec := *w.s.Objects[own].Spec.(*profiles.SCEPCertificate)
	spec.CertificateAuthority = "corp-est" // nobody offers it
	w.edit = func(docs []platforms.Document) []platforms.Document {
		if slices.ContainsFunc(docs, func(d platforms.Document) bool { return d.ID == "identity.own" }) {
			return docs
		}
		return append(docs, platforms.Document{ID: "identity.own", Identifier: "io.waxseal.identity.own", Profiles: []string{"own"},
			Reason: platforms.ReasonCertificateAuthorityUnknown})
	}
	w.certify("own", w.doc("identity.own").Document.Revision[len("identity.own/"):]) // it asked; its answer has not come
	w.s.Objects[own].Spec = &spec
	w.settle()
	if all := w.own(); len(all) != 2 || !strings.HasSuffix(all[0], " current") {
		t.Errorf("certificates %q, want the former to be current", all)
	}
}

// TestFormerCertificatesGoWithTheDevice: one that was replaced is good still, and its key was on the device.
func TestFormerCertificatesGoWithTheDevice(t *testing.T) {
	w := newOwn(t)
	w.settle()
	w.now = w.now.Add(43 * week)
	w.s.ConnectorSeen = w.now
	w.settle()
	if all := w.own(); len(all) != 2 || all[0] != "own0 superseded" {
		t.Fatalf("certificates %q", all)
	}
	w.s.Device.State, w.s.Device.StateAt, w.s.Enrolment.Dirty = model.DeviceRetiring, w.now, true
	w.settle()
	if w.s.Device.State != model.DeviceLeft {
		t.Fatalf("the device is %s", w.s.Device.State)
	}
	if all := w.own(); all[0] != "own0 revoking" || !strings.HasSuffix(all[1], " revoking") {
		t.Errorf("certificates %q", all)
	}
	if _, asked := w.jobs["revoke:own0"]; !asked {
		t.Error("nobody is asked to revoke the former")
	}
}

// TestSC05OwnKeyIsTriedUntilSuccess: a CA that is away for weeks leaves no device without a certificate for ever.
func TestSC05OwnKeyIsTriedUntilSuccess(t *testing.T) {
	w := newOwn(t)
	w.refuse["identity.own"] = "MCSCEPErrorDomain 22013"
	tried := 0
	for range 30 {
		w.settle()
		w.now = w.now.Add(24 * time.Hour)
		w.s.ConnectorSeen = w.now
	}
	for _, s := range w.sent {
		if strings.HasPrefix(s, "install identity.own") {
			tried++
		}
	}
	if tried < 25 || tried > 35 {
		t.Errorf("tried %d times in 30 days", tried)
	}
	w.want("identity.own", model.DocumentFailed, platforms.ReasonDeviceRefused)
	delete(w.refuse, "identity.own")
	w.settle()
	w.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
}

// TestRefusalOfACAIsExplained in the connector's words, when the device has said no more than that it got nothing.
func TestRefusalOfACAIsExplained(t *testing.T) {
	for _, c := range []struct {
		state  model.JobState
		reason platforms.Reason
	}{{model.JobFailed, platforms.ReasonIssueRefused}, {model.JobOpen, platforms.ReasonDeviceRefused}} {
		w := newOwn(t)
		payload, err := json.Marshal(link.CertifyJob{Profile: "own", RequestID: reconcile.Orders(w.s, reconcile.Settings{}, w.now)[0].RequestID})
		if err != nil {
			t.Fatal(err)
		}
		w.jobs["certify:x"] = model.Job{Key: "certify:x", Kind: link.JobCertify, Payload: payload, Needs: []string{"m1"}, State: c.state,
			Error: "CA softca: no such template", CreatedAt: w.now, UpdatedAt: w.now}
		w.refuse["identity.own"] = "MCSCEPErrorDomain 22013"
		w.session()
		w.session()
		if d := w.doc("identity.own"); d.Reason != c.reason || !strings.Contains(d.Detail, "no such template") {
			t.Errorf("%s: %s %q", d.Status, d.Reason, d.Detail)
		}
	}
}
