package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Windows speaks delivery in OMA DM's words. One action of reconcile takes one answer of ours, or two: what was installed
// is read back in the next one, since a status 200 proves nothing about an import (windows.md section 3.1).
//
//	install          Atomic or Add ─→ Get Status, Thumbprint ─→ done or failed; see windowsscep.go for SCEP
//	remove           Delete ─→ done, by 404 too
//	list …           Get interior nodes and thumbprints ─→ both lists
//	removeEnrolment  Exec Unenroll: no status comes, the next session says alert 1226
type Windows struct {
	Service *Service
	// ProviderID is what the provisioning document called us.
	ProviderID string
}

// loggedOn is the LoginStatus that opens ./User.
const loggedOn = "user"

// Exchange takes what the device answered to our last message and gives the commands of the next one, numbered from
// first; none: the session is over. It keeps in s.State what those commands wait for. pending counts the documents that
// will come by themselves.
func (d *Windows) Exchange(ctx context.Context, enr model.Enrolment, s *model.Session, answers syncml.Answers, first int) (commands []syncml.Command, pending int, err error) {
	f := readFlight(s.State)
	s.State = nil
	landed := f.answered(answers)
	report, next, err := reconcile.Report{Outcome: reconcile.OutcomeIdle}, f.askedAgain(), error(nil)
	if landed {
		report, next, err = d.land(ctx, enr, f, answers)
	}
	if err == nil && next == nil {
		report.UserAbsent = s.Login != loggedOn
		next, pending, err = d.step(ctx, enr, report, landedList(f, landed, answers))
	}
	if err != nil || next == nil {
		return nil, pending, err
	}
	commands = next.number(first)
	s.State, err = json.Marshal(next)
	if err != nil {
		return nil, 0, fmt.Errorf("keep what the commands wait for: %w", err)
	}
	return commands, pending, nil
}

// step asks for the next action until one can be written. A document that cannot is put down as failed, so that it never
// blocks the others; what needs no command is done already. lists is what a certificate list can be read from, if the
// device has just given the lists.
func (d *Windows) step(ctx context.Context, enr model.Enrolment, report reconcile.Report, lists *reading) (*flight, int, error) {
	away := report.UserAbsent
	for range renderTries {
		result, err := d.Service.Step(ctx, enr, report)
		if err != nil || result.Action == nil {
			return nil, result.Pending, err
		}
		act := *result.Action
		if act.Kind == reconcile.ActionListCertificates && lists != nil { // the same answer tells
			if report, err = d.inventory(ctx, enr, act, *lists); err != nil {
				return nil, 0, err
			}
			continue
		}
		f, err := d.takeOff(ctx, enr, act)
		var bad *unwritable
		switch {
		case errors.As(err, &bad):
			report = reconcile.Report{Outcome: reconcile.OutcomeFailed, CommandUUID: act.UUID, Error: bad.Error(),
				Reason: platforms.ReasonRenderFailed, UserAbsent: away}
		case err != nil:
			return nil, 0, err
		case len(f.commands) == 0:
			report = reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: act.UUID, UserAbsent: away}
		default:
			return f, result.Pending, nil
		}
	}
	return nil, 0, fmt.Errorf("enrolment %s: %d documents in a row could not be written", enr.ID, renderTries)
}

// takeOff turns an action into commands.
func (d *Windows) takeOff(ctx context.Context, enr model.Enrolment, act reconcile.Action) (*flight, error) {
	f := &flight{Action: act.Kind, UUID: act.UUID}
	switch act.Kind {
	case reconcile.ActionInstall:
		if windows.IsSCEP(act.Document) {
			return looking(act), nil
		}
		replace, err := d.stands(ctx, enr, act.Document)
		if err != nil {
			return nil, err
		}
		return f, f.install(act.Document, act.Payload, replace)
	case reconcile.ActionRemove:
		f.commands = windows.Remove(act.Identifier)
	case reconcile.ActionListDocuments, reconcile.ActionListCertificates:
		docs, err := d.Service.documents(ctx, enr.ID)
		if err != nil {
			return nil, err
		}
		f.get(append(windows.InventoryURIs(), windows.InventoryFor(docs)...))
	case reconcile.ActionAskFacts:
		f.get(windows.FactURIs())
	case reconcile.ActionErase:
		f.commands = windows.Wipe()
	case reconcile.ActionRemoveEnrolment:
		f.commands = windows.Unenroll(d.ProviderID)
	default:
		return nil, fmt.Errorf("no OMA DM command for action %s", act.Kind)
	}
	return f, nil
}

// stands tells whether the device has, as far as we know, something else under the document's identifier. It has to go
// first: nodes of a former revision would stay beside the new ones.
func (d *Windows) stands(ctx context.Context, enr model.Enrolment, doc platforms.Document) (bool, error) {
	snap, err := d.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return false, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	if proof, listed := snap.Inventory.Profiles[doc.Identifier]; listed && proof != doc.Proof {
		return true, nil
	}
	for _, s := range snap.Documents {
		if s.Document.ID == doc.ID && s.InstalledRevision != "" && s.Identifier() == doc.Identifier && s.InstalledProof != doc.Proof {
			return true, nil
		}
	}
	return false, nil
}

