package androidmdm

import (
	"context"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

func (e *Endpoint) payload(ctx context.Context, c call) (any, error) {
	req, err := companion.DecodePayloadRequest(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	answer, err := e.cfg.Delivery.Envelope(ctx, c.enr, c.item, req)
	if err != nil {
		return nil, err
	}
	entry := model.AuditEntry{At: e.cfg.Clock(), Actor: "device " + c.enr.DeviceID, Action: "key.fetch", Object: c.item, Outcome: "ok",
		Detail: map[string]string{"revision": req.Revision, "wrapKey": req.WrapKeyID}}
	return answer, e.cfg.Auditor.AppendAudit(ctx, entry)
}

func (e *Endpoint) status(ctx context.Context, c call) (any, error) {
	report, err := companion.DecodeStatusReport(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	if err := e.cfg.Delivery.Report(ctx, c.enr, c.item, report); err != nil {
		return nil, err
	}
	return companion.StatusResponse{AckSeq: report.Seq}, nil
}

func (e *Endpoint) inventory(ctx context.Context, c call) (any, error) {
	inv, err := companion.DecodeInventory(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	return struct{}{}, e.cfg.Delivery.Inventory(ctx, c.enr, inv)
}

// events are written down, and that an app is gone, since its grants go with it, in the audit log. What they changed, the
// inventory tells.
func (e *Endpoint) events(ctx context.Context, c call) (any, error) {
	list, err := companion.DecodeEvents(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	var kinds, gone []string
	for _, ev := range list {
		if !slices.Contains(kinds, ev.Type) && len(kinds) < maxNamed {
			kinds = append(kinds, ev.Type)
		}
		if ev.Type == companion.EventPackageRemoved && len(gone) < maxNamed {
			gone = append(gone, ev.Package)
		}
	}
	e.cfg.Logger.InfoContext(ctx, "something happened on a device", "events", len(list), "kinds", kinds, "enrolment", c.enr.ID, "request", web.RequestID(ctx))
	if len(gone) == 0 {
		return struct{}{}, nil
	}
	entry := model.AuditEntry{At: e.cfg.Clock(), Actor: "device " + c.enr.DeviceID, Action: "device.event", Object: companion.EventPackageRemoved,
		Outcome: "ok", Detail: map[string]string{"packages": strings.Join(gone, " ")}}
	return struct{}{}, e.cfg.Auditor.AppendAudit(ctx, entry)
}

// maxNamed bounds what one message can make us write.
const maxNamed = 20

func (e *Endpoint) unenroll(ctx context.Context, c call) (any, error) {
	if _, err := companion.DecodeUnenroll(c.body); err != nil {
		return nil, malformed(err)
	}
	err := e.cfg.Identity.CheckOut(ctx, c.enr)
	e.cfg.Kick() // certificates may have to be revoked
	return struct{}{}, err
}
