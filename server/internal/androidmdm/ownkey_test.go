package androidmdm_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	phone "github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// newKey gives a phone one wrap key, and another key each time that it makes one for itself.
func (h *house) newKey(int) (*rsa.PrivateKey, error) {
	h.made++
	return testpki.PoolKey(h, 2+h.made), nil
}

// certifyOwn is the connector's CA, for keys that phones make.
func (h *house) certifyOwn(j model.Job, done *connectorapi.Completion) error {
	var order link.CertifyJob
	if err := json.Unmarshal(j.Payload, &order); err != nil {
		return err
	}
	if h.refuses != "" {
		done.Failure = &connectorapi.Failure{Message: h.refuses, Final: true}
		return nil
	}
	csr, err := x509.ParseCertificateRequest(order.CSR)
	if err != nil {
		return err
	}
	c, _, err := model.NewCertificate(h.mailCA.IssueCSR(h, csr, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"},
		NotBefore: h.now.Add(-time.Hour), NotAfter: h.now.Add(order.Request.Lifetime())}).Raw)
	c.Kind, c.Purpose, c.RecordID, c.CA = model.CertificateIssued, profiles.PurposeSMIMESigning, order.RequestID, order.Request.CertificateAuthority
	c.UserID, c.DeviceID, c.EnrolmentID, c.Profile = order.UserID, order.DeviceID, order.EnrolmentID, order.Profile
	c.Status, c.StatusAt, c.CreatedAt = model.CertificateCurrent, h.now, h.now
	done.Certified = &connectorapi.CertifiedEffect{Certificate: c, Chain: [][]byte{h.mailCA.Cert.Raw}}
	return err
}

// ownHouse is the house with a profile for a signing key that the phone makes.
func ownHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	h.offer(link.CA{Name: "corp", Kind: "softca", Certificate: h.mailCA.Cert.Raw, Templates: []string{profiles.TemplateSMIMESigning}, Members: []string{"m1"}})
	h.signing(365 * 24 * time.Hour)
	h.apply(profiles.Object{Kind: profiles.KindAssignment, Name: "all", Spec: &profiles.Assignment{Profiles: []string{"root", "history", "mail", "sign"},
		Include: []profiles.Target{{Everybody: true}}}})
	return h
}

func (h *house) signing(validity time.Duration) {
	h.Helper()
	h.apply(profiles.Object{Kind: profiles.KindSCEPCertificate, Name: "sign", Spec: &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{
		CertificateAuthority: "corp", Subject: "CN={{UserPrincipalName}}", Validity: profiles.Duration(validity), KeyUsage: []string{"digitalSignature"},
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}, {Type: profiles.SANUPN, Value: "{{UserPrincipalName}}"}}}}})
}

// own is the alias of the phone's own key, empty without exactly one, and the certificates that were ever issued for such.
func (h *house) own(d *phone.Device) (alias string, issued []model.Certificate) {
	h.Helper()
	for _, a := range d.Phone().Work.Aliases() {
		if !strings.HasPrefix(a, "smime-sign-") {
			continue
		}
		if alias != "" {
			h.Errorf("beside %s there is %s", alias, a)
		}
		alias = a
	}
	s, err := h.db.Snapshot(h.Context(), h.enrolment(d).ID)
	h.ok(err)
	return alias, s.Issued
}

// signs wants the phone to hold exactly the current certificate of the profile, for the mail app too.
func (h *house) signs(d *phone.Device, ever int) (alias string) {
	h.Helper()
	h.verified(d, 4)
	alias, issued := h.own(d)
	var current []string
	for _, c := range issued {
		if c.Status == model.CertificateCurrent {
			current = append(current, c.SHA256)
		}
	}
	if len(issued) != ever || !slices.Equal(current, []string{d.Phone().Work.Keys[alias].Fingerprint()}) || !slices.Equal(d.Grants(alias), []string{profiles.PackageOutlook}) {
		h.Errorf("%d certificates, %q are current; %s has %s, for %q", len(issued), current, alias, d.Phone().Work.Keys[alias].Fingerprint(), d.Grants(alias))
	}
	return alias
}

