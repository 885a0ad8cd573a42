package delivery

import (
	"context"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Keys that the device makes (android.md section 8.3):
//
//	item with payload "generate" ─→ the app makes a key ─→ POST csr ─→ Request: is it wanted still?
//	                             ─→ a connector certifies ─→ the app puts the certificate to its key ─→ Report, Inventory
//
// An answer that was lost is given again for the same key. An app that has lost its key makes another one for the same
// request; of several certificates of a request the newest counts, and the others go once it is verified.

// maxOwnKeys bounds for how many keys a device gets the certificate of one request: what loses its keys so often is broken.
const maxOwnKeys = 20

// Request is the id of the request that the certificate of an item's key is for. What is wanted is decided anew first, as
// for Envelope. The errors are *Refusal for what the app can do something about.
func (a *Android) Request(ctx context.Context, enr model.Enrolment, item, revision string) (string, error) {
	if _, err := a.Service.Step(ctx, enr, reconcile.Report{Outcome: reconcile.OutcomeIdle}); err != nil {
		return "", err
	}
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return "", fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	d, found := ownKeyOf(snap, item)
	switch {
	case !found:
		return "", problem(companion.CodeItemGone, "the item is not wanted any more; read the state again")
	case revision != d.Document.Revision:
		return "", problem(companion.CodeRevisionStale, "the item has another revision by now; read the state again")
	}
	for _, order := range reconcile.Orders(snap, a.Service.settings(snap.Enrolment.Platform), a.Service.c.Clock()) {
		if order.Profile != d.Document.Challenges[0] || android.AliasFor(order.RequestID) != d.Document.Proof {
			continue
		}
		if len(issuedOf(snap, d.Document)) >= maxOwnKeys {
			return "", problem(companion.CodeCSRRefused, fmt.Sprintf("the device has had %d certificates for this item already", maxOwnKeys))
		}
		return order.RequestID, nil
	}
	return "", problem(companion.CodeRevisionStale, "another certificate is wanted by now; read the state again")
}

// ownKeyOf finds the document of a key that the device makes.
func ownKeyOf(snap Snapshot, item string) (model.DocumentState, bool) {
	at := slices.IndexFunc(snap.Documents, func(d model.DocumentState) bool {
		return d.Document.Identifier == item && !isGoing(d) && android.IsGenerated(d.Document)
	})
	if at < 0 {
		return model.DocumentState{}, false
	}
	return snap.Documents[at], true
}

// issuedOf are the certificates that the device got for keys of the document, whatever became of them.
func issuedOf(snap Snapshot, doc platforms.Document) []model.Certificate {
	var out []model.Certificate
	for _, c := range snap.Issued {
		if slices.Contains(doc.Challenges, c.Profile) && android.AliasFor(c.RecordID) == doc.Proof {
			out = append(out, c)
		}
	}
	return out
}

// Asking notes that the device has made a key and that its certificate takes longer than the device could be held.
func (a *Android) Asking(ctx context.Context, enr model.Enrolment, item, revision string) error {
	snap, err := a.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	c, d := commandFor(snap, item, companion.StatusReport{Revision: revision})
	report := reconcile.Report{Outcome: reconcile.OutcomeNotNow, Reason: platforms.ReasonIssuePending, Error: "the device has made its key and asks for the certificate"}
	if c == nil || isNoNews(d, report) {
		return nil
	}
	report.CommandUUID = c.UUID
	_, err = a.Service.Step(ctx, enr, report)
	return err
}

// holdsWrong says that the device shows another certificate under the alias than it should. Of a key that it made, each
// certificate that it got for the request and that is current is right.
func holdsWrong(snap Snapshot, d model.DocumentState, o *companion.Observed) bool {
	if o == nil || o.CertSHA256 == "" {
		return false
	}
	if android.IsGenerated(d.Document) && d.Document.Identifier == d.SentIdentifier {
		return !slices.ContainsFunc(issuedOf(snap, d.Document), func(c model.Certificate) bool {
			return c.SHA256 == o.CertSHA256 && c.Status == model.CertificateCurrent
		})
	}
	return len(d.SentCredentials) == 1 && o.CertSHA256 != d.SentCredentials[0]
}
