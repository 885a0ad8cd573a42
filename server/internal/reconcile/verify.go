package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
)

// fresh tells whether both lists were read after the last change on the device. One that the device refused to give is
// nil and proves nothing.
func (w *work) fresh() bool {
	i := w.inventory
	return !i.ProfilesAt.IsZero() && !i.CertificatesAt.IsZero() && i.Profiles != nil && i.Certificates != nil
}

// verify compares what the device acknowledged with what its inventory shows.
func (w *work) verify() {
	if !w.fresh() {
		return
	}
	for _, d := range w.docs {
		switch {
		case d.Status == model.DocumentRemoved:
			w.verifyRemoved(d)
		case d.Status == model.DocumentRemoving && d.Attempts > 0:
			w.verifyRefused(d)
		case d.Status == model.DocumentInstalled || d.Status == model.DocumentVerified || givenUp(d):
			w.verifyInstalled(d)
		}
	}
}

// givenUp: an identity of it vanished again and again, and nothing more is on its way. It may show after all.
func givenUp(d *model.DocumentState) bool {
	return d.Status == model.DocumentFailed && d.Reason == platforms.ReasonVanished && d.InstalledRevision != "" &&
		d.InstalledRevision == d.Document.Revision
}

func (w *work) verifyRemoved(d *model.DocumentState) {
	if _, there := w.inventory.Profiles[d.Identifier()]; there && !w.heldByOther(d) {
		w.removeAgain(d, d.Detail)
		return
	}
	for _, sha := range d.InstalledCredentials {
		if w.inventory.Certificates[sha] && !w.carried(sha, d) {
			w.removeAgain(d, "the profile is gone, its certificate is still on the device")
			return
		}
	}
	w.isGone(d)
}

// verifyRefused: the device would not remove it, or shows it still. Once the lists, read anew since, show nothing of it, it is
// gone, whatever the device meant.
func (w *work) verifyRefused(d *model.DocumentState) {
	for _, identifier := range append(slices.Clone(d.Leftovers), d.Identifier()) {
		if _, there := w.inventory.Profiles[identifier]; there && !w.heldBeside(d, identifier) {
			return
		}
	}
	for _, sha := range slices.Concat(d.InstalledCredentials, d.SentCredentials) {
		if w.inventory.Certificates[sha] && !w.carried(sha, d) {
			return
		}
	}
	w.isGone(d)
}

func (w *work) isGone(d *model.DocumentState) {
	w.audit("document.removal", d.Document.ID, "ok", map[string]string{"reason": string(platforms.ReasonRemovalVerified)})
	if w.leaving() {
		w.keepRecord(d, model.RemovalVerified)
	}
	w.forget(d)
}

// removeAgain: the device said that it was gone, and shows it. It is told again, once at once and then after pauses, or both
// would keep each other busy.
func (w *work) removeAgain(d *model.DocumentState, detail string) {
	d.Status, d.Detail = model.DocumentRemoving, detail
	if d.Attempts++; d.Attempts > 1 {
		d.RetryAt = w.now.Add(backOff(d.Attempts - 1))
	}
}

// heldByOther tells whether another document that is wanted is on the device under the same identifier.
func (w *work) heldByOther(d *model.DocumentState) bool { return w.heldBeside(d, d.Identifier()) }

func (w *work) heldBeside(d *model.DocumentState, identifier string) bool {
	for id, other := range w.docs {
		if other != d && id != d.Document.ID && other.InstalledRevision != "" && other.Status != model.DocumentRemoved &&
			other.Status != model.DocumentRemoving && other.InstalledIdentifier != "" && other.InstalledIdentifier == identifier {
			return true
		}
	}
	return false
}

// carried tells whether another installed document holds the certificate.
func (w *work) carried(sha string, but *model.DocumentState) bool {
	for _, d := range w.docs {
		if d == but || d.InstalledRevision == "" || d.Status == model.DocumentRemoved {
			continue
		}
		for _, s := range d.InstalledCredentials {
			if s == sha {
				return true
			}
		}
	}
	return false
}

