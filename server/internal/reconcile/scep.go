package reconcile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Certificates of SCEPCertificate profiles, whose keys the devices make. The device asks when it installs the document,
// with a challenge that was made for it; each installation gives a certificate of its own, even of the same revision
// (apple.md section 7.4). Which one it is to be, a request id says:
//
//	none yet, or the last is due, gone or asked for otherwise   → the next id, so another revision, so another installation
//	issued                                                       → the same id for as long as it is good
//
// The certificate before stays current until the inventory has shown the new one.

// Orders are the certificates that the SCEPCertificate profiles of an enrolment want: a pure function of the snapshot.
func Orders(s Snapshot, settings Settings, now time.Time) []link.CertifyJob {
	w := gather(Input{Snapshot: s, Settings: settings, Now: now})
	w.applying = w.effective()
	var out []link.CertifyJob
	for _, o := range w.applying {
		if p, ok := o.Spec.(*profiles.SCEPCertificate); ok {
			if order, ok := w.scepOrder(o.Name, p); ok {
				out = append(out, order)
			}
		}
	}
	return out
}

// mine tells whether issued certificates of profiles belong to this channel: a Mac has them in the login keychain.
func (w *work) mine() bool {
	return w.enrolment.Platform != profiles.MacOS || w.enrolment.Channel == model.ChannelUser
}

// scepOrder expands a profile for this user and device, and chooses the request id. It is absent where a variable has no
// value, or no connector offers the CA; the plan says so.
func (w *work) scepOrder(name string, p *profiles.SCEPCertificate) (link.CertifyJob, bool) {
	if w.roots()[p.CertificateAuthority] == nil || !w.mine() {
		return link.CertifyJob{}, false
	}
	request, err := w.issueRequest(name, &profiles.PKCSCertificate{CertificateRequest: p.CertificateRequest})
	if err != nil {
		return link.CertifyJob{}, false
	}
	order := link.CertifyJob{EnrolmentID: request.EnrolmentID, DeviceID: request.DeviceID, UserID: request.UserID, Profile: name,
		Request: request.Request, Subject: request.Subject, SANs: request.SANs, Needs: link.Offering(w.in.Snapshot.CAs, p.CertificateAuthority), Platform: w.enrolment.Platform}
	next, had := w.series(name, func(n int) string { return orderID(order, n) })
	order.RequestID = next
	if current, ok := w.issued()[name]; ok && had[current.RecordID] && w.now.Before(p.RenewAt(current)) {
		order.RequestID = current.RecordID
	}
	return order, true
}

// rounds are the requests of a profile that have certificates. One that nobody was to have answers none: it has lost its
// record.
func (w *work) rounds(name string) map[string]bool {
	seen := map[string]bool{}
	for _, c := range w.in.Snapshot.Issued {
		if c.Profile == name && c.RecordID != "" {
			seen[c.RecordID] = true
		}
	}
	return seen
}

// orderID names the n-th certificate that this enrolment gets for this very request. Renewal threshold and revocation events
// do not change what the certificate is.
func orderID(o link.CertifyJob, n int) string {
	o.IntentID, o.RequestID, o.CSR, o.Request.RenewalThresholdPercentage, o.Request.RevokeOn = "", "", nil, 0, nil
	b, err := json.Marshal(o)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(b, "/scep/%d", n))
	return hex.EncodeToString(sum[:16])
}

// scep is what the plan needs to know.
func (w *work) scep() map[string]platforms.SCEPEnrolment {
	out := map[string]platforms.SCEPEnrolment{}
	for _, o := range w.applying {
		p, ok := o.Spec.(*profiles.SCEPCertificate)
		if !ok {
			continue
		}
		order, ok := w.scepOrder(o.Name, p)
		if !ok {
			continue
		}
		url, message := w.asksAt(p.CertificateAuthority)
		e := platforms.SCEPEnrolment{Request: order.RequestID, URL: url, Name: message, Partner: w.isPartner(p.CertificateAuthority),
			Subject: order.Subject, SANs: order.SANs, KeySize: p.KeySize, KeyUsage: p.KeyUsage,
			Intermediates: w.intermediates(p.CertificateAuthority, "")}
		if current, ok := w.issued()[o.Name]; ok {
			before := w.intermediates(p.CertificateAuthority, w.issuerOf(current.SHA256))
			if current.RecordID == order.RequestID {
				e.Issued, e.Intermediates = current, before
			} else {
				e.Former = slices.DeleteFunc(before, func(der []byte) bool {
					return slices.ContainsFunc(e.Intermediates, func(d []byte) bool { return bytes.Equal(d, der) })
				})
			}
		}
		out[o.Name] = e
	}
	return out
}

// settleTime is how long an installed document may take until the inventory shows its certificate.
const settleTime = 10 * time.Minute

// lossTime is inARow for these: each loss costs another certificate.
const lossTime = 30 * 24 * time.Hour

// noteLost finds certificates that a device got for a key of its own and has no more: its user deleted them. They are
// superseded, so that another is ordered; a few times in a row.
func (w *work) noteLost(d *model.DocumentState) {
	for _, c := range w.in.Snapshot.Issued {
		if c.Status != model.CertificateCurrent || !slices.Contains(d.Document.Challenges, c.Profile) || !slices.Contains(d.Document.Certificates, c.SHA256) {
			continue
		}
		seen := d.Status == model.DocumentVerified || w.now.Sub(c.CreatedAt) > settleTime
		key := "scep:" + c.Profile
		if w.inventory.Certificates[c.SHA256] || !seen || !losesAgain(d, key, w.now.Sub(c.CreatedAt) > lossTime) {
			continue
		}
		w.lost[c.Profile] = c.SHA256
		w.audit("certificate.vanished", c.SHA256, "ok", map[string]string{"document": d.Document.ID})
		w.retire(c, "")
	}
}

// keeps tells whether a certificate for a device's own key is still needed: it is the newest of its profile and the device
// has, or will have, the document; or a newer one has not been seen on the device yet.
func (w *work) keeps(c model.Certificate) bool {
	newest, ok := w.issued()[c.Profile]
	if !ok || !w.byDevice(c) {
		return false
	}
	held, settled := false, true
	for id, d := range w.docs {
		waits := d.Document.Reason != "" && d.InstalledRevision != "" && slices.Contains(d.Document.Profiles, c.Profile) // and says nothing of its challenges
		if !waits && !slices.Contains(d.Document.Challenges, c.Profile) || d.Status == model.DocumentRemoved {
			continue
		}
		held = held || d.InstalledRevision != "" || w.wanted[id] && w.underway(id)
		settled = settled && d.Status == model.DocumentVerified && d.InstalledRevision == d.Document.Revision
	}
	if newest.SHA256 == c.SHA256 {
		return held || w.applies(c.Profile)
	}
	return held && !settled
}

// byDevice tells whether the device has the key: no connector ever sealed it.
func (w *work) byDevice(c model.Certificate) bool {
	_, sealed := w.in.Snapshot.Records[c.RecordID]
	return !sealed
}
