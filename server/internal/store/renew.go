package store

import (
	"context"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Renew implements identity.Store.
func (db *DB) Renew(ctx context.Context, c model.Challenge, job model.Job) (stored model.Challenge, err error) {
	err = db.write(ctx, "asking for a renewed certificate", func(t *tx) error {
		e, err := find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, c.EnrolmentID)
		if err != nil {
			return err
		}
		if e.State != model.EnrolmentActive {
			return fmt.Errorf("renewal for an enrolment in state %s: %w", e.State, model.ErrConflict)
		}
		if stored, err = find(t, challenges(), `WHERE hash = $1`, c.Hash); !isAbsent(err) {
			return err
		}
		// Who asks for another key has given the former request up.
		if err := t.obsolete(`kind = 'identity' AND state = 'open' AND enrolment_id = $1`, e.ID); err != nil {
			return err
		}
		if c.JobID, err = t.createJob(job); err != nil {
			return err
		}
		stored = c
		return put(t, challenges(), challenges().insert(), c)
	})
	return stored, err
}

// renewed keeps the renewed certificate beside the one that the device still speaks with. An enrolment that has ended in
// between gets none, nor does a request that the device has made anew with another key since: that answer may have
// arrived already, and the device speaks with no other certificate then.
func (t *tx) renewed(id *connectorapi.IdentityEffect, ch model.Challenge, now time.Time) error {
	cert, err := t.storeIdentity(id, ch, now)
	if err != nil {
		return err
	}
	e, err := find(t, enrolments(), `WHERE id = $1`, ch.EnrolmentID)
	if err != nil && !isAbsent(err) {
		return err
	}
	anew, err := one[int64](t, `SELECT COUNT(*) FROM challenges WHERE enrolment_id = $1 AND link_id = '' AND created_at > $2`, ch.EnrolmentID, ch.CreatedAt)
	if err != nil {
		return err
	}
	const change = `UPDATE certificates SET status = $1, status_at = $2 WHERE sha256 = $3`
	if e.State != model.EnrolmentActive || anew > 0 {
		return t.do(change, model.CertificateRemoved, now, cert.SHA256)
	}
	if e.NextCertSHA256 != "" && e.NextCertSHA256 != cert.SHA256 {
		if err := t.do(change, model.CertificateSuperseded, now, e.NextCertSHA256); err != nil {
			return err
		}
	}
	if err := t.do(`UPDATE enrolments SET next_certificate = $1, next_cert_sha256 = $2, version = version + 1 WHERE id = $3`,
		cert.DER, cert.SHA256, e.ID); err != nil {
		return err
	}
	return t.do(`UPDATE challenges SET certificate = $1, chain = $2 WHERE hash = $3`, cert.DER, id.Chain, ch.Hash)
}

// storeIdentity stores the certificate of a device.
func (t *tx) storeIdentity(id *connectorapi.IdentityEffect, ch model.Challenge, now time.Time) (model.Certificate, error) {
	cert := id.Certificate
	cert.Kind, cert.UserID, cert.EnrolmentID = model.CertificateIdentity, ch.UserID, ch.EnrolmentID
	if cert.Status == "" {
		cert.Status, cert.StatusAt = model.CertificateCurrent, now
	}
	if ch.LinkID == "" {
		device, err := one[string](t, `SELECT device_id FROM enrolments WHERE id = $1`, ch.EnrolmentID)
		if err != nil && !isAbsent(err) {
			return cert, err
		}
		cert.DeviceID = device
	}
	return cert, put(t, certificates(), certificates().upsert([]string{"sha256", "user_id"}), cert)
}

// Promote implements identity.Store.
func (db *DB) Promote(ctx context.Context, enrolmentID, certSHA256 string, now time.Time, audit model.AuditEntry) (e model.Enrolment, err error) {
	err = db.write(ctx, "taking over a renewed certificate", func(t *tx) error {
		if e, err = find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, enrolmentID); err != nil {
			return err
		}
		if e.NextCertSHA256 != certSHA256 || certSHA256 == "" {
			return nil // another message was quicker
		}
		former := e.CertSHA256
		e.Certificate, e.CertSHA256, e.NextCertificate, e.NextCertSHA256 = e.NextCertificate, certSHA256, nil, ""
		e.Dirty, e.Version = true, e.Version+1
		if err := t.do(`UPDATE enrolments SET certificate = $1, cert_sha256 = $2, next_certificate = NULL, next_cert_sha256 = '',
			dirty = TRUE, version = version + 1 WHERE id = $3`, e.Certificate, e.CertSHA256, e.ID); err != nil {
			return err
		}
		// A Mac's user speaks with the same certificate.
		if err := t.do(`UPDATE enrolments SET certificate = $1, cert_sha256 = $2, dirty = TRUE, version = version + 1
			WHERE holder_id = $3 AND state <> 'ended'`, e.Certificate, e.CertSHA256, e.ID); err != nil {
			return err
		}
		if err := t.do(`UPDATE certificates SET status = 'superseded', status_at = $1 WHERE sha256 = $2 AND status = 'current'`, now, former); err != nil {
			return err
		}
		return t.audit(audit)
	})
	return e, err
}