// land turns the answers to a flight into a report, or into the next stage of the same action.
func (d *Windows) land(ctx context.Context, enr model.Enrolment, f *flight, answers syncml.Answers) (reconcile.Report, *flight, error) {
	report := reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: f.UUID}
	switch f.Action {
	case reconcile.ActionInstall:
		if f.Stage != "" {
			return d.landAsked(ctx, enr, f, answers)
		}
		return d.landInstall(ctx, enr, f, answers)
	case reconcile.ActionListDocuments, reconcile.ActionListCertificates:
		report, err := d.inventory(ctx, enr, reconcile.Action{Kind: f.Action, UUID: f.UUID}, f.read(answers))
		return report, nil, err
	case reconcile.ActionAskFacts:
		facts := windows.ReadFacts(f.values(answers))
		report.Facts = &reconcile.Facts{Name: facts.Name, Model: facts.Model, OSVersion: facts.OSVersion, SerialNumber: facts.SerialNumber}
	default:
		report.Error, report.Absent = f.failure(answers)
	}
	if report.Error != "" {
		report.Outcome = reconcile.OutcomeFailed
	}
	return report, nil, nil
}

// landInstall: after the commands comes the reading back, and only what is read back counts. Nodes that were there
// already, and are not what was delivered, are deleted and delivered once more.
func (d *Windows) landInstall(ctx context.Context, enr model.Enrolment, f *flight, answers syncml.Answers) (reconcile.Report, *flight, error) {
	report := reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: f.UUID}
	if !f.Reading {
		return report, f.readBack(answers), nil
	}
	values := f.values(answers)
	err := windows.Judge(f.Checks, values)
	if err == nil {
		return report, nil, nil
	}
	if f.Exists && !f.Replacing {
		next, failed := d.again(ctx, enr, f)
		if next != nil || failed != nil {
			return report, next, failed
		}
	}
	report.Outcome, report.Error = reconcile.OutcomeFailed, err.Error()
	if len(values) == 0 && f.Failure != "" {
		report.Error = f.Failure
	}
	return report, nil, nil
}

// again delivers the same revision once more over what is there; nil when the plan has moved on since, or when it cannot be
// written any more.
func (d *Windows) again(ctx context.Context, enr model.Enrolment, f *flight) (*flight, error) {
	snap, err := d.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return nil, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	for _, doc := range snap.Documents {
		if doc.Document.ID != f.Document || doc.Document.Revision != f.Revision || (doc.Document.HasSecrets() && len(doc.Payload) == 0) {
			continue
		}
		next := &flight{Action: f.Action, UUID: f.UUID}
		if next.install(doc.Document, doc.Payload, true) == nil {
			return next, nil
		}
	}
	return nil, nil
}

// inventory is the report of one of the two lists. A node that could not be read is no proof that a document is gone, so
// such a list counts as refused.
func (d *Windows) inventory(ctx context.Context, enr model.Enrolment, act reconcile.Action, r reading) (reconcile.Report, error) {
	snap, err := d.Service.c.Store.Snapshot(ctx, enr.ID)
	if err != nil {
		return reconcile.Report{}, fmt.Errorf("read enrolment %s: %w", enr.ID, err)
	}
	docs := documentsOf(snap)
	report := reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: act.UUID}
	switch {
	case r.hides(docs) != "":
		report.Outcome, report.Error = reconcile.OutcomeFailed, "the PC does not let "+r.hides(docs)+" be read"
	case act.Kind == reconcile.ActionListDocuments:
		report.Documents = windows.Documents(r.values)
	default:
		report.Certificates = windows.Certificates(docs, r.values)
		addAsked(report.Certificates, snap, r.values)
	}
	return report, nil
}

// documents reads documentsOf an enrolment.
func (s *Service) documents(ctx context.Context, enrolmentID string) ([]platforms.Document, error) {
	snap, err := s.c.Store.Snapshot(ctx, enrolmentID)
	if err != nil {
		return nil, fmt.Errorf("read enrolment %s: %w", enrolmentID, err)
	}
	return documentsOf(snap), nil
}

// documentsOf are those that the device has, or had until just now, by what is installed: the plan may have moved on. A
// renewed certificate has another node then, and a document that waits has none.
func documentsOf(snap Snapshot) []platforms.Document {
	var docs []platforms.Document
	for _, d := range snap.Documents {
		doc := d.Document
		if d.InstalledRevision != doc.Revision {
			doc.Certificates = d.InstalledCredentials
		}
		doc.Identifier, doc.Proof, doc.Reason = d.Identifier(), d.InstalledProof, ""
		if d.InstalledRevision != "" {
			docs = append(docs, doc)
		}
	}
	return docs
}
