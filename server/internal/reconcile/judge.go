package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// check looks at one wanted document and either says what holds it (true) or passes it on.
type check func(w *work, d *model.DocumentState) bool

// checks run in this order; the first that says true has decided.
var checks = [...]check{
	planWaits, isInstalled, isUnderwayNow, keepsFailing, dependencyWaits, cannotDecrypt, needsPayload, userAway,
}

// judge gives every wanted document its status and reason.
func (w *work) judge() {
	for _, id := range w.order {
		d := w.docs[id]
		if d == nil || !w.wanted[id] {
			continue
		}
		if w.decided(d) {
			w.whyPending(d)
			continue
		}
		if !putOff(d.Reason) && !w.asks(d) {
			d.Reason, d.Detail = w.readyReason(d), ""
		}
		d.Status = model.DocumentReady
		w.whyPending(d)
	}
	w.dropObsoleteJobs()
}

// putOff: the device said that it cannot now; that stays to be read until it can.
func putOff(r platforms.Reason) bool {
	switch r {
	case platforms.ReasonNotNow, platforms.ReasonWaitsForUser, platforms.ReasonAppMissing, platforms.ReasonDelegationMissing:
		return true
	}
	return false
}

// asks: the device has been told to ask for a certificate, and does so in its own time (Windows' SCEP). It is looked at
// again at the next session, and what it said stays to be read until then.
func (w *work) asks(d *model.DocumentState) bool {
	c := w.openFor(ActionInstall, d.Document.ID, d.Document.Revision)
	return c != nil && c.State == model.CommandNotNow && d.Reason == platforms.ReasonIssuePending
}

// dropObsoleteJobs ends render jobs whose revision or recipient nobody waits for, and issue jobs that no profile wants.
func (w *work) dropObsoleteJobs() {
	keys := slices.Collect(maps.Values(w.issueKeys))
	for key, j := range w.in.Snapshot.Jobs {
		if j.Kind == link.JobRender && w.rendersInVain(j) || j.Kind == link.JobIssue && notBegun(j) && !slices.Contains(keys, key) {
			w.out.Obsolete = append(w.out.Obsolete, key)
		}
	}
	slices.Sort(w.out.Obsolete)
}

func (w *work) rendersInVain(j model.Job) bool {
	if j.State != model.JobOpen && j.State != model.JobLeased {
		return false
	}
	d := w.docs[j.DocumentID]
	return d == nil || !w.wanted[j.DocumentID] || d.Document.Revision != j.Revision || j.Recipient != w.enrolment.CertSHA256
}

// notBegun: no connector has ever taken it. One that was taken may stand in a CA's queue and goes on to its end, so that
// what the CA issues is known here, and superseded and revoked like any other.
func notBegun(j model.Job) bool { return j.State == model.JobOpen && j.Attempt == 0 }

func (w *work) decided(d *model.DocumentState) bool {
	for _, c := range checks {
		if c(w, d) {
			return true
		}
	}
	return false
}

func (w *work) readyReason(d *model.DocumentState) platforms.Reason {
	switch {
	case d.Reason == platforms.ReasonVanished:
		return d.Reason
	case d.InstalledRevision != "":
		return platforms.ReasonRevisionDiffers
	default:
		return platforms.ReasonNew
	}
}

func wait(d *model.DocumentState, r platforms.Reason, detail string) bool {
	d.Status, d.Reason, d.Detail = model.DocumentWaiting, r, detail
	return true
}

// planWaits: the plan itself says what is missing.
func planWaits(w *work, d *model.DocumentState) bool {
	switch d.Document.Reason {
	case "":
		return false
	case platforms.ReasonIssuePending:
		if why := w.makesNoKeys(d); why != "" {
			return wait(d, platforms.ReasonNotDeliverable, why)
		}
		if what, err := w.unwritable(d); err != nil {
			return wait(d, platforms.ReasonNotDeliverable, fmt.Sprintf("%s: %v", what, err))
		}
		return w.jobWaits(d, platforms.ReasonIssuePending, platforms.ReasonIssueRefused, w.issueJobs(d))
	case platforms.ReasonNotDeliverable:
		if _, err := w.unwritable(d); err != nil {
			return wait(d, d.Document.Reason, d.Document.Detail+"; "+err.Error())
		}
	}
	return wait(d, d.Document.Reason, d.Document.Detail)
}

// issueJobs are the document's issue jobs: of the profiles that it serves.
func (w *work) issueJobs(d *model.DocumentState) []model.Job {
	var out []model.Job
	for _, p := range d.Document.Profiles {
		if j, ok := w.in.Snapshot.Jobs[w.issueKeys[p]]; ok {
			out = append(out, j)
		}
	}
	return out
}

// jobWaits says why work of a connector is not there yet: it refused, none is there, or it will come.
func (w *work) jobWaits(d *model.DocumentState, pending, refused platforms.Reason, jobs []model.Job) bool {
	for _, j := range jobs {
		if j.State == model.JobFailed {
			if j.Reason != "" {
				refused = j.Reason
			}
			return wait(d, refused, j.Error)
		}
	}
	if seen := w.in.Snapshot.ConnectorSeen; w.now.Sub(seen) > w.in.Settings.ConnectorSilence {
		detail := "no connector has ever been seen; run `waxseal-connector run`"
		if !seen.IsZero() {
			detail = "no connector has been seen since " + seen.UTC().Format(time.RFC3339)
		}
		return wait(d, platforms.ReasonConnectorDown, detail)
	}
	detail := ""
	for _, j := range jobs {
		detail = j.Error
	}
	return wait(d, pending, detail)
}

