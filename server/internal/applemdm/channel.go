package applemdm

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// Bootstrap keeps the bootstrap tokens of Macs, by device id; an empty token takes it back, and none gives nil.
type Bootstrap interface {
	SetBootstrapToken(ctx context.Context, deviceID string, token []byte) error
	BootstrapToken(ctx context.Context, deviceID string) ([]byte, error)
}

// userChannel answers on the second channel of a Mac. The first user that speaks has it; others of the same Mac, and
// users of shared iPads, are not managed: 410 to their logon, nothing else.
func (e *Endpoint) userChannel(ctx context.Context, w http.ResponseWriter, s message, msg mdm.Message) error {
	switch m := msg.(type) {
	case *mdm.TokenUpdate:
		return e.userToken(ctx, s, m)
	case *mdm.UserAuthenticate:
		return e.userLogon(ctx, w, s, m)
	case *mdm.CheckOut:
		return nil // the device channel says goodbye for both
	}
	return unanswered(msg)
}

func (e *Endpoint) userToken(ctx context.Context, s message, m *mdm.TokenUpdate) error {
	if s.enr.Platform != profiles.MacOS {
		return nil
	}
	if len(m.Token) == 0 || m.PushMagic == "" || m.Topic == "" {
		return e.unparsed(ctx, s, "checkin", errors.New("TokenUpdate without Token, PushMagic or Topic"))
	}
	push := identity.Push{Token: m.Token, Magic: m.PushMagic, Topic: m.Topic}
	_, err := e.cfg.Identity.OpenUserChannel(ctx, s.enr, m.From().ID(), push, e.cfg.PushTopic)
	if errors.Is(err, model.ErrConflict) && s.enr.State == model.EnrolmentActive {
		e.cfg.Refusals.Note(ctx, actor(s.enr.ID), "mdm.userChannel", s.enr.ID, "another user of this Mac has the user channel; this one is not managed", nil)
		return nil
	}
	if err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	e.cfg.Kick()
	return nil
}

// userLogon answers UserAuthenticate, which Macs send for users of a directory: an empty challenge asks for no password.
func (e *Endpoint) userLogon(ctx context.Context, w http.ResponseWriter, s message, m *mdm.UserAuthenticate) error {
	if s.enr.Platform != profiles.MacOS {
		return web.Errorf(http.StatusGone, "users of this device are not managed")
	}
	known, err := e.cfg.Identity.UserChannel(ctx, s.enr)
	switch {
	case err != nil && !errors.Is(err, model.ErrNotFound):
		return e.refused(ctx, s.enr.ID, err)
	case err == nil && known.ExternalID != m.From().ID():
		return web.Errorf(http.StatusGone, "this user of the Mac is not managed; another one is")
	}
	answer, token := &mdm.UserAuthenticateAnswer{DigestChallenge: new(string)}, s.enr.ID
	if m.DigestResponse != "" {
		answer = &mdm.UserAuthenticateAnswer{AuthToken: &token}
	}
	return propertyList(w, answer)
}

// bootstrapToken keeps or returns what a Mac lets its management server use to authorise installs.
func (e *Endpoint) bootstrapToken(ctx context.Context, w http.ResponseWriter, s message, msg mdm.Message) error {
	if e.cfg.Bootstrap == nil || s.enr.DeviceID == "" {
		return nil
	}
	if m, ok := msg.(*mdm.SetBootstrapToken); ok {
		if err := e.cfg.Bootstrap.SetBootstrapToken(ctx, s.enr.DeviceID, m.BootstrapToken); err != nil {
			return e.refused(ctx, s.enr.ID, err)
		}
		return nil
	}
	token, err := e.cfg.Bootstrap.BootstrapToken(ctx, s.enr.DeviceID)
	if err != nil {
		return e.refused(ctx, s.enr.ID, err)
	}
	if len(token) == 0 {
		return nil
	}
	return propertyList(w, &mdm.BootstrapTokenAnswer{BootstrapToken: token})
}

func propertyList[A mdm.Answer](w http.ResponseWriter, a A) error {
	body, err := mdm.EncodeAnswer(a)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // lost on the way: the Mac asks again
	return nil
}

// userReport finds the enrolment of a report on the user channel; false: that user is not managed.
func (e *Endpoint) userReport(ctx context.Context, s message, from mdm.Enrollment) (model.Enrolment, bool, error) {
	if s.enr.Platform != profiles.MacOS {
		return model.Enrolment{}, false, nil
	}
	u, err := e.cfg.Identity.UserChannel(ctx, s.enr)
	if errors.Is(err, model.ErrNotFound) {
		return u, false, nil
	}
	if err != nil {
		return u, false, e.refused(ctx, s.enr.ID, err)
	}
	return u, u.ExternalID == from.ID(), nil
}