func forgetInstalled(d *model.DocumentState) {
	d.InstalledRevision, d.InstalledProof, d.InstalledIdentifier, d.InstalledCredentials = "", "", "", nil
}

func (w *work) forget(d *model.DocumentState) {
	delete(w.docs, d.Document.ID)
	w.out.Forget = append(w.out.Forget, d.Document.ID)
}

// keepRecord notes how it is known that a document left the device, for whoever asks afterwards.
func (w *work) keepRecord(d *model.DocumentState, how model.Removal) {
	if r, had := d.AsRecord(how); had {
		r.EnrolmentID, r.UpdatedAt = w.enrolment.ID, w.now
		w.out.Records = append(w.out.Records, r)
	}
}

func (w *work) verifyInstalled(d *model.DocumentState) {
	if w.inventory.Profiles[d.Identifier()] != d.InstalledProof {
		if d.Status == model.DocumentInstalled { // it never showed: sent again and again at once, it would keep both busy
			d.Attempts++
			d.RetryAt = w.now.Add(w.pause(d))
		}
		d.Status, d.Reason = model.DocumentWaiting, platforms.ReasonVanished
		d.Detail = "the device's profile list no longer shows it"
		forgetInstalled(d)
		w.audit("document.vanished", d.Document.ID, "ok", nil)
		return
	}
	if w.identitiesVanished(d) {
		return
	}
	w.noteLost(d)
	if sha := w.lacking(d); sha != "" {
		d.Status, d.Reason, d.Detail = model.DocumentInstalled, platforms.ReasonInstalled, "the device's certificate list lacks certificate "+sha
		return
	}
	if d.Status != model.DocumentVerified {
		d.Status, d.Reason, d.Detail = model.DocumentVerified, platforms.ReasonVerified, ""
		d.Attempts, d.RetryAt = 0, time.Time{}
		w.audit("document.verified", d.Document.ID, "ok", map[string]string{"revision": d.InstalledRevision})
	}
}

// maxRedeliveries bounds how often in a row an identity that does not show in the certificate list is sent again.
const maxRedeliveries = 3

// identitiesVanished: the profile is there, an identity of it is not. It is delivered again under a fresh UUID.
func (w *work) identitiesVanished(d *model.DocumentState) bool {
	missing, again := false, false
	for _, sha := range d.InstalledCredentials {
		if w.inventory.Certificates[sha] {
			continue
		}
		missing = true
		if losesAgain(d, sha, w.now.Sub(d.InstalledAt) > inARow) {
			again = true
			w.audit("certificate.vanished", sha, "ok", map[string]string{"document": d.Document.ID})
		}
	}
	if missing {
		d.Status, d.Reason = model.DocumentFailed, platforms.ReasonVanished
		d.Detail = "the device's certificate list lacks an identity of it"
	}
	if missing && !again {
		d.Detail += fmt.Sprintf(", though it was delivered again %d times; `waxctl device sync` tries once more", maxRedeliveries)
	}
	return missing
}

// inARow is how soon after its delivery an identity is lost again if the device does not keep it. A device that shows it and
// loses it at once, for another one that it loses in turn, must not keep both sides busy.
const inARow = time.Hour

// losesAgain counts a loss; false: it was delivered often enough, and somebody has to look. What the inventory has shown, and
// shown for long enough, begins a new count.
func losesAgain(d *model.DocumentState, name string, longThere bool) bool {
	if longThere && d.Status == model.DocumentVerified {
		delete(d.Losses, name)
	}
	if d.Losses[name] >= maxRedeliveries {
		return false
	}
	d.Losses[name]++
	d.Redeliver[name]++
	return true
}

// lacking is a certificate of the installed revision, CA certificates included, that the inventory does not show.
func (w *work) lacking(d *model.DocumentState) string {
	if d.InstalledRevision != d.Document.Revision {
		return ""
	}
	for _, sha := range d.Document.Certificates {
		if _, listed := w.inventory.Certificates[sha]; !listed {
			return sha
		}
	}
	return ""
}