// isInstalled: the device acknowledged exactly this revision.
func isInstalled(_ *work, d *model.DocumentState) bool {
	if d.InstalledRevision == "" || d.InstalledRevision != d.Document.Revision {
		return false
	}
	if d.Status != model.DocumentVerified && d.Reason != platforms.ReasonVanished {
		d.Status, d.Reason, d.Detail = model.DocumentInstalled, platforms.ReasonInstalled, ""
	}
	return true
}

// isUnderwayNow: this very revision has been sent, the answer is outstanding. What was made for a former device certificate
// is not under way: it has lost its payload, and nobody could open it.
func isUnderwayNow(w *work, d *model.DocumentState) bool {
	return !lacksPayload(d) && d.Status == model.DocumentSent && d.SentRevision == d.Document.Revision && w.underway(d.Document.ID)
}

// keepsFailing: the device refused it; not before RetryAt, and not for ever, unless it is the CA that may be to blame.
func keepsFailing(w *work, d *model.DocumentState) bool {
	again := d.Attempts < w.in.Settings.MaxAttempts || len(d.Document.Challenges) > 0
	if d.Attempts == 0 || again && !w.now.Before(d.RetryAt) {
		return false
	}
	d.Status = model.DocumentFailed
	switch d.Reason {
	case platforms.ReasonRenderFailed, platforms.ReasonVanished:
		return true
	case platforms.ReasonIssueRefused:
	default:
		d.Reason = platforms.ReasonDeviceRefused
	}
	w.whyRefused(d)
	return true
}

// dependencyWaits: another document must be confirmed first.
func dependencyWaits(w *work, d *model.DocumentState) bool {
	for _, id := range d.Document.DependsOn {
		dep := w.docs[id]
		if dep == nil || dep.InstalledRevision == "" || dep.InstalledRevision != dep.Document.Revision {
			return wait(d, platforms.ReasonDependency, id+" must be installed first")
		}
	}
	return false
}

// cannotDecrypt: secrets never go to a certificate that cannot be a recipient.
func cannotDecrypt(w *work, d *model.DocumentState) bool {
	if !d.Document.HasSecrets() || w.in.CanDecrypt {
		return false
	}
	return wait(d, platforms.ReasonDeviceIdentityCannotDecrypt,
		"the device's certificate is not RSA with keyEncipherment; enrol again by a profile of this server")
}

// lacksPayload: it holds secrets, and nothing is there to send.
func lacksPayload(d *model.DocumentState) bool {
	return d.Document.HasSecrets() && len(d.Payload) == 0
}

// needsPayload: the connector must render it for this revision and this recipient.
func needsPayload(w *work, d *model.DocumentState) bool {
	if !lacksPayload(d) {
		return false
	}
	job, err := w.renderJob(d)
	if err != nil {
		return wait(d, platforms.ReasonRenderFailed, err.Error())
	}
	w.ask(job)
	var known []model.Job
	if j, ok := w.in.Snapshot.Jobs[job.Key]; ok {
		known = append(known, j)
	}
	return w.jobWaits(d, platforms.ReasonRenderPending, platforms.ReasonRenderFailed, known)
}

// userAway: the user's part of the device is out of reach now. What the connector renders for it is made all the same.
func userAway(w *work, d *model.DocumentState) bool {
	if !w.outOfReach(d) {
		return false
	}
	return wait(d, platforms.ReasonUserNotLoggedOn, notLoggedOn)
}

const notLoggedOn = "the user is not logged on to the device; it goes on at the next session with the user logged on"

// outOfReach tells whether the document can be neither changed nor seen in this session.
func (w *work) outOfReach(d *model.DocumentState) bool {
	return w.in.Report.UserAbsent && d.Document.UserScope
}

// held tells whether something waits for nothing but the user.
func (w *work) held() bool {
	for _, d := range w.docs {
		if w.outOfReach(d) && (d.Reason == platforms.ReasonUserNotLoggedOn || d.Status != model.DocumentVerified) {
			return true
		}
	}
	return false
}

func (w *work) renderJob(d *model.DocumentState) (model.Job, error) {
	records, err := w.records(d.Document.Credentials)
	if err != nil {
		return model.Job{}, err
	}
	payload, err := json.Marshal(link.RenderJob{Document: d.Document, Platform: w.device.Platform,
		OSVersion: w.device.OSVersion, Recipient: w.enrolment.Certificate, Records: records})
	if err != nil {
		return model.Job{}, fmt.Errorf("write the render job of %s: %w", d.Document.ID, err)
	}
	return model.Job{
		Key:  fmt.Sprintf("render:%s:%s:%s:%s:%d", w.enrolment.ID, d.Document.ID, d.Document.Revision, w.enrolment.CertSHA256, d.Renders),
		Kind: link.JobRender, Payload: payload, UserID: w.in.Snapshot.User.ID, EnrolmentID: w.enrolment.ID,
		DocumentID: d.Document.ID, Revision: d.Document.Revision, Recipient: w.enrolment.CertSHA256,
		Needs: commonMembers(records), RunAt: w.now,
	}, nil
}

func (w *work) records(credentials []profiles.Certificate) ([]escrow.Record, error) {
	var out []escrow.Record
	for _, c := range credentials {
		r, ok := w.in.Snapshot.Records[c.RecordID]
		if !ok {
			return nil, fmt.Errorf("the sealed key of certificate %s is not in the store", c.SHA256)
		}
		out = append(out, r)
	}
	return out, nil
}

// commonMembers are the members that every record is sealed to.
func commonMembers(records []escrow.Record) []string {
	var common []string
	for i, r := range records {
		var members []string
		for _, wr := range r.Wraps {
			if i == 0 || slices.Contains(common, wr.Member) {
				members = append(members, wr.Member)
			}
		}
		common = members
	}
	return common
}
