package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Android speaks delivery in the words of the companion app: everything that should be done stands in one document, and
// comes back item by item. An installed item is proven by the inventory alone (android.md section 8.4).
type Android struct{ Service *Service }

// What the app is told of its own behaviour.
const (
	companionAttempts  = 5
	companionInventory = 24 * time.Hour
	envelopeLife       = 15 * time.Minute
)

// State is the desired state; changed is false when it is the known one still.
func (a *Android) State(ctx context.Context, enr model.Enrolment, known string) (state companion.State, changed bool, err error) {
	result, err := a.Service.Step(ctx, enr, reconcile.Report{Outcome: reconcile.OutcomeIdle})
	if err != nil {
		return state, false, err
	}
	if known == generationOf(enr) && result.Decision.Empty() {
		return state, false, nil
	}
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return state, false, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	state = companion.State{Generation: generationOf(snap.Enrolment), ServerTime: a.Service.c.Clock().UTC(), Items: a.items(snap),
		Policy: policyFor(snap), Pending: result.Pending}
	return state, state.Generation != known, nil
}

// generationOf: whatever changes an item is a saved decision, and each of those has a version of its own.
func generationOf(enr model.Enrolment) string { return strconv.FormatInt(enr.Version, 10) }

// items are what is installed and wanted, what is to be installed now, and what is to go. What waits is not in it, and
// the app leaves alone what is not in it.
func (a *Android) items(snap Snapshot) []companion.Item {
	items := []companion.Item{}
	for _, d := range snap.Documents {
		for _, identifier := range leaving(snap, d) {
			items = append(items, android.RemovalItem(identifier))
		}
		installed := d.InstalledRevision != "" && d.InstalledRevision == d.Document.Revision
		if d.Document.Reason != "" || isGoing(d) || (!installed && d.Status != model.DocumentSent) {
			continue
		}
		item, err := android.Item(d.Document, companion.OpInstall, isCurrent(snap, d, a.Service.c.Clock()))
		if err == nil {
			item.DependsOn = identifiers(snap, d.Document.DependsOn)
			items = append(items, item)
		}
	}
	slices.SortStableFunc(items, func(a, b companion.Item) int { return cmp.Compare(rank(a), rank(b)) })
	return items
}

func isGoing(d model.DocumentState) bool {
	return d.Status == model.DocumentRemoving || d.Status == model.DocumentRemoved
}

// leaving are the identifiers of a document that the app is told to remove.
func leaving(snap Snapshot, d model.DocumentState) []string {
	var out []string
	for _, c := range snap.Commands {
		if c.DocumentID != d.Document.ID || c.RequestType != string(reconcile.ActionRemove) {
			continue
		}
		if c.Revision != "" {
			out = append(out, c.Revision)
		} else {
			out = append(out, d.Identifier())
		}
	}
	return out
}

// rank puts removals before installs, grants going first, and CA certificates first of what comes.
func rank(i companion.Item) int {
	kinds := []companion.Kind{companion.KindCACert, companion.KindIdentity, companion.KindGrant, companion.KindMailConfig}
	at := slices.Index(kinds, i.Kind)
	if i.Op == companion.OpRemove {
		return -1 - at
	}
	return at
}

func identifiers(snap Snapshot, ids []string) []string {
	var out []string
	for _, d := range snap.Documents {
		if slices.Contains(ids, d.Document.ID) {
			out = append(out, d.Document.Identifier)
		}
	}
	return out
}

// isCurrent: the certificate that mail is written to now, or signed with.
func isCurrent(snap Snapshot, d model.DocumentState, now time.Time) bool {
	if len(d.Document.Credentials) != 1 {
		return false
	}
	c := d.Document.Credentials[0]
	if c.Purpose != profiles.PurposeSMIMEEncryption {
		return true
	}
	var history []profiles.Certificate
	for _, i := range snap.Imported {
		if i.Purpose == profiles.PurposeSMIMEEncryption {
			history = append(history, i.Certificate)
		}
	}
	return slices.ContainsFunc(c.Addresses, func(address string) bool {
		current, ok := profiles.Current(history, address, now)
		return ok && current.SHA256 == c.SHA256
	})
}

func policyFor(snap Snapshot) companion.Policy {
	p := companion.Policy{RemoveOnUnenroll: true, MaxAttempts: companionAttempts, ReportInventorySeconds: int(companionInventory / time.Second)}
	for _, c := range snap.Commands {
		switch reconcile.ActionKind(c.RequestType) {
		case reconcile.ActionListDocuments, reconcile.ActionListCertificates, reconcile.ActionAskFacts:
			p.ReportInventory = true
		case reconcile.ActionRemoveEnrolment, reconcile.ActionErase:
			p.Unenroll = true
		}
	}
	return p
}

// Envelope is the sealed secret of an item that is to be installed now. The errors are *companion.Problem values for what
// the app can do something about.
func (a *Android) Envelope(ctx context.Context, enr model.Enrolment, item string, r companion.PayloadRequest) (companion.PayloadResponse, error) {
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return companion.PayloadResponse{}, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	d, found := documentOf(snap, item)
	switch {
	case !found || isGoing(d) || d.Document.Identifier != item || !d.Document.HasSecrets():
		return companion.PayloadResponse{}, problem(companion.CodeItemGone, "the item is not wanted any more; read the state again")
	case r.Revision != d.Document.Revision:
		return companion.PayloadResponse{}, problem(companion.CodeRevisionStale, "the item has another revision by now; read the state again")
	case r.WrapKeyID != snap.Enrolment.CertSHA256:
		return companion.PayloadResponse{}, problem(companion.CodeWrapKeyUnknown, "the device is known with another wrap key")
	case len(d.Payload) == 0 || d.PayloadRevision != r.Revision || d.PayloadRecipient != r.WrapKeyID:
		p := problem(companion.CodeWaitingForConnector, "the connector has not encrypted the key yet")
		p.RetryAfterSeconds = 1
		return companion.PayloadResponse{}, p
	}
	return companion.PayloadResponse{Envelope: d.Payload, Alg: "CMS", ExpiresAt: a.Service.c.Clock().Add(envelopeLife).UTC()}, nil
}

