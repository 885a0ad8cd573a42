package reconcile

import (
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
)

// adopt takes for installed what the inventory of a companion app shows, whether or not anybody was told of it: the
// inventory suffices (android.md section 8.4). A server that was put back to an older copy of its database would otherwise
// wait for reports that the app made long ago.
func (w *work) adopt() {
	if !w.in.Together || !w.fresh() {
		return
	}
	for _, id := range w.order {
		if d := w.docs[id]; d != nil && w.wanted[id] && w.shown(d) {
			sent(d)
			w.obeyed(d)
			d.Status, d.Reason, d.Detail = model.DocumentVerified, platforms.ReasonVerified, ""
			d.Attempts, d.RetryAt = 0, time.Time{}
			w.audit("document.verified", id, "ok", map[string]string{"revision": d.InstalledRevision})
		}
	}
}

// shown reports whether a document that nobody has reported is there all the same.
func (w *work) shown(d *model.DocumentState) bool {
	switch d.Status {
	case "", model.DocumentWaiting, model.DocumentReady, model.DocumentSent:
	default:
		return false
	}
	return d.Document.Reason == "" && d.InstalledRevision == "" && d.Document.Proof != "" && w.lacking(d) == "" &&
		w.inventory.Profiles[d.Document.Identifier] == d.Document.Proof
}

// obeyed ends the command by which a document was sent, if there is one.
func (w *work) obeyed(d *model.DocumentState) {
	for _, c := range w.commands {
		if c.DocumentID == d.Document.ID && ActionKind(c.RequestType) == ActionInstall && c.Revision == d.SentRevision {
			c.State, c.UpdatedAt = model.CommandDone, w.now
			w.out.Commands = append(w.out.Commands, *c)
		}
	}
	w.record(d)
}
