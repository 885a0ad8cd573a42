package store

import (
	"context"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// CreateLink implements identity.Store.
func (db *DB) CreateLink(ctx context.Context, l model.Link, audit model.AuditEntry) error {
	return db.write(ctx, "storing an enrolment link", func(t *tx) error {
		if err := put(t, links(), links().insert(), l); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// LinkByToken implements identity.Store.
func (db *DB) LinkByToken(ctx context.Context, tokenHash string) (l model.Link, err error) {
	err = db.look(ctx, "looking for an enrolment link", func(t *tx) error {
		l, err = find(t, links(), `WHERE token_hash = $1`, tokenHash)
		return err
	})
	return l, err
}

// CreateChallenge implements identity.Store.
func (db *DB) CreateChallenge(ctx context.Context, c model.Challenge) error {
	return db.write(ctx, "storing a SCEP challenge", func(t *tx) error {
		return put(t, challenges(), challenges().insert(), c)
	})
}

// ChallengeByHash implements identity.Store.
func (db *DB) ChallengeByHash(ctx context.Context, hash string) (c model.Challenge, err error) {
	err = db.look(ctx, "looking for a SCEP challenge", func(t *tx) error {
		c, err = find(t, challenges(), `WHERE hash = $1`, hash)
		return err
	})
	return c, err
}

// Redeem implements identity.Store.
func (db *DB) Redeem(ctx context.Context, challengeHash, keySHA256 string, job model.Job, now time.Time) (c model.Challenge, err error) {
	err = db.write(ctx, "redeeming a SCEP challenge", func(t *tx) error {
		c, err = find(t, challenges(), `WHERE hash = $1`+db.dialect.ForUpdate, challengeHash)
		if err != nil {
			return err
		}
		if c.KeySHA256 != "" && c.KeySHA256 != keySHA256 {
			return fmt.Errorf("challenge, by another key: %w", model.ErrSpent)
		}
		if c.KeySHA256 != "" && c.Certificate != nil {
			return nil
		}
		if err := t.linkUsable(c, now); err != nil || c.KeySHA256 != "" {
			return err
		}
		if now.After(c.ExpiresAt) {
			return fmt.Errorf("challenge: %w", model.ErrExpired)
		}
		if err := t.overtake(c); err != nil {
			return err
		}
		if c.JobID, err = t.createJob(job); err != nil {
			return err
		}
		c.KeySHA256 = keySHA256
		return t.do(`UPDATE challenges SET key_sha256 = $1, job_id = $2 WHERE hash = $3`, keySHA256, c.JobID, challengeHash)
	})
	return c, err
}

// overtake takes back the requests of the same link that no connector has begun: who downloaded the profile again gave the
// former one up, and its certificate must not spend the link.
func (t *tx) overtake(c model.Challenge) error {
	return t.obsolete(`kind = 'identity' AND state = 'open' AND id IN (SELECT job_id FROM challenges WHERE link_id = $1 AND job_id <> '')`, c.LinkID)
}

// linkUsable refuses a link that another challenge has spent, and for a new key one that is too old.
func (t *tx) linkUsable(c model.Challenge, now time.Time) error {
	l, err := find(t, links(), `WHERE id = $1`+t.db.dialect.ForUpdate, c.LinkID)
	if err != nil {
		return fmt.Errorf("enrolment link: %w", err)
	}
	if !l.SpentAt.IsZero() {
		return fmt.Errorf("enrolment link: %w", model.ErrSpent)
	}
	if c.KeySHA256 == "" && now.After(l.ExpiresAt) {
		return fmt.Errorf("enrolment link: %w", model.ErrExpired)
	}
	return nil
}

// EnrolmentByCertificate implements identity.Store.
func (db *DB) EnrolmentByCertificate(ctx context.Context, certSHA256 string) (e model.Enrolment, err error) {
	err = db.look(ctx, "looking for a certificate's enrolment", func(t *tx) error {
		e, err = find(t, enrolments(), `WHERE cert_sha256 = $1 AND channel = 'device'`, certSHA256)
		if isAbsent(err) {
			e, err = find(t, enrolments(), `WHERE next_cert_sha256 = $1 AND next_cert_sha256 <> ''`, certSHA256)
		}
		return err
	})
	return e, err
}

// Authenticate implements identity.Store.
func (db *DB) Authenticate(ctx context.Context, bound model.Enrolment, d model.Device, audit model.AuditEntry) (e model.Enrolment, err error) {
	err = db.write(ctx, "binding an enrolment to its device", func(t *tx) error {
		e, err = find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, bound.ID)
		if err != nil {
			return err
		}
		switch {
		case e.State == model.EnrolmentEnded:
			return fmt.Errorf("the enrolment has ended: %w", model.ErrConflict)
		case e.ExternalID != "" && e.ExternalID != bound.ExternalID:
			return fmt.Errorf("the enrolment is bound to another device: %w", model.ErrConflict)
		case e.ExternalID != "":
			err = t.authenticateAgain(e, d)
		default:
			e.ExternalID, e.CertStore = bound.ExternalID, bound.CertStore
			e, err = t.bindDevice(e, d, audit.At)
		}
		if err != nil {
			return err
		}
		return t.audit(audit)
	})
	return e, err
}

// authenticateAgain: the device begins anew, by the enrolment that it has (a restored backup, or an answer that was lost).
// What it holds, a Mac's user included, must be asked before anything counts.
func (t *tx) authenticateAgain(e model.Enrolment, d model.Device) error {
	channels, err := values[string](t, `SELECT id FROM enrolments WHERE id = $1 OR (holder_id = $1 AND state <> 'ended') ORDER BY id`, e.ID)
	if err != nil {
		return err
	}
	for _, id := range channels {
		if err := t.do(`DELETE FROM inventories WHERE enrolment_id = $1`, id); err != nil {
			return err
		}
		if err := t.dirtyEnrolment(id); err != nil {
			return err
		}
	}
	return t.updateFacts(e.DeviceID, d)
}

// updateFacts stores what a device says of itself; what it leaves out stays.
func (t *tx) updateFacts(deviceID string, d model.Device) error {
	d.ID = deviceID
	for column, value := range map[string]string{"name": d.Name, "model": d.Model, "os_version": d.OSVersion,
		"serial_number": d.SerialNumber, "imei": d.IMEI} {
		if value == "" {
			continue
		}
		if err := t.do(`UPDATE devices SET `+column+` = $1 WHERE id = $2`, value, deviceID); err != nil {
			return err
		}
	}
	return t.do(`UPDATE devices SET last_seen = $1 WHERE id = $2 AND last_seen < $1`, d.LastSeen, deviceID)
}

// bindDevice ties a new enrolment to the device that speaks, and ends what the device had before.
func (t *tx) bindDevice(e model.Enrolment, d model.Device, now time.Time) (model.Enrolment, error) {
	if err := t.displace(e, d, now); err != nil {
		return e, err
	}
	id, err := t.ownDevice(e, d, now)
	if err != nil {
		return e, err
	}
	others, err := list(t, enrolments(), `WHERE device_id = $1 AND channel = $2 AND id <> $3 AND state <> 'ended' ORDER BY id`+t.db.dialect.ForUpdate, id, e.Channel, e.ID)
	if err != nil {
		return e, err
	}
	for _, other := range others {
		if err := t.endEnrolment(other, profiles.EventUnenroll, now); err != nil {
			return e, err
		}
		if err := t.audit(replaced(e, "enrolment.replaced", other.ID, other.UserID, now)); err != nil {
			return e, err
		}
	}
	e.DeviceID, e.State, e.Version = id, model.EnrolmentAuthenticated, e.Version+1
	if err := t.do(`UPDATE certificates SET device_id = $1 WHERE enrolment_id = $2`, id, e.ID); err != nil {
		return e, err
	}
	return e, t.do(`UPDATE enrolments SET device_id = $1, external_id = $2, cert_store = $3, state = $4, version = version + 1 WHERE id = $5`,
		id, e.ExternalID, e.CertStore, e.State, e.ID)
}

// ownDevice finds or makes the user's row of the device.
func (t *tx) ownDevice(e model.Enrolment, d model.Device, now time.Time) (string, error) {
	id, err := one[string](t, `SELECT id FROM devices WHERE platform = $1 AND external_id = $2 AND user_id = $3`+t.db.dialect.ForUpdate, e.Platform, d.ExternalID, e.UserID)
	if err == nil {
		if err := t.do(`UPDATE devices SET state = 'enrolled', removal = '', state_at = $1 WHERE id = $2`, now, id); err != nil {
			return "", err
		}
		return id, t.updateFacts(id, d)
	}
	if !isAbsent(err) {
		return "", err
	}
	d.UserID, d.Platform, d.State, d.Removal, d.StateAt = e.UserID, e.Platform, model.DeviceEnrolled, "", now
	if d.ID == "" {
		d.ID = t.db.newID()
	}
	if d.CreatedAt.IsZero() {
		d.CreatedAt = now
	}
	return d.ID, put(t, devices(), devices().insert(), d)
}

// replaced says who took the place of whom: a device says itself which one it is.
func replaced(by model.Enrolment, action, object, former string, now time.Time) model.AuditEntry {
	return model.AuditEntry{At: now, Actor: "enrolment " + by.ID, Action: action, Object: object, Outcome: "ok",
		Detail: map[string]string{"user": by.UserID, "former": former}}
}

// displace lets the device leave its former users: nobody saw their keys go, so it is unconfirmed.
func (t *tx) displace(e model.Enrolment, d model.Device, now time.Time) error {
	former, err := list(t, devices(), `WHERE platform = $1 AND external_id = $2 AND user_id <> $3 AND state <> 'left' ORDER BY id`+t.db.dialect.ForUpdate,
		e.Platform, d.ExternalID, e.UserID)
	if err != nil {
		return err
	}
	for _, f := range former {
		if err := t.leave(f.ID, model.RemovalUnconfirmed, profiles.EventUnenroll, now); err != nil {
			return err
		}
		if err := t.audit(replaced(e, "device.displaced", f.ID, f.UserID, now)); err != nil {
			return err
		}
	}
	return nil
}

// TokenUpdate implements identity.Store.
func (db *DB) TokenUpdate(ctx context.Context, enrolmentID string, pushToken []byte, magic, topic string, mustReenroll bool, now time.Time) error {
	return db.write(ctx, "storing push values", func(t *tx) error {
		state, err := one[model.EnrolmentState](t, `SELECT state FROM enrolments WHERE id = $1`+db.dialect.ForUpdate, enrolmentID)
		if err != nil {
			return err
		}
		if state != model.EnrolmentAuthenticated && state != model.EnrolmentActive {
			return fmt.Errorf("TokenUpdate for an enrolment in state %s: %w", state, model.ErrConflict)
		}
		return t.do(`UPDATE enrolments SET push_token = $1, push_magic = $2, push_topic = $3, must_reenroll = $4, state = 'active',
			dirty = TRUE, version = version + 1, last_seen = $5, push_failed_at = 0, push_failure = '' WHERE id = $6`,
			pushToken, magic, topic, mustReenroll, now, enrolmentID)
	})
}

// CheckOut implements identity.Store.
func (db *DB) CheckOut(ctx context.Context, enrolmentID string, removal model.Removal, event string, now time.Time, audit model.AuditEntry) error {
	return db.write(ctx, "ending an enrolment", func(t *tx) error {
		e, err := find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, enrolmentID)
		if err != nil || e.State == model.EnrolmentEnded {
			return err
		}
		if err := t.checkOut(e, removal, profiles.Event(event), now); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// checkOut lets the device leave. What an admin began, or the inventory proved, counts more than the device's goodbye.
func (t *tx) checkOut(e model.Enrolment, removal model.Removal, event profiles.Event, now time.Time) error {
	d, err := find(t, devices(), `WHERE id = $1`, e.DeviceID)
	if err != nil && !isAbsent(err) {
		return err
	}
	switch d.State {
	case model.DeviceRetiring:
		event = profiles.EventRetire
	case model.DeviceWiping:
		event = profiles.EventWipe
	}
	if d.Removal != "" && d.Removal != model.RemovalUnconfirmed { // silence is what we knew less by
		removal = d.Removal
	}
	if err := t.endEnrolment(e, event, now); err != nil || d.ID == "" {
		return err
	}
	return t.leave(d.ID, removal, event, now)
}
