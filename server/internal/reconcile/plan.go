package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// plan asks the platform what the device should have. A device that leaves should have nothing.
func (w *work) plan() {
	if w.leaving() || w.enrolment.State == model.EnrolmentEnded {
		return
	}
	w.applying = w.effective()
	for _, doc := range w.in.Plan(w.planInput()) {
		w.wanted[doc.ID] = true
		w.order = append(w.order, doc.ID)
		w.want(doc)
	}
}

// effective are the profiles that apply to user and device.
func (w *work) effective() []profiles.Object {
	s := w.in.Snapshot
	return profiles.Effective(s.Objects, profiles.Subject{UPN: s.User.UPN, Groups: s.User.Spec.Groups, DeviceID: w.device.ID})
}

func (w *work) planInput() platforms.Input {
	s := w.in.Snapshot
	return platforms.Input{
		Organization: w.in.Settings.Organization, Namespace: w.in.Settings.Namespace,
		UserID: s.User.ID, UPN: s.User.UPN, User: s.User.Spec,
		Device: platforms.Device{ID: w.device.ID, Platform: w.device.Platform, OSVersion: w.device.OSVersion,
			Model: w.device.Model, Name: w.device.Name, SerialNumber: w.device.SerialNumber, IMEI: w.device.IMEI},
		Channel: w.enrolment.Channel, Profiles: w.applying, CAs: w.roots(), Issued: w.issued(), SCEP: w.scep(), Imported: w.imported(),
		PreviousCurrent: w.previousCurrent(), Stuck: w.stuck(), InHistory: w.inHistory(), Redeliver: w.redeliver(), Now: w.now,
	}
}

func (w *work) roots() map[string][]byte {
	m := map[string][]byte{}
	for _, ca := range w.in.Snapshot.CAs {
		m[ca.Name] = ca.Certificate
		if n := len(ca.Chain); n > 0 {
			m[ca.Name] = ca.Chain[n-1]
		}
	}
	return m
}

// issued gives each profile its newest current certificate. While a renewed one is on its way to the device, the one
// before stays current too. One that a connector brings late, after the profile has changed, never takes the place of one
// that the profile asks for.
func (w *work) issued() map[string]profiles.Certificate {
	m, at, answering := map[string]profiles.Certificate{}, map[string]time.Time{}, w.answering()
	for _, c := range w.in.Snapshot.Issued {
		old, ok := m[c.Profile]
		later := c.CreatedAt.After(at[c.Profile]) || c.CreatedAt.Equal(at[c.Profile]) && newer(c.Certificate, old)
		if ids := answering[c.Profile]; ids[c.RecordID] != ids[old.RecordID] {
			later = ids[c.RecordID]
		}
		if c.Status == model.CertificateCurrent && w.lost[c.Profile] != c.SHA256 && (!ok || later) {
			m[c.Profile], at[c.Profile] = c.Certificate, c.CreatedAt
		}
	}
	return m
}

func newer(a, b profiles.Certificate) bool {
	if !a.NotBefore.Equal(b.NotBefore) {
		return a.NotBefore.After(b.NotBefore)
	}
	if !a.NotAfter.Equal(b.NotAfter) {
		return a.NotAfter.After(b.NotAfter)
	}
	return a.SHA256 > b.SHA256
}

func (w *work) imported() []profiles.Certificate {
	var out []profiles.Certificate
	for _, c := range w.in.Snapshot.Imported {
		out = append(out, c.Certificate)
	}
	return out
}

// previousCurrent tells the plan which encryption certificate an account has on the device now.
func (w *work) previousCurrent() map[string]string {
	m := map[string]string{}
	for id, d := range w.docs {
		if !strings.HasPrefix(id, "mail.") {
			continue
		}
		for _, c := range w.in.Snapshot.Imported {
			gone := w.fresh() && !w.inventory.Certificates[c.SHA256]
			if c.Purpose == profiles.PurposeSMIMEEncryption && slices.Contains(d.InstalledCredentials, c.SHA256) && !gone {
				m[id] = c.SHA256
			}
		}
	}
	return m
}