// documentOf finds the document that an item belongs to, by what it is called now or was.
func documentOf(snap Snapshot, item string) (model.DocumentState, bool) {
	for _, d := range snap.Documents {
		if d.Document.Identifier == item || d.InstalledIdentifier == item || d.SentIdentifier == item || slices.Contains(d.Leftovers, item) {
			return d, true
		}
	}
	return model.DocumentState{}, false
}

// Report takes one step of an item. One that comes late or twice is acknowledged and changes nothing.
func (a *Android) Report(ctx context.Context, enr model.Enrolment, item string, r companion.StatusReport) error {
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	d, found := documentOf(snap, item)
	if !found {
		if r.State == companion.StateRemoved {
			return nil // gone for both, long ago
		}
		return problem(companion.CodeItemGone, "no such item was ever offered to this device, or it is gone; read the state again")
	}
	if r.Seq <= d.ReportedSeq {
		return nil
	}
	c := commandFor(snap, d, item, r)
	if c == nil {
		if r.Revision == d.InstalledRevision || r.Revision == companion.RevisionRemoval {
			return nil
		}
		return problem(companion.CodeRevisionStale, "the item has another revision by now; read the state again")
	}
	report, concluded := companionReport(d, r)
	if !concluded {
		return nil
	}
	report.CommandUUID, report.Seq = c.UUID, r.Seq
	_, err = a.Service.Step(ctx, enr, report)
	return err
}

// commandFor is the open command that a report answers.
func commandFor(snap Snapshot, d model.DocumentState, item string, r companion.StatusReport) *model.Command {
	for i, c := range snap.Commands {
		if c.DocumentID != d.Document.ID {
			continue
		}
		removal := c.RequestType == string(reconcile.ActionRemove) && r.Revision == companion.RevisionRemoval &&
			(c.Revision == item || (c.Revision == "" && d.Identifier() == item))
		install := c.RequestType == string(reconcile.ActionInstall) && c.Revision == r.Revision
		if removal || install {
			return &snap.Commands[i]
		}
	}
	return nil
}

// companionReport says what a state means here; the states on the way conclude nothing.
func companionReport(d model.DocumentState, r companion.StatusReport) (reconcile.Report, bool) {
	switch r.State {
	case companion.StateInstalled, companion.StateGranted, companion.StateVerified:
		if o := r.Observed; o != nil && o.CertSHA256 != "" && len(d.Document.Credentials) == 1 && o.CertSHA256 != d.Document.Credentials[0].SHA256 {
			return reconcile.Report{Outcome: reconcile.OutcomeFailed,
				Error: fmt.Sprintf("the device holds certificate %s under the alias %s", o.CertSHA256, o.Alias)}, true
		}
		return reconcile.Report{Outcome: reconcile.OutcomeDone}, true
	case companion.StateRemoved:
		return reconcile.Report{Outcome: reconcile.OutcomeDone}, true
	case companion.StateFailed:
		return reconcile.Report{Outcome: reconcile.OutcomeFailed, Error: sentence(r.Error)}, true
	case companion.StateWaitingUser, companion.StateWaitingApp, companion.StateRetryWait:
		return reconcile.Report{Outcome: reconcile.OutcomeNotNow, Error: sentence(r.Error), Reason: waitingReason(r)}, true
	}
	return reconcile.Report{}, false
}

func waitingReason(r companion.StatusReport) platforms.Reason {
	if r.Error != nil && (r.Error.Code == companion.ErrDelegationMissing || r.Error.Code == companion.ErrSelectionDelegationMissing) {
		return platforms.ReasonDelegationMissing
	}
	switch r.State {
	case companion.StateWaitingApp:
		return platforms.ReasonAppMissing
	case companion.StateWaitingUser:
		return platforms.ReasonWaitsForUser
	}
	return platforms.ReasonNotNow
}

func sentence(e *companion.Error) string {
	if e == nil {
		return "the device gave no reason"
	}
	out := e.Code.Meaning()
	if e.Detail != "" {
		out += ": " + e.Detail
	}
	return out + " (" + string(e.Code) + ")"
}

// Inventory takes what is on the device.
func (a *Android) Inventory(ctx context.Context, enr model.Enrolment, inv companion.Inventory) error {
	_, err := a.Service.Step(ctx, enr, reconcile.Report{Outcome: reconcile.OutcomeIdle, Documents: android.Documents(inv), Certificates: android.Certificates(inv)})
	return err
}

// Refusal is a problem that the app can do something about.
type Refusal struct{ companion.Problem }

func (r *Refusal) Error() string { return r.Detail }

// AsProblem is what the app is told.
func (r *Refusal) AsProblem() companion.Problem { return r.Problem }

func problem(code, detail string) *Refusal {
	return &Refusal{companion.Problem{Code: code, Detail: detail}}
}
