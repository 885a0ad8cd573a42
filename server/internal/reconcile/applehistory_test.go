package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// newPhone is the world with Apple's own planner and the history alone; assignMail adds an account.
func newPhone(t *testing.T) *world {
	w := newWorld(t)
	w.maker = apple.Plan
	w.s.Objects = slices.Clone(w.s.Objects)
	w.s.Objects[2].Spec = &profiles.Assignment{Profiles: []string{"hist"}, Include: []profiles.Target{{Group: "sales"}}}
	return w
}

// phone has its history.
func phone(t *testing.T) *world {
	w := newPhone(t)
	w.settle()
	w.hasKeys("k1", "k2")
	return w
}

const mailDoc = "mail.m"

// assignMail assigns an account that signs with the certificate of that profile.
func (w *world) assignMail(signing string) {
	w.s.Objects = append(slices.Clone(w.s.Objects),
		profiles.Object{Kind: profiles.KindEmail, Name: "m", Spec: &profiles.Email{AccountName: "Mail",
			Exchange: &profiles.Exchange{Host: "mail.corp.test", Authentication: profiles.AuthUsernameAndPassword},
			SMIME: &profiles.SMIME{Signing: profiles.SMIMESigning{Enabled: true, Certificate: signing},
				Encryption: profiles.SMIMEEncryption{Certificate: "hist"}}}},
		profiles.Object{Kind: profiles.KindAssignment, Name: "b", Spec: &profiles.Assignment{Profiles: []string{"m", signing}, Include: []profiles.Target{{Group: "sales"}}}})
	w.s.Generation++
}

// hasKeys demands that the device has these encryption keys.
func (w *world) hasKeys(want ...string) {
	w.t.Helper()
	for _, key := range want {
		if !w.onDevice(key) {
			w.t.Fatalf("%s is not on the device, which has %v; sent %v", key, w.held, w.sent)
		}
	}
}

func (w *world) onDevice(key string) bool {
	for _, keys := range w.held {
		if slices.Contains(keys, key) {
			return true
		}
	}
	return false
}

// work is settle, with a look at the keys after every single command.
func (w *world) work(keys ...string) {
	w.t.Helper()
	for range 10 {
		r := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
		for range 50 {
			if r.Action == nil {
				break
			}
			r = w.step(w.answer())
			w.hasKeys(keys...)
		}
		w.connector()
		w.now = w.now.Add(time.Second)
		w.s.ConnectorSeen = w.now
	}
}

// once demands that the key is in one document, as it should be when nothing is left to do.
func (w *world) once(key string) {
	w.t.Helper()
	n := 0
	for _, keys := range w.held {
		if slices.Contains(keys, key) {
			n++
		}
	}
	if n != 1 {
		w.t.Errorf("%s is in %d documents: %v", key, n, w.held)
	}
}

func TestTheCurrentKeyStaysWhileTheCAIsAway(t *testing.T) {
	w := phone(t)
	cas := w.s.CAs
	w.s.CAs = nil
	w.assignMail("sign")
	w.work("k1", "k2")
	w.want(mailDoc, model.DocumentWaiting, platforms.ReasonCertificateAuthorityUnknown)
	w.s.CAs, w.s.Generation = cas, w.s.Generation+1
	w.work("k1", "k2")
	w.want(mailDoc, model.DocumentVerified, platforms.ReasonVerified)
	w.once("k2")
}

// EM-09: the user has set up the account by hand (21005, not unique).
func TestTheNewestKeyComesAlthoughTheDeviceRefusesTheAccount(t *testing.T) {
	w := newPhone(t)
	w.refuse[mailDoc] = "MCEASErrorDomain 21005: the account is not unique"
	w.assignMail("sign")
	w.settle()
	w.want(mailDoc, model.DocumentFailed, platforms.ReasonDeviceRefused)
	w.hasKeys("k1", "k2")
	for range 5 { // more often than MaxAttempts
		w.now = w.now.Add(7 * time.Hour)
		w.s.ConnectorSeen, w.s.Enrolment.Dirty = w.now, true
		w.work("k1", "k2")
	}
	delete(w.refuse, mailDoc) // the user removed it, an admin had it tried again
	for i := range w.s.Documents {
		w.s.Documents[i].Attempts = 0
	}
	w.s.Enrolment.Dirty = true
	w.work("k1", "k2")
	w.want(mailDoc, model.DocumentVerified, platforms.ReasonVerified)
	w.once("k2")
}

func TestTheNewestKeyComesAlthoughTheSCEPServerIsAway(t *testing.T) {
	w := newPhone(t)
	w.s.Objects = append(slices.Clone(w.s.Objects), profiles.Object{Kind: profiles.KindSCEPCertificate, Name: "own", Spec: &profiles.SCEPCertificate{
		CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{UserName}}",
			SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}}}}})
	w.refuse[mailDoc] = "the SCEP server gave no certificate"
	w.assignMail("own")
	w.settle()
	w.want(mailDoc, model.DocumentFailed, platforms.ReasonDeviceRefused)
	w.hasKeys("k1", "k2")
	w.importKey("k3", w.now)
	w.work("k1", "k2")
	w.hasKeys("k3")
}

// A connector that cannot render the account keeps no key from the device either.
func TestTheNewestKeyComesAlthoughTheAccountCannotBeRendered(t *testing.T) {
	w := newPhone(t)
	w.assignMail("sign")
	w.session()
	w.connector() // the signing certificate
	w.session()   // asks for the account
	for key, j := range w.jobs {
		if j.Kind == link.JobRender && j.DocumentID == mailDoc {
			j.State, j.Error, j.Reason, j.UpdatedAt = model.JobFailed, "no such key", platforms.ReasonRenderFailed, w.now
			w.jobs[key] = j
		}
	}
	w.s.Enrolment.Dirty = true
	w.work()
	w.want(mailDoc, model.DocumentWaiting, platforms.ReasonRenderFailed)
	w.hasKeys("k1", "k2")
}

// The key of before stays while a new one takes its place in the account.
func TestANewKeyReplacesNone(t *testing.T) {
	w := phone(t)
	w.assignMail("sign")
	w.work("k1", "k2")
	w.importKey("k3", w.now)
	w.work("k1", "k2")
	w.hasKeys("k3")
	for _, key := range []string{"k1", "k2", "k3"} {
		w.once(key)
	}
}

// The account goes and the key stays, also where another account takes its place.
func TestTheCurrentKeyOutlivesItsAccount(t *testing.T) {
	w := phone(t)
	w.assignMail("sign")
	w.work("k1", "k2")
	account := slices.Clone(w.s.Objects)
	for i := range account {
		if account[i].Kind == profiles.KindEmail {
			account[i].Name = "renamed"
			account[i+1].Spec = &profiles.Assignment{Profiles: []string{"renamed", "sign"}, Include: []profiles.Target{{Group: "sales"}}}
		}
	}
	w.s.Objects, w.s.Generation = account, w.s.Generation+1
	w.work("k1", "k2")
	w.want("mail.renamed", model.DocumentVerified, platforms.ReasonVerified)
	if removed, installed := slices.Index(w.sent, "remove io.waxseal.mail.m"), slices.Index(w.sent, "install mail.renamed"); removed < 0 || removed > installed {
		t.Errorf("a device takes no second account for an address: %v", w.sent)
	}
	w.once("k2")
	w.s.Objects, w.s.Generation = account[:3], w.s.Generation+1
	w.work("k1", "k2")
	if d := w.doc("mail.renamed"); d.Document.ID != "" {
		t.Errorf("the account is %s", d.Status)
	}
	w.once("k2")
}
