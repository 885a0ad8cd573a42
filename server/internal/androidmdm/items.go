package androidmdm

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// state answers with the desired state; with ?wait=SECONDS it waits for one that is not the known generation. What
// changed is looked for in the database, since another node may have changed it.
func (e *Endpoint) state(ctx context.Context, c call) (any, error) {
	known, wait, err := polled(c.request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(wait, time.Nanosecond))
	defer cancel()
	ticks, stop := e.cfg.Ticks()
	defer stop()
	for {
		state, changed, err := e.cfg.Delivery.State(context.WithoutCancel(ctx), c.enr, known)
		if err != nil {
			return nil, err
		}
		if changed {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return unchanged{}, nil
		case <-ticks:
		}
		if c.enr, err = e.again(ctx, c); err != nil {
			return nil, err
		}
	}
}

func polled(r *http.Request) (known string, wait time.Duration, err error) {
	query := r.URL.Query()
	if known = query.Get("generation"); known == "" {
		known = strings.Trim(r.Header.Get("If-None-Match"), `"`)
	}
	if text := query.Get("wait"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 {
			return "", 0, refuse(companion.CodeMalformed, "wait is a number of seconds, 0 to 55")
		}
		wait = min(time.Duration(seconds)*time.Second, maxPoll)
	}
	return known, wait, nil
}

// again reads the enrolment of a waiting device anew: it may have changed, or ended.
func (e *Endpoint) again(ctx context.Context, c call) (model.Enrolment, error) {
	credential := strings.TrimPrefix(c.request.Header.Get("Authorization"), "Bearer ")
	enr, err := e.cfg.Identity.Bearer(context.WithoutCancel(ctx), credential)
	if err == nil && enr.State == model.EnrolmentEnded {
		err = refuse(companion.CodeEnded, "the enrolment of this device is over")
	}
	return enr, err
}

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

// events are written down; what they changed, the inventory tells.
func (e *Endpoint) events(ctx context.Context, c call) (any, error) {
	list, err := companion.DecodeEvents(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	for _, ev := range list {
		e.cfg.Logger.InfoContext(ctx, "something happened on a device", "event", ev.Type, "package", ev.Package, "enrolment", c.enr.ID, "request", web.RequestID(ctx))
	}
	return struct{}{}, nil
}

func (e *Endpoint) unenroll(ctx context.Context, c call) (any, error) {
	if _, err := companion.DecodeUnenroll(c.body); err != nil {
		return nil, malformed(err)
	}
	err := e.cfg.Identity.CheckOut(ctx, c.enr)
	e.cfg.Kick() // certificates may have to be revoked
	return struct{}{}, err
}