// stuck are the mail documents that were refused, by the connector or by the device, and are not there yet.
func (w *work) stuck() map[string]bool {
	m := map[string]bool{}
	for id, d := range w.docs {
		if strings.HasPrefix(id, "mail.") && d.Attempts > 0 {
			m[id] = true
		}
	}
	for _, j := range w.in.Snapshot.Jobs {
		d := w.docs[j.DocumentID]
		if j.Kind == link.JobRender && j.Error != "" && d != nil && d.Document.Revision == j.Revision {
			m[j.DocumentID] = true
		}
	}
	return m
}

// inHistory counts what was sent last as well: it may be there, and the device's answer is still on its way.
func (w *work) inHistory() []string {
	d := w.docs["history"]
	if d == nil {
		return nil
	}
	return slices.Concat(d.InstalledCredentials, d.SentCredentials)
}

func (w *work) redeliver() map[string]int {
	m := map[string]int{}
	for _, d := range w.docs {
		for sha, n := range d.Redeliver {
			m[sha] = max(m[sha], n)
		}
	}
	return m
}

// want takes over the latest plan of a document; another revision makes a payload and old failures worthless.
func (w *work) want(doc platforms.Document) {
	d := w.docs[doc.ID]
	if d == nil {
		w.out.Forget = slices.DeleteFunc(w.out.Forget, func(id string) bool { return id == doc.ID }) // it takes the row of the former one
		w.docs[doc.ID] = &model.DocumentState{Document: doc, Status: model.DocumentWaiting, Reason: platforms.ReasonNew,
			Redeliver: map[string]int{}, Losses: map[string]int{}, UpdatedAt: w.now}
		return
	}
	if d.Document.Revision != doc.Revision {
		d.Attempts, d.RetryAt = 0, w.now
	}
	switch d.Status { // wanted again before the removal was through
	case model.DocumentRemoved:
		d.Status = model.DocumentWaiting
		forgetInstalled(d)
	case model.DocumentRemoving:
		d.Status = model.DocumentWaiting
	}
	d.Document = doc
	if len(d.Payload) > 0 && (d.PayloadRevision != doc.Revision || d.PayloadRecipient != w.enrolment.CertSHA256) {
		dropPayload(d)
	}
}

func (w *work) whyGone() platforms.Reason {
	if w.leaving() {
		return platforms.ReasonRetired
	}
	return platforms.ReasonUnassigned
}

// withdraw begins the removal of a document, once: why an earlier try did not end well stays in view.
func (w *work) withdraw(d *model.DocumentState) {
	reason := w.whyGone()
	if d.Status != model.DocumentRemoving {
		d.Attempts, d.RetryAt = 0, time.Time{} // those were of the install
		d.Status, d.Reason, d.Detail = model.DocumentRemoving, reason, ""
	}
	if d.Reason == "" || d.Reason == platforms.ReasonUnassigned {
		d.Reason = reason
	}
	keepLeftover(d, d.SentIdentifier, d.Identifier())
	dropPayload(d)
}

// match marks what is on the device, or may be, and is not wanted any more.
func (w *work) match() {
	w.handOver()
	for _, id := range w.leftovers() {
		d := w.docs[id]
		switch {
		case d.Status == model.DocumentRemoved || (d.Status == model.DocumentRemoving && !w.heldByOther(d)):
			w.order = append(w.order, id)
		case d.InstalledRevision == "" && len(d.Leftovers) == 0 && d.SentRevision == "" && !w.underway(id):
			w.forget(d) // it never left; of what was sent, a device may have kept a part although it said no
		case len(d.Leftovers) == 0 && w.heldByOther(d):
			w.forget(d) // another document has taken its place on the device
		default:
			w.order = append(w.order, id)
			w.withdraw(d)
		}
	}
}

// handOver forgets what is left over of a document and belongs to another one by now.
func (w *work) handOver() {
	for _, d := range w.docs {
		for _, l := range d.Leftovers {
			if w.heldBeside(d, l) {
				dropLeftover(d, l)
			}
		}
	}
}

func (w *work) leftovers() []string {
	var ids []string
	for id := range w.docs {
		if !w.wanted[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// underway tells whether an install command of the document may still arrive at the device.
func (w *work) underway(id string) bool {
	for _, c := range w.commands {
		if c.DocumentID == id && ActionKind(c.RequestType) == ActionInstall && c.State == model.CommandSent {
			return true
		}
	}
	return false
}