// Keys that phones make: the real core and database on one side, the simulated app on the other.
func TestOwnKeys(t *testing.T) {
	tests := []struct {
		name string
		run  func(*house)
	}{
		{"made once, asked for once", func(h *house) {
			d := h.device()
			h.sync(d)
			h.signs(d, 1)
			if h.count("/csr") != 1 || h.count("/payload") != 3 {
				h.Errorf("%d requests, %d envelopes", h.count("/csr"), h.count("/payload"))
			}
		}},
		{"a crash after the key is made", ownCrash(phone.ChaosCrashMake)},
		{"a crash after it has its certificate, before that is noted", ownCrash(phone.ChaosCrashInstall)},
		{"a crash after that is noted, before it is told", ownCrash(phone.ChaosCrashReport)},
		{"everything twice, late or lost", ownCrash(phone.ChaosDuplicate, phone.ChaosLost, phone.ChaosReorder)},
		{"all of it", ownCrash(phone.ChaosDuplicate, phone.ChaosLost, phone.ChaosReorder, phone.ChaosCrashMake, phone.ChaosCrashInstall, phone.ChaosCrashReport)},
		{"the answer is lost", func(h *house) {
			d, lost := h.device(), 0
			h.lose = func(r *http.Request) bool {
				csr := strings.HasSuffix(r.URL.Path, "/csr")
				if csr {
					lost++
				}
				return csr && lost < 3
			}
			h.sync(d)
			h.signs(d, 1)
		}},
		{"the user deletes it", func(h *house) {
			d := h.device()
			h.sync(d)
			alias := h.signs(d, 1)
			h.ok(d.DeleteKey(alias))
			h.sync(d)
			if again := h.signs(d, 2); again != alias {
				h.Errorf("%s became %s for the same request", alias, again)
			}
		}},
		{"another certificate", anotherCertificate},
		{"it is due", func(h *house) {
			d := h.device()
			h.sync(d)
			alias := h.signs(d, 1)
			h.now = h.now.Add(364 * 24 * time.Hour)
			h.sync(d)
			if next := h.signs(d, 2); next == alias {
				h.Error("the alias was used again")
			}
		}},
		{"the connector is slow", slowCertificate},
		{"the CA refuses", refusedCertificate},
		{"the app is installed anew", ownReinstalled},
		{"the profile is taken away", func(h *house) {
			d := h.device()
			h.sync(d)
			h.ok(h.db.DeleteObject(h.Context(), profiles.KindAssignment, "all", h.now, h.entry()))
			h.silent = true // the certificate is to be revoked
			h.sync(d)
			if p := d.Phone(); len(p.Work.Keys)+len(h.documents(d)) != 0 {
				h.Errorf("%d keys and %d documents are left", len(p.Work.Keys), len(h.documents(d)))
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(ownHouse(t)) })
	}
}

// ownCrash: whatever goes wrong on the way, there is one key with one certificate.
func ownCrash(words ...string) func(*house) {
	return func(h *house) {
		d := h.device()
		h.ok(d.Chaos(words...))
		for died := range 40 {
			_, err := d.Sync(h.Context(), 0)
			if err == nil && (died > 0 || words[0] == phone.ChaosDuplicate) {
				break
			}
			if !errors.Is(err, phone.ErrCrashed) {
				h.Fatal(err)
			}
		}
		h.signs(d, 1)
	}
}

// anotherCertificate: the profile asks for something else. The former key and the right to it go when the next one is there.
func anotherCertificate(h *house) {
	d := h.device()
	h.sync(d)
	alias := h.signs(d, 1)
	h.signing(200 * 24 * time.Hour)
	h.states = nil
	h.sync(d)
	if next := h.signs(d, 2); next == alias {
		h.Error("the alias was used again")
	}
	removed := false
	for _, s := range h.states {
		for _, i := range s.Items {
			next := strings.HasPrefix(i.ID, "identity:smime-sign-") && i.ID != "identity:"+alias
			removed = removed || i.Op == "remove" && strings.HasSuffix(i.ID, alias)
			if removed && next && i.Identity.CertSHA256 == "" {
				h.Error("the former key went before the next one was there")
			}
		}
	}
	if !removed {
		h.Error("the former key was never told to go")
	}
}

// slowCertificate: the app asks again, with the same key, and people can read what it waits for.
func slowCertificate(h *house) {
	h.wait = time.Millisecond
	h.open()
	d := h.device()
	_, err := d.Poll(h.Context())
	h.ok(err)
	h.silent = true
	for range 3 {
		_, err := d.Poll(h.Context())
		h.ok(err)
		h.now = h.now.Add(time.Second)
	}
	doc := h.documents(d)["identity.sign"]
	if doc.Status != model.DocumentSent || doc.Reason != platforms.ReasonIssuePending || !strings.Contains(doc.Detail, "has made its key") || h.count("/csr") < 2 {
		h.Errorf("%s %s %s, asked %d times", doc.Status, doc.Reason, doc.Detail, h.count("/csr"))
	}
	h.silent = false
	h.connect()
	h.sync(d)
	h.signs(d, 1)
	if h.made != 2 {
		h.Errorf("%d keys were made, want the wrap key and one", h.made)
	}
}

// refusedCertificate: people can read why, and the next attempt makes another key.
func refusedCertificate(h *house) {
	d := h.device()
	h.refuses = "corp, profile sign: no such template"
	if _, err := d.Sync(h.Context(), 0); err == nil || !strings.Contains(err.Error(), h.refuses) {
		h.Error(err)
	}
	doc := h.documents(d)["identity.sign"]
	if alias, _ := h.own(d); doc.Status != model.DocumentFailed || doc.Reason != platforms.ReasonIssueRefused || !strings.Contains(doc.Detail, h.refuses) || alias != "" {
		h.Errorf("%s %s %s, and the key %q", doc.Status, doc.Reason, doc.Detail, alias)
	}
	h.refuses, h.now = "", h.now.Add(2*time.Minute)
	h.sync(d)
	h.signs(d, 1)
}

// ownReinstalled: another installation is another device, which makes a key of its own; nobody has that of the former.
func ownReinstalled(h *house) {
	d := h.device()
	h.sync(d)
	former := h.signs(d, 1)
	h.ok(d.Chaos(phone.ChaosReinstall))
	if _, err := d.Sync(h.Context(), 0); !errors.Is(err, phone.ErrNotEnrolled) {
		h.Fatal(err)
	}
	h.ok(d.Chaos())
	h.ok(d.Enroll(h.Context(), h.link()))
	h.sync(d)
	for id, doc := range h.documents(d) {
		if doc.Status != model.DocumentVerified || strings.HasSuffix(doc.Document.Identifier, former) {
			h.Errorf("%s (%s) is %s: %s", id, doc.Document.Identifier, doc.Status, doc.Detail)
		}
	}
	if n := len(d.Phone().Work.Keys); n != 5 {
		h.Errorf("%d keys, want 3 of the history and one of each installation", n)
	}
}
