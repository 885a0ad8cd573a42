package store

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Retention is how long things are kept that nobody needs for a decision. The audit log is kept for ever.
type Retention struct {
	// Silence is how long a device that should leave may say nothing until its removal counts as unconfirmed.
	Silence time.Duration
	// Commands that were answered, and challenges that nobody redeemed.
	Commands time.Duration
	// Jobs that are done or obsolete, and links and tokens that are spent or too old.
	Jobs time.Duration
}

// noticesKept is longer than the time from the first threshold to the last, so that nothing is said twice.
const noticesKept = 400 * 24 * time.Hour

// Sweep gives up waiting for devices that should leave and are silent, and deletes what nobody will ask for any more.
// Several server nodes may sweep at once.
func (db *DB) Sweep(ctx context.Context, now time.Time, keep Retention) error {
	if err := db.giveUpSilent(ctx, now, now.Add(-keep.Silence)); err != nil {
		return err
	}
	commands, jobs := now.Add(-keep.Commands), now.Add(-keep.Jobs)
	for _, d := range []struct {
		what, statement string
		before          time.Time
	}{
		{"deleting old commands", `DELETE FROM commands WHERE state IN ('done', 'failed') AND updated_at < $1`, commands},
		{"deleting old jobs", `DELETE FROM jobs WHERE state IN ('done', 'obsolete') AND updated_at < $1`, jobs},
		{"deleting old challenges", `DELETE FROM challenges WHERE job_id = '' AND expires_at < $1`, commands},
		{"deleting old notices", `DELETE FROM notices WHERE at < $1`, now.Add(-noticesKept)},
		{"giving up requests for certificates", forgotten, jobs},
		{"deleting old SCEP requests", `DELETE FROM scep_requests WHERE created_at < $1`, jobs},
		{"deleting old requests", `DELETE FROM challenges WHERE expires_at < $1 AND NOT EXISTS (
			SELECT 1 FROM jobs WHERE jobs.id = challenges.job_id AND jobs.state IN ('open', 'leased'))`, jobs},
		{"deleting old links", `DELETE FROM links WHERE expires_at < $1 AND NOT EXISTS (
			SELECT 1 FROM challenges WHERE challenges.link_id = links.id)`, jobs},
		{"deleting old tokens", `DELETE FROM connector_tokens WHERE expires_at < $1 AND spent_at = 0`, jobs},
	} {
		if err := db.write(ctx, d.what, func(t *tx) error { return t.do(d.statement, d.before) }); err != nil {
			return err
		}
	}
	return nil
}

// giveUpSilent ends the waiting for devices that were told to leave and have not been here since: their certificates are
// revoked if the profile says so. Their enrolments stay, so that one that comes back after all is still cleaned.
func (db *DB) giveUpSilent(ctx context.Context, now, before time.Time) error {
	var ids []string
	err := db.read(ctx, "looking for silent devices", func(t *tx) (err error) {
		ids, err = values[string](t, `SELECT id FROM devices WHERE state IN ('retiring', 'wiping') AND removal = ''
			AND state_at < $1 AND last_seen < $1 ORDER BY id LIMIT $2`, before, maxPage)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := db.write(ctx, "giving a silent device up", func(t *tx) error { return t.giveUp(id, now) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) giveUp(deviceID string, now time.Time) error {
	living, err := list(t, enrolments(), `WHERE device_id = $1 AND state <> 'ended' ORDER BY id`+t.db.dialect.ForUpdate, deviceID)
	if err != nil {
		return err
	}
	d, err := find(t, devices(), `WHERE id = $1`+t.db.dialect.ForUpdate, deviceID)
	if err != nil || d.Removal != "" || (d.State != model.DeviceRetiring && d.State != model.DeviceWiping) {
		return err // somebody was quicker
	}
	event := profiles.EventRetire
	if d.State == model.DeviceWiping {
		event = profiles.EventWipe
	}
	for _, e := range living {
		if err := t.endIssued(e, event, now); err != nil {
			return err
		}
		if err := t.do(`UPDATE enrolments SET version = version + 1 WHERE id = $1`, e.ID); err != nil {
			return err
		}
	}
	if err := t.do(`UPDATE devices SET removal = 'unconfirmed' WHERE id = $1`, deviceID); err != nil {
		return err
	}
	return t.audit(model.AuditEntry{At: now, Actor: "server", Action: "device.silent", Object: deviceID, Outcome: "ok",
		Detail: map[string]string{"removal": string(model.RemovalUnconfirmed), "lastSeen": d.LastSeen.UTC().Format(time.RFC3339)}})
}
