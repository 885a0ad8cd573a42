package store

import (
	"slices"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// leave marks a device as left and ends every enrolment that it still has. A device that has left stays as it is.
func (t *tx) leave(deviceID string, removal model.Removal, event profiles.Event, now time.Time) error {
	living, err := list(t, enrolments(), `WHERE device_id = $1 AND state <> 'ended' ORDER BY id`+t.db.dialect.ForUpdate, deviceID)
	if err != nil {
		return err
	}
	for _, e := range living {
		if err := t.endEnrolment(e, event, now); err != nil {
			return err
		}
	}
	if err := t.dropBootstrap(deviceID); err != nil {
		return err
	}
	return t.do(`UPDATE devices SET state = 'left', removal = $1, state_at = $2 WHERE id = $3 AND state <> 'left'`, removal, now, deviceID)
}

// BootstrapSetting names the setting that holds a Mac's bootstrap token, which goes when the Mac leaves.
func BootstrapSetting(deviceID string) string { return "bootstrap." + deviceID }

func (t *tx) dropBootstrap(deviceID string) error {
	return t.do(`DELETE FROM settings WHERE name = $1`, BootstrapSetting(deviceID))
}

// endEnrolment takes away what an enrolment holds: keys, payloads, jobs, push token. Its documents stay for the record.
func (t *tx) endEnrolment(e model.Enrolment, event profiles.Event, now time.Time) error {
	if err := t.endUserChannels(e, event, now); err != nil {
		return err
	}
	if err := t.endCertificates(e, event, now); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM records WHERE enrolment_id = $1 AND kind = 'issued'`,
		`DELETE FROM sessions WHERE enrolment_id = $1`,
		`UPDATE documents SET payload = NULL, payload_revision = '', payload_recipient = '' WHERE enrolment_id = $1`,
		`UPDATE enrolments SET state = 'ended', push_token = NULL, push_magic = '', next_certificate = NULL,
			next_cert_sha256 = '', dirty = FALSE, version = version + 1 WHERE id = $1`,
	} {
		if err := t.do(statement, e.ID); err != nil {
			return err
		}
	}
	return t.obsolete(`enrolment_id = $1 AND kind <> 'revoke' AND state IN ('open', 'leased', 'failed')`, e.ID)
}

// endUserChannels ends the channels that speak with the certificate of an enrolment.
func (t *tx) endUserChannels(e model.Enrolment, event profiles.Event, now time.Time) error {
	if e.Channel == model.ChannelUser {
		return nil
	}
	living, err := list(t, enrolments(), `WHERE holder_id = $1 AND holder_id <> '' AND state <> 'ended' ORDER BY id`+t.db.dialect.ForUpdate, e.ID)
	if err != nil {
		return err
	}
	for _, u := range living {
		if err := t.endEnrolment(u, event, now); err != nil {
			return err
		}
	}
	return nil
}

// endCertificates revokes the issued certificates whose profile says so and notes that the others are gone. What was replaced
// and has ended since is not revoked: many a CA refuses that, and nobody asks.
func (t *tx) endCertificates(e model.Enrolment, event profiles.Event, now time.Time) error {
	return t.endThose(e, "", event, now)
}

// endIssued is endCertificates without the device's own, by which it can still be spoken to; the sealed keys go.
func (t *tx) endIssued(e model.Enrolment, event profiles.Event, now time.Time) error {
	if err := t.endThose(e, ` AND kind = 'issued'`, event, now); err != nil {
		return err
	}
	return t.do(`DELETE FROM records WHERE enrolment_id = $1 AND kind = 'issued'`, e.ID)
}

func (t *tx) endThose(e model.Enrolment, which string, event profiles.Event, now time.Time) error {
	living, err := list(t, certificates(), `WHERE enrolment_id = $1 AND status IN ('current', 'superseded')`+which+` ORDER BY sha256`, e.ID)
	if err != nil {
		return err
	}
	for _, c := range living {
		status := model.CertificateRemoved
		over := c.Status == model.CertificateSuperseded && !now.Before(c.NotAfter)
		if c.Kind == model.CertificateIssued && !over && slices.Contains(c.RevokeOn, event) {
			status = model.CertificateRevoking
			if err := t.revokeJob(c, reasonCessationOfOperation, now); err != nil {
				return err
			}
		}
		if err := t.do(`UPDATE certificates SET status = $1, status_at = $2 WHERE sha256 = $3 AND user_id = $4`, status, now, c.SHA256, c.UserID); err != nil {
			return err
		}
	}
	return nil
}
