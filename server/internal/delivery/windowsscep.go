package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// A PC asks for a certificate by SCEP in its own time, so that the install of such a document may take several sessions:
//
//	look ─ nothing there ─→ ask (Atomic … Exec Enroll) ─→ read
//	look, read ─ the certificate issued for this request ─→ done
//	           ─ still asking, or a partner CA has not told of it yet ─→ not now; the next session looks again, and not for ever
//	           ─ anything else ─→ clear (Delete) ─→ failed: a later try begins with a challenge of its own
//
// It looks before it asks: asking again would make another key, and an answer may only have been lost.
const (
	stageLook  = "look"
	stageAsk   = "ask"
	stageRead  = "read"
	stageClear = "clear"
)

// askPatience is how long a PC may ask. It gives up by itself after RetryCount times RetryDelay, a few minutes.
const askPatience = time.Hour

// looking is the first stage.
func looking(act reconcile.Action) *flight {
	f := &flight{Action: act.Kind, UUID: act.UUID, Document: act.Document.ID, Revision: act.Document.Revision, Identifier: act.Document.Identifier}
	return f.stage(stageLook)
}

// stage is the flight in another stage, with the commands of one that reads or clears.
func (f *flight) stage(name string) *flight {
	next := *f
	next.Stage, next.Sent, next.commands = name, nil, nil
	switch name {
	case stageLook, stageRead:
		next.get(windows.AskedURIs(f.Identifier))
	case stageClear:
		next.commands = windows.Remove(f.Identifier)
	}
	return &next
}

// landAsked turns the answers to a stage into the next one, or into a report.
func (d *Windows) landAsked(ctx context.Context, enr model.Enrolment, f *flight, answers syncml.Answers) (reconcile.Report, *flight, error) {
	switch f.Stage {
	case stageAsk:
		next := f.stage(stageRead)
		next.Failure, _ = f.failure(answers)
		return reconcile.Report{}, next, nil
	case stageClear:
		return f.report(reconcile.OutcomeFailed, "", f.Failure), nil, nil
	}
	r := f.read(answers)
	if len(r.unread) > 0 {
		return f.report(reconcile.OutcomeFailed, "", "the PC does not let "+r.unread[0]+" be read"), nil, nil
	}
	snap, err := d.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return reconcile.Report{}, nil, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	report, next := d.judgeAsked(ctx, snap, f, windows.ReadAsked(f.Identifier, r.values))
	return report, next, nil
}

func (d *Windows) judgeAsked(ctx context.Context, snap Snapshot, f *flight, asked windows.Asked) (reconcile.Report, *flight) {
	next := f.stage(stageClear)
	since := askedSince(snap, f.UUID)
	patient := since.IsZero() || d.Service.c.Clock().Sub(since) < askPatience
	switch asked.State {
	case windows.AskedNothing:
		return d.ask(ctx, snap, f)
	case windows.AskedDone:
		switch {
		case issuedFor(snap, f.Identifier, asked.Thumbprint):
			return f.report(reconcile.OutcomeDone, "", ""), nil
		case patient && ofPartner(snap, f.Document):
			return f.report(reconcile.OutcomeNotNow, platforms.ReasonIssuePending, "the PC has a certificate, of which the partner CA has not told yet"), nil
		}
		next.Failure = "the PC has a certificate (" + asked.Thumbprint + ") that was not issued for this request"
	case windows.AskedPending:
		if patient {
			return f.report(reconcile.OutcomeNotNow, platforms.ReasonIssuePending, "the PC has made its key and asks for the certificate"), nil
		}
		next.Failure = fmt.Sprintf("the PC has been asking for its certificate for more than %s; it is told to begin anew", askPatience)
	default:
		next.Failure = asked.Detail
	}
	return reconcile.Report{}, next
}

// ofPartner tells whether the certificate of a document comes from a partner CA, which the PC asks without us.
func ofPartner(snap Snapshot, document string) bool {
	at := slices.IndexFunc(snap.Documents, func(s model.DocumentState) bool { return s.Document.ID == document })
	if at < 0 {
		return false
	}
	for _, o := range snap.Objects {
		p, ok := o.Spec.(*profiles.SCEPCertificate)
		if ok && slices.Contains(snap.Documents[at].Document.Challenges, o.Name) {
			return link.PartnerOf(link.Offering(snap.CAs, p.CertificateAuthority)) != ""
		}
	}
	return false
}

// ask sends the nodes with a challenge. Where they have been sent already, the PC has not kept them.
func (d *Windows) ask(ctx context.Context, snap Snapshot, f *flight) (reconcile.Report, *flight) {
	if f.Stage != stageLook {
		why := f.Failure
		if why == "" {
			why = "the PC does not show " + f.Identifier + " (404): it took nothing, or it is gone again"
		}
		return f.report(reconcile.OutcomeFailed, "", why), nil
	}
	at := slices.IndexFunc(snap.Documents, func(s model.DocumentState) bool {
		return s.Document.ID == f.Document && s.Document.Revision == f.Revision
	})
	if at < 0 {
		return f.report(reconcile.OutcomeNotNow, "", "another certificate is wanted by now"), nil
	}
	next, doc := f.stage(stageAsk), snap.Documents[at].Document
	challenges, err := d.Service.challenges(ctx, snap.Enrolment.ID, doc)
	if err == nil {
		var payload []byte
		if payload, err = windows.RenderSCEP(doc, challenges[doc.Challenges[0]]); err == nil {
			next.commands, _, err = windows.Install(doc, payload, false)
		}
	}
	if err != nil {
		return f.report(reconcile.OutcomeFailed, platforms.ReasonRenderFailed, err.Error()), nil
	}
	return reconcile.Report{}, next
}

func (f *flight) report(outcome reconcile.Outcome, reason platforms.Reason, sentence string) reconcile.Report {
	return reconcile.Report{Outcome: outcome, CommandUUID: f.UUID, Reason: reason, Error: sentence}
}

// issuedFor tells whether a certificate was issued for the request that a node is named after.
func issuedFor(snap Snapshot, identifier, thumbprint string) bool {
	request := identifier[strings.LastIndexByte(identifier, '/')+1:]
	return slices.ContainsFunc(snap.Issued, func(c model.Certificate) bool {
		return c.Status == model.CertificateCurrent && strings.EqualFold(c.RecordID, request) && strings.EqualFold(c.SHA1, thumbprint)
	})
}

// askedSince is when the PC was told to ask.
func askedSince(snap Snapshot, uuid string) time.Time {
	for _, c := range snap.Commands {
		if c.UUID == uuid {
			return c.CreatedAt
		}
	}
	return time.Time{}
}

// addAsked adds the issued certificates that the PC shows as got for keys of its own.
func addAsked(to map[string]bool, snap Snapshot, values map[string]string) {
	shown := windows.Thumbprints(values)
	for _, c := range snap.Issued {
		if slices.Contains(shown, strings.ToUpper(c.SHA1)) {
			to[c.SHA256] = true
		}
	}
}
