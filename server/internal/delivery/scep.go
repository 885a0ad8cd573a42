package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Orders implements issuance.Orders.
func (s *Service) Orders(ctx context.Context, enrolmentID string) ([]link.CertifyJob, error) {
	snap, err := s.c.Store.Snapshot(ctx, enrolmentID)
	if err != nil {
		return nil, fmt.Errorf("read enrolment %s: %w", enrolmentID, err)
	}
	if snap.Enrolment.State == model.EnrolmentEnded || snap.Device.State != model.DeviceEnrolled {
		return nil, nil
	}
	return reconcile.Orders(snap, s.settings(snap.Enrolment.Platform), s.c.Clock()), nil
}

// challenges are those of a document that is about to be sent: each time others, since a challenge is good for one key
// and a device makes another key at each installation.
func (s *Service) challenges(ctx context.Context, enrolmentID string, doc platforms.Document) (map[string]string, error) {
	if len(doc.Challenges) == 0 {
		return nil, nil
	}
	if s.c.Mint == nil {
		return nil, errors.New("this server makes no SCEP challenges")
	}
	return s.c.Mint(ctx, enrolmentID, doc.Challenges)
}

// challenge puts challenges into render jobs: reconcile is pure and makes none.
func (s *Service) challenge(ctx context.Context, d *reconcile.Decision) error {
	for i, job := range d.Jobs {
		if job.Kind != link.JobRender {
			continue
		}
		var render link.RenderJob
		if err := json.Unmarshal(job.Payload, &render); err != nil {
			return fmt.Errorf("read the render job of %s: %w", job.DocumentID, err)
		}
		secrets, err := s.challenges(ctx, job.EnrolmentID, render.Document)
		if err != nil {
			return err
		}
		if len(secrets) == 0 {
			continue
		}
		render.Challenges = secrets
		if d.Jobs[i].Payload, err = json.Marshal(render); err != nil {
			return fmt.Errorf("write the render job of %s: %w", job.DocumentID, err)
		}
	}
	return nil
}
