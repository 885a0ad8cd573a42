package applemdm

import (
	"context"
	"errors"
	"net/http"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// checkin serves the messages of apple.md section 2. An empty 200 is the answer to most.
func (e *Endpoint) checkin(w http.ResponseWriter, r *http.Request) error {
	s, err := e.authenticate(r)
	if err != nil {
		return err
	}
	msg, err := mdm.DecodeCheckin(s.body)
	if s.enr.State == model.EnrolmentEnded {
		if _, again := msg.(*mdm.CheckOut); again && err == nil {
			return nil
		}
		return e.ended(w, r, s.enr)
	}
	if err != nil {
		return e.unparsed(r.Context(), s, "checkin", err)
	}
	if first, ok := msg.(*mdm.Authenticate); ok {
		return e.first(r.Context(), s, first)
	}
	if err := belongs(s.enr, msg.From()); err != nil {
		return e.refused(r.Context(), s.enr.ID, err)
	}
	if msg.From().IsUser() {
		return e.userChannel(r.Context(), w, s, msg)
	}
	return e.deviceChannel(r.Context(), w, s, msg)
}

func (e *Endpoint) deviceChannel(ctx context.Context, w http.ResponseWriter, s message, msg mdm.Message) error {
	switch m := msg.(type) {
	case *mdm.TokenUpdate:
		return e.tokenUpdate(ctx, s, m)
	case *mdm.CheckOut:
		if err := e.cfg.Identity.CheckOut(ctx, s.enr); err != nil {
			return e.refused(ctx, s.enr.ID, err)
		}
		e.cfg.Kick() // certificates may have to be revoked
		return nil
	case *mdm.SetBootstrapToken, *mdm.GetBootstrapToken:
		return e.bootstrapToken(ctx, w, s, msg)
	case *mdm.UserAuthenticate:
		return e.userLogon(ctx, w, s, m)
	}
	return unanswered(msg)
}

// unanswered is for what we never announced: GetToken, declarative management, and message types after our time.
func unanswered(msg mdm.Message) error {
	return web.Errorf(http.StatusNotFound, "this server does not answer %.64q messages", msg.Type())
}

// first binds the enrolment to the device that speaks.
func (e *Endpoint) first(ctx context.Context, s message, m *mdm.Authenticate) error {
	id := m.From().DeviceID()
	if id == "" || m.From().IsUser() {
		return e.refused(ctx, s.enr.ID, &identity.Refusal{Reason: "Authenticate names no UDID or EnrollmentID of a device"})
	}
	if s.enr.ExternalID != "" && s.enr.ExternalID != id {
		return e.refused(ctx, s.enr.ID, belongs(s.enr, m.From()))
	}
	facts := model.Device{ExternalID: cut(id), Name: cut(m.DeviceName), Model: cut(m.ProductName), OSVersion: cut(m.OSVersion),
		SerialNumber: cut(m.SerialNumber), IMEI: cut(m.IMEI)}
	if m.Model != "" && facts.Model == "" {
		facts.Model = cut(m.Model)
	}
	if err := e.refuseOther(ctx, s.enr, facts.Model); err != nil {
		return err
	}
	enr, err := e.cfg.Identity.Authenticate(ctx, s.enr, facts)
	if errors.Is(err, model.ErrConflict) {
		err = &identity.Refusal{Reason: "the certificate is bound to another device than the message names"}
	}
	if err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	if e.cfg.Bootstrap == nil {
		return nil
	}
	// A token from before is worth nothing to a device that begins anew (apple.md section 2).
	if err := e.cfg.Bootstrap.SetBootstrapToken(ctx, enr.DeviceID, nil); err != nil {
		return e.refused(ctx, enr.ID, err)
	}
	return nil
}

// cut bounds what a device says about itself.
func cut(s string) string {
	const most = 255
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}

func (e *Endpoint) tokenUpdate(ctx context.Context, s message, m *mdm.TokenUpdate) error {
	if len(m.Token) == 0 || m.PushMagic == "" || m.Topic == "" {
		return e.unparsed(ctx, s, "checkin", errors.New("TokenUpdate without Token, PushMagic or Topic"))
	}
	if err := e.cfg.Identity.TokenUpdate(ctx, s.enr, m.Token, m.PushMagic, m.Topic, e.cfg.PushTopic); err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	e.cfg.Kick()
	return nil
}
