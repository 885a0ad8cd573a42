package main

import (
	"context"
	"slices"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// preview decides about an enrolment as if its device said Idle now, and keeps nothing of it: explain shows it, so that
// what an admin changed a minute ago counts though the device has not been here since.
func (s *server) preview(ctx context.Context, enrolmentID string) ([]model.DocumentState, error) {
	snapshot, err := s.db.Snapshot(ctx, enrolmentID)
	if err != nil {
		return nil, err
	}
	away := slices.ContainsFunc(snapshot.Documents, func(d model.DocumentState) bool { return d.Reason == platforms.ReasonUserNotLoggedOn })
	result := reconcile.Decide(reconcile.Input{Snapshot: snapshot, Report: reconcile.Report{Outcome: reconcile.OutcomeIdle, UserAbsent: away},
		Settings: s.reconcileSettings(), Now: s.Clock(), Plan: planners()[snapshot.Enrolment.Platform], CanDecrypt: canDecrypt(snapshot.Enrolment.Certificate), NewUUID: newUUID,
		Together: snapshot.Enrolment.Platform == profiles.Android})
	return merge(snapshot, result), nil
}

// merge lays a decision over what is stored. A command that was only decided now has not been sent: its document is ready.
func merge(snapshot delivery.Snapshot, result reconcile.Result) []model.DocumentState {
	documents := slices.Clone(snapshot.Documents)
	documents = slices.DeleteFunc(documents, func(d model.DocumentState) bool { return slices.Contains(result.Decision.Forget, d.Document.ID) })
	for _, d := range result.Decision.Documents {
		i := slices.IndexFunc(documents, func(old model.DocumentState) bool { return old.Document.ID == d.Document.ID })
		switch {
		case i < 0:
			documents = append(documents, unsent(model.DocumentState{}, d))
		default:
			documents[i] = unsent(documents[i], d)
		}
	}
	documents = append(documents, result.Decision.Records...)
	for i := range documents {
		documents[i].Payload = nil
		notSeen(&documents[i], snapshot)
	}
	return documents
}

func unsent(before, after model.DocumentState) model.DocumentState {
	if after.Status == model.DocumentSent && before.Status != model.DocumentSent {
		after.Status = model.DocumentReady
		after.Attempts = before.Attempts
	}
	return after
}

// notSeen says why a document that could go out is still here.
func notSeen(d *model.DocumentState, snapshot delivery.Snapshot) {
	if d.Status != model.DocumentReady || d.Detail != "" {
		return
	}
	d.Detail = "it goes out when the device connects, which it never did"
	if seen := snapshot.Device.LastSeen; !seen.IsZero() {
		d.Detail = "it goes out when the device connects; it was last here at " + seen.UTC().Format(time.RFC3339)
	}
	if d.Reason == "" {
		d.Reason = platforms.ReasonNotSeen
	}
}
