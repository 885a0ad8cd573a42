package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	ahead := isAhead(known, enr)
	state.Policy.ReportInventory = state.Policy.ReportInventory || ahead
	return state, ahead || state.Generation != known, nil
}

// generationOf: whatever changes an item is a saved decision, and each of those has a version of its own.
func generationOf(enr model.Enrolment) string { return strconv.FormatInt(enr.Version, 10) }

// isAhead: the app knows a generation that this database has not had yet, since it was put back to an older copy. The same
// number may stand for something else then, and what the app has done meanwhile its inventory tells (android.md 8.8).
func isAhead(known string, enr model.Enrolment) bool {
	n, err := strconv.ParseInt(known, 10, 64)
	return err == nil && n > enr.Version
}

// items are what is installed and wanted, what is to be installed now, and what is to go. What waits is not in it, and
// the app leaves alone what is not in it. No item is in it twice: what one document has given up and another wants is
// wanted.
func (a *Android) items(snap Snapshot) []companion.Item {
	items, there := []companion.Item{}, map[string]bool{}
	for _, d := range snap.Documents {
		installed := d.InstalledRevision != "" && d.InstalledRevision == d.Document.Revision
		if d.Document.Reason != "" || isGoing(d) || there[d.Document.Identifier] || (!installed && d.Status != model.DocumentSent) {
			continue
		}
		item, err := android.Item(d.Document, companion.OpInstall, isCurrent(snap, d, a.Service.c.Clock()))
		if err == nil {
			item.DependsOn, item.Attempt = identifiers(snap, d.Document.DependsOn), d.Attempts
			items, there[item.ID] = append(items, item), true
		}
	}
	for _, d := range snap.Documents {
		for _, identifier := range leaving(snap, d) {
			if !there[identifier] {
				item := android.RemovalItem(identifier)
				item.Attempt = d.Attempts
				items, there[identifier] = append(items, item), true
			}
		}
	}
	slices.SortStableFunc(items, func(a, b companion.Item) int { return cmp.Compare(rank(a), rank(b)) })
	return items
}

func isGoing(d model.DocumentState) bool {
	return d.Status == model.DocumentRemoving || d.Status == model.DocumentRemoved
}

