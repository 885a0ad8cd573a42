package identity

import (
	"context"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Push is what wakes a channel of an Apple device (TokenUpdate).
type Push struct {
	Token        []byte
	Magic, Topic string
}

// OpenUserChannel makes the second channel of a Mac, for the user of externalID ("UDID:UserID"), or takes its new push
// values. The first user that speaks has it, since a Mac that was enrolled by a profile manages the user who installed
// that. model.ErrConflict: it is another user. current is the push certificate's topic, as for TokenUpdate.
func (s *Service) OpenUserChannel(ctx context.Context, device model.Enrolment, externalID string, p Push, current string) (model.Enrolment, error) {
	id, err := s.newID()
	if err != nil {
		return model.Enrolment{}, err
	}
	now := s.cfg.Clock()
	u := model.Enrolment{ID: id, HolderID: device.ID, ExternalID: externalID, PushToken: p.Token, PushMagic: p.Magic, PushTopic: p.Topic,
		MustReenroll: current != "" && p.Topic != current}
	audit := model.AuditEntry{At: now, Actor: "enrolment " + device.ID, Action: "device.userChannel", Object: device.DeviceID, Outcome: "ok",
		Detail: map[string]string{"user": device.UserID}}
	return s.cfg.Store.OpenUserChannel(ctx, u, now, audit)
}

// UserChannel is the living user channel of a Mac's device channel; model.ErrNotFound.
func (s *Service) UserChannel(ctx context.Context, device model.Enrolment) (model.Enrolment, error) {
	return s.cfg.Store.UserChannel(ctx, device.ID)
}
