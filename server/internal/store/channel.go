package store

import (
	"context"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

// OpenUserChannel implements identity.Store.
func (db *DB) OpenUserChannel(ctx context.Context, u model.Enrolment, now time.Time, audit model.AuditEntry) (e model.Enrolment, err error) {
	err = db.write(ctx, "opening a user channel", func(t *tx) error {
		holder, err := find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, u.HolderID)
		if err != nil {
			return err
		}
		if holder.State != model.EnrolmentActive {
			return fmt.Errorf("user channel of an enrolment in state %s: %w", holder.State, model.ErrConflict)
		}
		e, err = find(t, enrolments(), `WHERE holder_id = $1 AND channel = 'user' AND state <> 'ended'`, u.HolderID)
		switch {
		case err == nil && e.ExternalID != u.ExternalID:
			return fmt.Errorf("another user of the device has its channel: %w", model.ErrConflict)
		case err == nil:
			return t.updateUserChannel(&e, u, now)
		case !isAbsent(err):
			return err
		}
		e = model.Enrolment{ID: u.ID, DeviceID: holder.DeviceID, UserID: holder.UserID, Platform: holder.Platform, Channel: model.ChannelUser,
			HolderID: holder.ID, ExternalID: u.ExternalID, State: model.EnrolmentActive, Certificate: holder.Certificate,
			CertSHA256: holder.CertSHA256, PushToken: u.PushToken, PushMagic: u.PushMagic, PushTopic: u.PushTopic,
			MustReenroll: u.MustReenroll, Version: 1, Dirty: true, LastSeen: now}
		if err := put(t, enrolments(), enrolments().insert(), e); err != nil {
			return err
		}
		if err := t.do(`UPDATE enrolments SET created_at = $1 WHERE id = $2`, now, e.ID); err != nil {
			return err
		}
		return t.audit(audit)
	})
	return e, err
}

func (t *tx) updateUserChannel(e *model.Enrolment, u model.Enrolment, now time.Time) error {
	e.PushToken, e.PushMagic, e.PushTopic, e.MustReenroll, e.Dirty = u.PushToken, u.PushMagic, u.PushTopic, u.MustReenroll, true
	e.Version++
	return t.do(`UPDATE enrolments SET push_token = $1, push_magic = $2, push_topic = $3, must_reenroll = $4, dirty = TRUE,
		version = version + 1, last_seen = $5, push_failed_at = 0, push_failure = '' WHERE id = $6`,
		u.PushToken, u.PushMagic, u.PushTopic, u.MustReenroll, now, e.ID)
}

// UserChannel implements identity.Store.
func (db *DB) UserChannel(ctx context.Context, holderID string) (e model.Enrolment, err error) {
	err = db.look(ctx, "looking for a user channel", func(t *tx) error {
		e, err = find(t, enrolments(), `WHERE holder_id = $1 AND holder_id <> '' AND channel = 'user' AND state <> 'ended'`, holderID)
		return err
	})
	return e, err
}

// ended takes back what was to be done for an enrolment that a decision ended, and lets the other channel follow: with the device channel the user's is over, and when the
// user's is empty the device channel goes on with the end. With the device channel the device's own certificate goes, too; of those that were issued the decision speaks.
func (t *tx) ended(d delivery.Decision) error {
	if d.Enrolment == nil || d.Enrolment.State != model.EnrolmentEnded {
		return nil
	}
	if err := t.obsolete(`enrolment_id = $1 AND kind <> 'revoke' AND state IN ('open', 'leased', 'failed')`, d.EnrolmentID); err != nil {
		return err
	}
	if d.Enrolment.Channel == model.ChannelUser {
		return t.dirtyEnrolment(d.Enrolment.HolderID)
	}
	state, err := one[model.DeviceState](t, `SELECT state FROM devices WHERE id = $1`, d.Enrolment.DeviceID)
	if err != nil && !isAbsent(err) {
		return err
	}
	event := profiles.EventRetire
	if state == model.DeviceWiping {
		event = profiles.EventWipe
	}
	if err := t.endThose(*d.Enrolment, ` AND kind = 'deviceIdentity'`, event, d.Seen); err != nil {
		return err
	}
	return t.endUserChannels(*d.Enrolment, event, d.Seen)
}
