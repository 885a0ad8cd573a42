package reconcile

import (
	"slices"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// learn applies the device's report to the command that it answers. A report of a command that is not open (a duplicate,
// or one never sent) changes nothing.
func (w *work) learn() {
	r := w.in.Report
	if r.Outcome == OutcomeIdle {
		w.volunteered()
		w.closeSuperseded()
		return
	}
	c := w.open(r.CommandUUID)
	if c == nil {
		return
	}
	c.UpdatedAt = w.now
	if d := w.docs[c.DocumentID]; d != nil && r.Seq > d.ReportedSeq {
		d.ReportedSeq = r.Seq
	}
	switch r.Outcome {
	case OutcomeNotNow:
		c.State = model.CommandNotNow
		w.notNow(c)
	case OutcomeFailed:
		c.State, c.Error = model.CommandFailed, r.Error
		w.failed(c)
	default:
		c.State = model.CommandDone
		w.done(c)
	}
	w.out.Commands = append(w.out.Commands, *c)
}

// volunteered takes lists that the device tells unasked, and answers the questions that were open.
func (w *work) volunteered() {
	r := w.in.Report
	if r.Documents == nil || r.Certificates == nil {
		return
	}
	w.inventory.Profiles, w.inventory.ProfilesAt = r.Documents, w.now
	w.inventory.Certificates, w.inventory.CertificatesAt = r.Certificates, w.now
	w.facts()
	for _, c := range w.commands {
		switch ActionKind(c.RequestType) {
		case ActionListDocuments, ActionListCertificates, ActionAskFacts:
			c.State, c.UpdatedAt = model.CommandDone, w.now
			w.out.Commands = append(w.out.Commands, *c)
		}
	}
}

// closeSuperseded ends install commands of revisions that are not wanted any more, and removals of documents that another
// one has taken the place of: an idle device is not working on them.
func (w *work) closeSuperseded() {
	for _, c := range w.commands {
		d := w.docs[c.DocumentID]
		switch ActionKind(c.RequestType) {
		case ActionInstall:
			if d != nil && d.SentRevision == c.Revision {
				continue
			}
		case ActionRemove:
			if d != nil {
				continue
			}
		default:
			continue
		}
		c.State, c.Error, c.UpdatedAt = model.CommandFailed, "superseded", w.now
		w.out.Commands = append(w.out.Commands, *c)
	}
}

func (w *work) open(uuid string) *model.Command {
	for _, c := range w.commands {
		if c.UUID == uuid {
			return c
		}
	}
	return nil
}

func (w *work) notNow(c *model.Command) {
	if d := w.docs[c.DocumentID]; d != nil {
		d.Reason, d.Detail = platforms.ReasonNotNow, "the device is locked or busy; it is offered again"
		if r := w.in.Report; r.Reason != "" {
			d.Reason, d.Detail = r.Reason, r.Error
		}
	}
}

func (w *work) done(c *model.Command) {
	switch ActionKind(c.RequestType) {
	case ActionInstall:
		w.installed(c)
	case ActionRemove:
		w.removed(c)
	case ActionListDocuments:
		w.inventory.Profiles, w.inventory.ProfilesAt = w.in.Report.Documents, w.now
	case ActionListCertificates:
		w.inventory.Certificates, w.inventory.CertificatesAt = w.shownCertificates(w.in.Report), w.now
	case ActionAskFacts:
		w.facts()
	case ActionErase:
		w.left(model.RemovalReported)
	case ActionRemoveEnrolment:
		w.left(model.RemovalReported) // or what the inventory has shown before
	}
}

func (w *work) installed(c *model.Command) {
	d := w.docs[c.DocumentID]
	w.stale()
	if d == nil || d.SentRevision != c.Revision {
		return // an older command's late answer; the inventory will tell
	}
	d.Status, d.Reason, d.Detail = model.DocumentInstalled, platforms.ReasonInstalled, ""
	w.record(d)
	w.audit("document.installed", d.Document.ID, "ok", map[string]string{"revision": d.InstalledRevision})
}

// record notes what was sent as what is there.
func (w *work) record(d *model.DocumentState) {
	d.InstalledRevision, d.InstalledProof, d.InstalledCredentials = d.SentRevision, d.SentProof, d.SentCredentials
	replaced(d)
	d.InstalledAt = w.now // the attempts count on until the inventory shows it
	dropPayload(d)
}

// replaced notes what the former revision is called, where the new one is called otherwise.
func replaced(d *model.DocumentState) {
	keepLeftover(d, d.InstalledIdentifier, d.SentIdentifier)
	d.InstalledIdentifier = d.SentIdentifier
	dropLeftover(d, d.SentIdentifier)
}

// keepLeftover notes a former identifier, unless it is the one that counts now.
func keepLeftover(d *model.DocumentState, old, now string) {
	if old != "" && old != now && !slices.Contains(d.Leftovers, old) {
		d.Leftovers = append(slices.Clone(d.Leftovers), old)
	}
}

func dropLeftover(d *model.DocumentState, identifier string) {
	d.Leftovers = slices.DeleteFunc(slices.Clone(d.Leftovers), func(l string) bool { return l == identifier })
	if len(d.Leftovers) == 0 {
		d.Leftovers = nil
	}
}

func (w *work) removed(c *model.Command) {
	d := w.docs[c.DocumentID]
	if d == nil {
		return
	}
	if c.Revision != "" { // a leftover; the document itself stays
		dropLeftover(d, c.Revision)
		d.Attempts, d.RetryAt = 0, time.Time{}
		w.stale()
		w.audit("document.replaced", d.Document.ID, "ok", map[string]string{"former": c.Revision})
		return
	}
	d.Status, d.Reason, d.Detail, d.UpdatedAt = model.DocumentRemoved, w.whyGone(), "", w.now
	w.stale()
	w.audit("document.removed", d.Document.ID, "ok", nil)
}

// stale forgets the inventory: the device must be asked again before anything counts as verified.
func (w *work) stale() {
	w.inventory.ProfilesAt, w.inventory.CertificatesAt = time.Time{}, time.Time{}
}

func (w *work) failed(c *model.Command) {
	kind := ActionKind(c.RequestType)
	d := w.docs[c.DocumentID]
	switch {
	case kind == ActionRemove && w.in.Report.Absent:
		c.State = model.CommandDone
		w.removed(c)
	case d != nil && kind == ActionRemove && c.Revision != "":
		d.Attempts++
		d.RetryAt = w.now.Add(backOff(d.Attempts))
		if d.Status == model.DocumentRemoving {
			w.stale()
		}
		w.audit("document.refused", d.Document.ID, "refused", map[string]string{"former": c.Revision, "error": w.in.Report.Error})
	case d != nil:
		w.refused(d, kind)
	case kind == ActionListDocuments:
		w.inventory.Profiles, w.inventory.ProfilesAt = nil, w.now // nothing learned; asked again when due
	case kind == ActionListCertificates:
		w.inventory.Certificates, w.inventory.CertificatesAt = nil, w.now
	case kind == ActionAskFacts:
		w.inventory.FactsAt = w.now
	case kind == ActionRemoveEnrolment && w.in.Report.Absent:
		w.left(model.RemovalVerified)
	case kind == ActionErase || kind == ActionRemoveEnrolment:
		w.staysFor = endAgain // and not at once, or device and server would keep each other busy
		w.audit("device.refused", w.device.ID, "refused", map[string]string{"command": string(kind), "error": w.in.Report.Error})
	}
}

// endAgain is when a device that refused to be erased, or to drop its enrolment, is told again.
const endAgain = time.Hour

func (w *work) refused(d *model.DocumentState, kind ActionKind) {
	d.Attempts++
	d.RetryAt = w.now.Add(backOff(d.Attempts))
	d.Reason, d.Detail = platforms.ReasonDeviceRefused, w.in.Report.Error
	if r := w.in.Report.Reason; r != "" {
		d.Reason = r
	}
	switch kind {
	case ActionInstall:
		d.Status, d.RetryAt = model.DocumentFailed, w.now.Add(w.pause(d))
		dropPayload(d)
	case ActionRemove:
		w.stale() // whether it is there is looked at
	}
	w.audit("document.refused", d.Document.ID, "refused", map[string]string{"error": w.in.Report.Error})
}

// dropPayload erases a payload that was used up; the next render job gets a key of its own.
func dropPayload(d *model.DocumentState) {
	d.Payload, d.PayloadRevision, d.PayloadRecipient = nil, "", ""
	d.Renders++
}

// askDaily is how often a device is told to ask for its certificate that has asked in vain often: the CA may be away for
// weeks, and a renewal is tried until it succeeds (Microsoft Learn: renewal threshold).
const askDaily = 24 * time.Hour

func (w *work) pause(d *model.DocumentState) time.Duration {
	if d.Attempts >= w.in.Settings.MaxAttempts && len(d.Document.Challenges) > 0 {
		return askDaily
	}
	return backOff(d.Attempts)
}

// backOff is 1, 2, 4 … minutes, at most 6 hours.
func backOff(attempts int) time.Duration {
	d := time.Minute << min(attempts-1, 9)
	return min(d, 6*time.Hour)
}

func (w *work) facts() {
	w.inventory.FactsAt = w.now
	f := w.in.Report.Facts
	if f == nil {
		return
	}
	for _, p := range []struct {
		to   *string
		from string
	}{{&w.device.Name, f.Name}, {&w.device.Model, f.Model}, {&w.device.OSVersion, f.OSVersion},
		{&w.device.SerialNumber, f.SerialNumber}, {&w.device.IMEI, f.IMEI}} {
		if p.from != "" {
			*p.to = p.from
		}
	}
}

// left ends the enrolment after the device said that it obeyed.
func (w *work) left(how model.Removal) {
	if w.device.Removal == "" || w.device.Removal == model.RemovalUnconfirmed {
		w.device.Removal = how
	}
	w.leftBy = profiles.EventRetire
	if w.device.State == model.DeviceWiping {
		w.leftBy = profiles.EventWipe
	}
	for _, d := range w.docs {
		w.keepRecord(d, w.device.Removal)
		w.forget(d)
	}
	w.device.State, w.device.StateAt = model.DeviceLeft, w.now
	w.enrolment.NextCertificate, w.enrolment.NextCertSHA256 = nil, ""
	w.enrolment.State = model.EnrolmentEnded
	w.audit("device.left", w.device.ID, "ok", map[string]string{"removal": string(w.device.Removal)})
}