// leaving are the identifiers of a document that the app is told to remove. A command that was overtaken stays open, since
// the app may have begun; it is not told again.
func leaving(snap Snapshot, d model.DocumentState) []string {
	var out []string
	for _, c := range snap.Commands {
		if c.DocumentID != d.Document.ID || c.RequestType != string(reconcile.ActionRemove) {
			continue
		}
		switch {
		case slices.Contains(d.Leftovers, c.Revision):
			out = append(out, c.Revision)
		case c.Revision == "" && d.Status == model.DocumentRemoving:
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
	if android.IsGenerated(d.Document) {
		return true
	}
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

// Envelope is the sealed secret of an item that is to be installed now. What is wanted is decided anew first: a key that was
// sealed before the device was retired, or the profile taken away, is not released. The errors are *Refusal for what the app
// can do something about.
func (a *Android) Envelope(ctx context.Context, enr model.Enrolment, item string, r companion.PayloadRequest) (companion.PayloadResponse, error) {
	if _, err := a.Service.Step(ctx, enr, reconcile.Report{Outcome: reconcile.OutcomeIdle}); err != nil {
		return companion.PayloadResponse{}, err
	}
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return companion.PayloadResponse{}, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	d, found := secretOf(snap, item)
	switch {
	case !found:
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
	return companion.PayloadResponse{Envelope: d.Payload, Alg: companion.EnvelopeCMS, ExpiresAt: a.Service.c.Clock().Add(envelopeLife).UTC()}, nil
}

// secretOf finds the document that wants a key under the identifier; the device may have it already, from another one.
func secretOf(snap Snapshot, item string) (model.DocumentState, bool) {
	for _, d := range snap.Documents {
		if d.Document.Identifier == item && !isGoing(d) && d.Document.HasSecrets() {
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
	c, d := commandFor(snap, item, r)
	if c == nil {
		return unasked(snap, item, r)
	}
	if r.Seq <= d.ReportedSeq {
		return nil
	}
	report, concluded, err := companionReport(snap, d, c, r)
	if err != nil || !concluded || isNoNews(d, report) {
		return err
	}
	report.CommandUUID, report.Seq = c.UUID, r.Seq
	_, err = a.Service.Step(ctx, enr, report)
	return err
}

// isNoNews: the item waits for the same thing as before. Written down it would be another generation, and an app that tells
// it after each state would get the next one at once, for ever.
func isNoNews(d model.DocumentState, r reconcile.Report) bool {
	return r.Outcome == reconcile.OutcomeNotNow && r.Reason == d.Reason && r.Error == reconcile.Said(d.Detail)
}

// commandFor is the open command that a report answers, and its document.
func commandFor(snap Snapshot, item string, r companion.StatusReport) (*model.Command, model.DocumentState) {
	for i, c := range snap.Commands {
		at := slices.IndexFunc(snap.Documents, func(d model.DocumentState) bool { return d.Document.ID == c.DocumentID })
		if at < 0 {
			continue
		}
		d := snap.Documents[at]
		removal := c.RequestType == string(reconcile.ActionRemove) && r.Revision == companion.RevisionRemoval &&
			(c.Revision == item || (c.Revision == "" && d.Identifier() == item))
		install := c.RequestType == string(reconcile.ActionInstall) && c.Revision == r.Revision && d.SentIdentifier == item
		if removal || install {
			return &snap.Commands[i], d
		}
	}
	return nil, model.DocumentState{}
}

// unasked is a report that answers no open command: of something that is long done, or that is not wanted in that revision.
func unasked(snap Snapshot, item string, r companion.StatusReport) error {
	known := false
	for _, d := range snap.Documents {
		if d.Document.Identifier != item && d.InstalledIdentifier != item && d.SentIdentifier != item && !slices.Contains(d.Leftovers, item) {
			continue
		}
		if known = true; r.Revision == d.InstalledRevision || r.Seq <= d.ReportedSeq {
			return nil
		}
	}
	switch {
	case r.Revision == companion.RevisionRemoval || (!known && r.State == companion.StateRemoved):
		return nil // gone for both
	case !known:
		return problem(companion.CodeItemGone, "no such item was ever offered to this device, or it is gone; read the state again")
	}
	return problem(companion.CodeRevisionStale, "the item has another revision by now; read the state again")
}

// companionReport says what a state means for a command; the states on the way conclude nothing.
func companionReport(snap Snapshot, d model.DocumentState, c *model.Command, r companion.StatusReport) (report reconcile.Report, concluded bool, err error) {
	removal := c.RequestType == string(reconcile.ActionRemove)
	switch r.State {
	case companion.StateInstalled, companion.StateGranted, companion.StateVerified:
		if removal {
			return report, false, problem(companion.CodeMalformed, "state: an item with op remove ends in removed")
		}
		if o := r.Observed; holdsWrong(snap, d, o) {
			return reconcile.Report{Outcome: reconcile.OutcomeFailed,
				Error: fmt.Sprintf("the device holds certificate %s under the alias %s", o.CertSHA256, o.Alias)}, true, nil
		}
		return reconcile.Report{Outcome: reconcile.OutcomeDone}, true, nil
	case companion.StateRemoved:
		if !removal {
			return report, false, problem(companion.CodeMalformed, "state: an item with op install does not end in removed; what is missing, the inventory tells")
		}
		return reconcile.Report{Outcome: reconcile.OutcomeDone}, true, nil
	case companion.StateFailed:
		return reconcile.Report{Outcome: reconcile.OutcomeFailed, Reason: failingReason(r), Error: sentence(r.Error)}, true, nil
	case companion.StateWaitingUser, companion.StateWaitingApp, companion.StateRetryWait:
		return reconcile.Report{Outcome: reconcile.OutcomeNotNow, Error: sentence(r.Error), Reason: waitingReason(r)}, true, nil
	}
	return report, false, nil
}

// failingReason is empty where the device itself refused.
func failingReason(r companion.StatusReport) platforms.Reason {
	if r.Error != nil && r.Error.Code == companion.ErrCSRRefused {
		return platforms.ReasonIssueRefused
	}
	return ""
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

// maxDetail bounds what a device says of a fault; it is stored and shown.
const maxDetail = 300

func sentence(e *companion.Error) string {
	if e == nil {
		return "the device gave no reason"
	}
	out := e.Code.Meaning()
	if detail := printable(e.Detail); detail != "" {
		out += ": " + detail
	}
	return out + " (" + string(e.Code) + ")"
}

func printable(s string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if len(runes) > maxDetail {
		return string(runes[:maxDetail]) + "…"
	}
	return string(runes)
}

// Inventory takes what is on the device.
func (a *Android) Inventory(ctx context.Context, enr model.Enrolment, inv companion.Inventory) error {
	_, err := a.Service.Step(ctx, enr, reconcile.Report{Outcome: reconcile.OutcomeIdle, Documents: android.Documents(inv),
		Certificates: android.Certificates(inv), Facts: &reconcile.Facts{OSVersion: android.Release(inv.Release, inv.SDKInt)}})
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
