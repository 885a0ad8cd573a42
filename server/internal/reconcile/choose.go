package reconcile

import (
	"slices"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// choose picks the one thing to say to the device now, or nil.
//
// A command that the device refused with NotNow is not offered again before the next Idle (Apple: Handling NotNow Status
// Responses). A command that was sent and never answered is offered again under its own UUID at the next Idle.
func (w *work) choose() *Action {
	if w.enrolment.State == model.EnrolmentEnded || w.device.State == model.DeviceLeft || w.staysFor > 0 {
		return nil
	}
	if w.device.State == model.DeviceWiping && w.enrolment.Channel == model.ChannelUser {
		return nil // the device channel erases everything
	}
	if w.device.State == model.DeviceWiping {
		return w.command(ActionErase, "", "", Action{})
	}
	for _, pick := range []func() *Action{w.chooseRemoval, w.chooseInstall, w.chooseInventory, w.chooseEnd} {
		if a := pick(); a != nil {
			return a
		}
	}
	return nil
}

// chooseAll is everything that can be said now: one thing, or all removals and installs together.
func (w *work) chooseAll() []Action {
	var all []Action
	for {
		a := w.choose()
		if a == nil {
			return all
		}
		all = append(all, *a)
		if !w.in.Together || (a.Kind != ActionInstall && a.Kind != ActionRemove) {
			return all
		}
	}
}

func (w *work) chooseRemoval() *Action {
	for _, id := range w.order {
		d := w.docs[id]
		if d == nil || d.Status != model.DocumentRemoving || w.now.Before(d.RetryAt) {
			continue
		}
		if w.outOfReach(d) {
			d.Detail = notLoggedOn
			continue
		}
		if w.takenOver(d) {
			continue
		}
		if w.serves(d) || w.opensMail(d) {
			d.Detail = goesLater
			continue
		}
		if d.Detail == goesLater {
			d.Detail = ""
		}
		if a := w.remove(d); a != nil {
			return a
		}
	}
	return w.chooseLeftover()
}

// takenOver: a thing is wanted or not, whichever document it was of. What another document wants under the same identifier
// is installed over, and forgotten here once it is: to remove it first would leave a moment without a key (windows.md
// section 5, trap 2).
func (w *work) takenOver(d *model.DocumentState) bool {
	return len(d.Leftovers) == 0 && w.expected(d.Identifier())
}

const goesLater = "it serves until what takes its place is installed"

// serves: what the document depends on is being replaced, and another document takes its place there that is not installed
// yet. On Android the app's right to the former signing key stays until it has that to the next one: without, it could not
// sign meanwhile. Once the former key is gone there is nothing to wait for.
func (w *work) serves(d *model.DocumentState) bool {
	return w.in.Together && slices.ContainsFunc(d.Document.DependsOn, func(id string) bool {
		on := w.docs[id]
		return on != nil && w.wanted[id] && w.beingReplaced(on) && w.hasSuccessor(d, id)
	})
}

// opensMail: a document that is wanted takes over an encryption key of this one, and is on its way. Old mail stays readable
// all the time.
func (w *work) opensMail(d *model.DocumentState) bool {
	for id := range w.wanted {
		next := w.docs[id]
		if next == nil || next.InstalledRevision == next.Document.Revision || next.Status == model.DocumentFailed {
			continue
		}
		for _, c := range next.Document.Credentials {
			if c.Purpose == profiles.PurposeSMIMEEncryption && slices.Contains(d.InstalledCredentials, c.SHA256) && !w.carried(c.SHA256, d) {
				return true
			}
		}
	}
	return false
}

func (w *work) beingReplaced(d *model.DocumentState) bool {
	return d.Document.Reason == "" && d.InstalledRevision != "" && (d.InstalledRevision != d.Document.Revision || len(d.Leftovers) > 0)
}

// hasSuccessor: a document of the same profiles will depend on that one too.
func (w *work) hasSuccessor(d *model.DocumentState, on string) bool {
	for id := range w.wanted {
		next := w.docs[id]
		if next != nil && slices.Contains(next.Document.DependsOn, on) && slices.Equal(next.Document.Profiles, d.Document.Profiles) &&
			next.InstalledRevision != next.Document.Revision {
			return true
		}
	}
	return false
}

// remove begins with what is left over of former revisions.
func (w *work) remove(d *model.DocumentState) *Action {
	if len(d.Leftovers) > 0 {
		return w.command(ActionRemove, d.Document.ID, d.Leftovers[0], Action{Identifier: d.Leftovers[0]})
	}
	return w.command(ActionRemove, d.Document.ID, "", Action{Identifier: d.Identifier()})
}

// chooseLeftover removes what a new revision has replaced under another identifier, once the new one is verified: there
// is no moment without a certificate.
func (w *work) chooseLeftover() *Action {
	for _, id := range w.order {
		d := w.docs[id]
		if d == nil || len(d.Leftovers) == 0 || d.Status != model.DocumentVerified || w.outOfReach(d) || w.now.Before(d.RetryAt) {
			continue
		}
		if w.expected(d.Leftovers[0]) || w.awaited(d) {
			continue
		}
		if a := w.remove(d); a != nil {
			return a
		}
	}
	return nil
}

// awaited: what depends on the document is on its way. On Android an app signs with the former key until it has its right to
// the new one: both keys are there meanwhile.
func (w *work) awaited(d *model.DocumentState) bool {
	for id := range w.wanted {
		next := w.docs[id]
		if w.in.Together && next != nil && slices.Contains(next.Document.DependsOn, d.Document.ID) &&
			(next.Status == model.DocumentReady || next.Status == model.DocumentSent) {
			return true
		}
	}
	return false
}

// expected tells whether a document is wanted under the identifier: what is there will be its own.
func (w *work) expected(identifier string) bool {
	for id := range w.wanted {
		if d := w.docs[id]; d != nil && d.Document.Identifier == identifier {
			return true
		}
	}
	return false
}

func (w *work) chooseInstall() *Action {
	for _, id := range w.order {
		d := w.docs[id]
		if d == nil || !w.wanted[id] || w.outOfReach(d) || lacksPayload(d) || (d.Status != model.DocumentReady && d.Status != model.DocumentSent) {
			continue
		}
		if a := w.command(ActionInstall, id, d.Document.Revision, Action{Document: d.Document, Payload: d.Payload}); a != nil {
			sent(d)
			return a
		}
	}
	return nil
}

func sent(d *model.DocumentState) {
	d.Status, d.SentRevision, d.SentProof, d.SentCredentials = model.DocumentSent, d.Document.Revision, d.Document.Proof, nil
	if d.SentIdentifier != d.InstalledIdentifier { // it was refused, but a part of it may be there
		keepLeftover(d, d.SentIdentifier, d.Document.Identifier)
	}
	d.SentIdentifier = d.Document.Identifier
	dropLeftover(d, d.SentIdentifier)
	for _, c := range d.Document.Credentials {
		d.SentCredentials = append(d.SentCredentials, c.SHA256)
	}
}

// chooseInventory asks what the device is and has, when that is not fresh.
func (w *work) chooseInventory() *Action {
	due := !w.now.Before(w.enrolment.InventoryAt)
	for _, q := range []struct {
		kind ActionKind
		at   *time.Time
	}{{ActionAskFacts, &w.inventory.FactsAt}, {ActionListDocuments, &w.inventory.ProfilesAt},
		{ActionListCertificates, &w.inventory.CertificatesAt}} {
		if w.blind(q.kind) {
			continue
		}
		if q.kind == ActionAskFacts && w.enrolment.Channel == model.ChannelUser { // the device channel asks for them
			*q.at = w.now
			continue
		}
		if !q.at.IsZero() && (!due || !q.at.Before(w.enrolment.InventoryAt)) {
			continue
		}
		if a := w.command(q.kind, "", "", Action{}); a != nil {
			return a
		}
	}
	return nil
}

// blind: a list that is read while the user is away lacks all that is the user's, and would look like a loss.
func (w *work) blind(kind ActionKind) bool {
	return w.in.Report.UserAbsent && kind != ActionAskFacts
}

// chooseEnd removes the enrolment itself, last, once the inventory has shown that everything else is gone.
func (w *work) chooseEnd() *Action {
	if w.device.State != model.DeviceRetiring {
		return nil
	}
	if w.patienceEnds() {
		return w.command(ActionRemoveEnrolment, "", "", Action{}) // the device's goodbye is all that will be known
	}
	if len(w.docs) > 0 || !w.fresh() {
		return nil
	}
	if w.enrolment.Channel == model.ChannelUser {
		w.enrolment.State = model.EnrolmentEnded // it is empty, and ends with the device's enrolment
		return nil
	}
	if w.in.Snapshot.UserDocuments > 0 {
		if w.now.Sub(w.device.StateAt) < retirePatience {
			return nil
		}
		return w.command(ActionRemoveEnrolment, "", "", Action{}) // as above, on a Mac
	}
	w.device.Removal = model.RemovalVerified
	return w.command(ActionRemoveEnrolment, "", "", Action{})
}

// retirePatience is how long a device that is to leave may refuse to be emptied, or wait for its user. Who has left the company
// does not log on again, and with the enrolment the platform takes away all that came by it.
const retirePatience = 7 * 24 * time.Hour

// patienceEnds: there is nothing more to say to a device that should be empty long since, and something keeps it from being so:
// it refuses to, it cannot, or its user is away. What it was told only lately it may still do.
func (w *work) patienceEnds() bool {
	since := w.device.StateAt
	if w.enrolment.Channel == model.ChannelUser || since.IsZero() || w.now.Sub(since) < retirePatience {
		return false
	}
	return (len(w.docs) > 0 || !w.fresh()) && !slices.ContainsFunc(w.said(), func(c model.Command) bool {
		open := c.State == model.CommandSent || c.State == model.CommandNotNow
		return open && ActionKind(c.RequestType) == ActionRemove && w.now.Sub(c.CreatedAt) < retirePatience
	})
}

// said are the commands that the device may still obey, those of this decision included.
func (w *work) said() []model.Command {
	all := slices.Clone(w.out.Commands)
	for _, c := range w.commands {
		all = append(all, *c)
	}
	return all
}

// command turns a choice into a stored command: an open one for the same thing is used again, under its own UUID, unless
// it was refused in this connection.
func (w *work) command(kind ActionKind, documentID, revision string, a Action) *Action {
	this := string(kind) + "/" + documentID + "/" + revision
	if w.chosen[this] {
		return nil
	}
	c := w.openFor(kind, documentID, revision)
	idle := w.in.Report.Outcome == OutcomeIdle
	switch {
	case c != nil && c.State == model.CommandSent && w.in.Together:
		w.chosen[this] = true // it stands in the desired state already
		a.Kind, a.UUID = kind, c.UUID
		return &a
	case c == nil:
		c = &model.Command{UUID: w.in.NewUUID(), EnrolmentID: w.enrolment.ID, RequestType: string(kind),
			DocumentID: documentID, Revision: revision, CreatedAt: w.now}
	case c.State == model.CommandNotNow && !idle:
		return nil
	}
	c.State, c.UpdatedAt = model.CommandSent, w.now
	w.out.Commands = append(w.out.Commands, *c)
	w.chosen[this] = true
	a.Kind, a.UUID = kind, c.UUID
	return &a
}

func (w *work) openFor(kind ActionKind, documentID, revision string) *model.Command {
	for _, c := range w.commands {
		open := c.State == model.CommandSent || c.State == model.CommandNotNow
		if open && c.RequestType == string(kind) && c.DocumentID == documentID && c.Revision == revision {
			return c
		}
	}
	return nil
}

// settle notes when nothing is left to say, so that an idle check-in costs no plan, and when to look again.
func (w *work) settle(a *Action) {
	e := &w.enrolment
	if a != nil {
		e.Dirty = true
		return
	}
	e.Dirty, e.SettledGeneration = w.held(), w.in.Snapshot.Generation
	oldest := w.oldestList()
	e.InventoryAt = oldest.Add(w.in.Settings.InventoryEvery)
	if w.refusedForNow() || w.pending() > 0 {
		e.InventoryAt = oldest // look again at the next check-in, without asking for the lists
		return
	}
	if at := w.nextLook(); !at.IsZero() && at.Before(e.InventoryAt) {
		e.InventoryAt = at
	}
}

func (w *work) oldestList() time.Time {
	at := w.inventory.FactsAt
	for _, t := range []time.Time{w.inventory.ProfilesAt, w.inventory.CertificatesAt} {
		if t.Before(at) {
			at = t
		}
	}
	return at
}

// refusedForNow: something was answered with NotNow and must be offered again.
func (w *work) refusedForNow() bool {
	for _, c := range w.commands {
		if c.State == model.CommandNotNow {
			return true
		}
	}
	return false
}

// nextLook is the earliest moment at which time alone changes the decision: a retry, a connector that stays silent, a
// renewal. Zero: none.
func (w *work) nextLook() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if t.After(w.now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if w.staysFor > 0 {
		earlier(w.now.Add(w.staysFor))
	}
	if w.device.State == model.DeviceRetiring {
		earlier(w.device.StateAt.Add(retirePatience))
	}
	for _, d := range w.docs {
		if d.Status == model.DocumentFailed || d.Status == model.DocumentRemoving || len(d.Leftovers) > 0 {
			earlier(d.RetryAt)
		}
		if d.Reason == platforms.ReasonRenderPending || d.Reason == platforms.ReasonIssuePending {
			earlier(w.now.Add(w.in.Settings.ConnectorSilence))
		}
	}
	for _, j := range w.in.Snapshot.Jobs {
		if j.State == model.JobFailed {
			earlier(j.UpdatedAt.Add(askAgain))
		}
	}
	for _, o := range w.applying {
		if p := requestOf(o.Spec); p != nil {
			if c, has := w.issued()[o.Name]; has {
				earlier(p.RenewAt(c))
			}
		}
	}
	return at
}

// pending counts the documents that will come by themselves.
func (w *work) pending() int {
	n := 0
	for id := range w.wanted {
		d := w.docs[id]
		if d == nil {
			continue
		}
		switch d.Reason {
		case platforms.ReasonRenderPending, platforms.ReasonIssuePending:
			n++
		}
	}
	return n
}
