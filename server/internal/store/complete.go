package store

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Revocation reasons of RFC 5280 section 5.3.1.
const (
	reasonSuperseded           = 4
	reasonCessationOfOperation = 5
)

// Complete implements connectorapi.Store. One answer is never thrown away, even when it is late: a certificate that a CA
// has issued. If its intent has no certificate yet it is stored like one in time; else it is recorded as superseded, a
// revoke job is made, and the answer is model.ErrConflict all the same.
func (db *DB) Complete(ctx context.Context, c connectorapi.Completion) error {
	late := false
	err := db.write(ctx, "storing a job's answer", func(t *tx) error {
		late = false
		j, err := t.lockForAnswer(c)
		if err != nil {
			return err
		}
		late = j.State != model.JobLeased || j.LeasedBy != c.ConnectorID || j.Attempt != c.Attempt
		if late && c.Issued == nil && c.Certified == nil {
			return nil
		}
		accepted, err := t.answer(c, j, late)
		if err != nil {
			return err
		}
		late = late && !accepted
		return t.audit(c.Audit)
	})
	if err == nil && late {
		return model.ErrConflict
	}
	return err
}

// lockForAnswer locks what the answer touches in the order of all writers: trust, enrolment, job.
func (t *tx) lockForAnswer(c connectorapi.Completion) (model.Job, error) {
	if c.Issued != nil || c.Rewrapped != nil {
		if err := t.lockTrust(); err != nil {
			return model.Job{}, err
		}
	}
	j, err := find(t, jobs(), `WHERE id = $1`, c.JobID)
	if err != nil {
		return j, err
	}
	if _, err := one[string](t, `SELECT id FROM enrolments WHERE id = $1`+t.db.dialect.ForUpdate, j.EnrolmentID); err != nil && !isAbsent(err) {
		return j, err
	}
	return find(t, jobs(), `WHERE id = $1`+t.db.dialect.ForUpdate, c.JobID)
}

// answer applies the effect; accepted is false when a late certificate came second.
func (t *tx) answer(c connectorapi.Completion, j model.Job, late bool) (accepted bool, err error) {
	switch {
	case c.Issued != nil:
		return t.issued(c, j, late)
	case c.Failure != nil:
		return true, t.failed(c, j)
	case c.Identity != nil:
		return true, t.identityAnswer(c, j)
	case c.Certified != nil:
		accepted, err = t.certified(c.Certified, j.ID, c.At)
		if late && !accepted {
			return false, err
		}
	case c.Tested != nil:
		err = t.tested(*c.Tested, j.ID)
	case c.Rendered != nil:
		err = t.rendered(c.Rendered, c.At)
	case c.Revoked != nil:
		err = t.do(`UPDATE certificates SET status = 'revoked', status_at = $1 WHERE sha256 = $2`, c.Revoked.At, c.Revoked.CertSHA256)
	case c.Rewrapped != nil:
		err = t.rewrapped(*c.Rewrapped, c.At)
	}
	if err != nil {
		return false, err
	}
	return true, t.finish(j.ID, c.At)
}

// failed opens the job again, or gives it up. Only the latter is worth waking the device for: it may get another document
// instead.
func (t *tx) failed(c connectorapi.Completion, j model.Job) error {
	state := model.JobOpen
	if c.Failure.Final {
		state = model.JobFailed
	}
	if err := t.do(`UPDATE jobs SET state = $1, leased_by = '', run_at = $2, error = $3, reason = $4, updated_at = $5 WHERE id = $6`,
		state, c.Failure.RetryAt, c.Failure.Message, c.Failure.Reason, c.At, j.ID); err != nil {
		return err
	}
	if !c.Failure.Final {
		return t.do(`UPDATE enrolments SET version = version + 1 WHERE id = $1`, j.EnrolmentID)
	}
	return t.dirtyEnrolment(j.EnrolmentID)
}

// identityAnswer makes the enrolment out of the challenge that asked for it, unless another challenge was quicker with
// the link: then the certificate binds nothing and the job has failed.
func (t *tx) identityAnswer(c connectorapi.Completion, j model.Job) error {
	ch, err := find(t, challenges(), `WHERE job_id = $1`+t.db.dialect.ForUpdate, j.ID)
	if err != nil {
		return err
	}
	if ch.LinkID == "" {
		if err := t.renewed(c.Identity, ch, c.At); err != nil {
			return err
		}
		return t.finish(j.ID, c.At)
	}
	n, err := t.run(`UPDATE links SET spent_at = $1, spent_by = $2 WHERE id = $3 AND spent_at = 0`, c.At, ch.Hash, ch.LinkID)
	if err != nil {
		return err
	}
	if n == 0 {
		return t.do(`UPDATE jobs SET state = 'failed', leased_by = '', error = $1, updated_at = $2 WHERE id = $3`,
			"the enrolment link was used by another request", c.At, j.ID)
	}
	if err := t.bindIdentity(c.Identity, ch, c.At); err != nil {
		return err
	}
	return t.finish(j.ID, c.At)
}

func (t *tx) bindIdentity(id *connectorapi.IdentityEffect, ch model.Challenge, now time.Time) error {
	cert, err := t.storeIdentity(id, ch, now)
	if err != nil {
		return err
	}
	e := model.Enrolment{ID: ch.EnrolmentID, UserID: ch.UserID, Platform: ch.Platform, Channel: "device",
		State: model.EnrolmentIssued, Certificate: cert.DER, CertSHA256: cert.SHA256, Version: 1}
	if err := put(t, enrolments(), enrolments().insert(), e); err != nil {
		return err
	}
	if err := t.do(`UPDATE enrolments SET created_at = $1 WHERE id = $2`, now, e.ID); err != nil {
		return err
	}
	return t.do(`UPDATE challenges SET certificate = $1, chain = $2 WHERE hash = $3`, cert.DER, id.Chain, ch.Hash)
}

// issued stores the certificate of an intent. The intent's id is the record's id.
func (t *tx) issued(c connectorapi.Completion, j model.Job, late bool) (accepted bool, err error) {
	cert := c.Issued.Certificate
	cert.Kind, cert.RecordID = model.CertificateIssued, c.Issued.Record.ID
	if cert.CA == "" {
		cert.CA = c.Issued.CA
	}
	if cert.StatusAt.IsZero() {
		cert.StatusAt = c.At
	}
	first, err := one[string](t, `SELECT sha256 FROM certificates WHERE kind = 'issued' AND record_id = $1`, cert.RecordID)
	if err != nil && !isAbsent(err) {
		return false, err
	}
	ended, err := t.hasEnded(cert.EnrolmentID)
	if err != nil {
		return false, err
	}
	switch {
	case first == cert.SHA256: // the same answer again
	case first == "" && !ended:
		err = t.storeIssued(cert, c.Issued.Record)
	default:
		err = t.surplus(cert, c.At)
	}
	if err != nil {
		return false, err
	}
	if late && (first != "" || ended) {
		return false, nil
	}
	if err := t.dirtyEnrolment(cert.EnrolmentID); err != nil {
		return false, err
	}
	return true, t.finish(j.ID, c.At)
}

// hasEnded tells whether nobody will use, or look at, what an enrolment gets now: it is over, or its device was given up as
// silent.
func (t *tx) hasEnded(enrolmentID string) (bool, error) {
	living, err := one[int64](t, `SELECT count(*) FROM enrolments WHERE id = $1 AND state <> 'ended'
		AND NOT EXISTS (SELECT 1 FROM devices WHERE devices.id = enrolments.device_id AND devices.removal <> '')`, enrolmentID)
	return living == 0, err
}

func (t *tx) storeIssued(cert model.Certificate, record escrow.Record) error {
	cert.Status = model.CertificateCurrent
	if err := put(t, certificates(), certificates().upsert([]string{"sha256", "user_id"}), cert); err != nil {
		return err
	}
	s := sealed{Record: record, Kind: model.CertificateIssued, UserID: cert.UserID, EnrolmentID: cert.EnrolmentID, Purpose: cert.Purpose}
	if err := put(t, records(), records().upsert([]string{"id"}), s); err != nil {
		return err
	}
	return t.rewrapIfStale(s, cert.StatusAt)
}

// surplus records a certificate that nobody will use and asks for its revocation. Its key is not kept.
func (t *tx) surplus(cert model.Certificate, now time.Time) error {
	if known, err := one[string](t, `SELECT status FROM certificates WHERE sha256 = $1`, cert.SHA256); err == nil || !isAbsent(err) {
		_ = known // recorded by an earlier late answer
		return err
	}
	cert.Status, cert.StatusAt, cert.RecordID = model.CertificateSuperseded, now, ""
	if err := put(t, certificates(), certificates().insert(), cert); err != nil {
		return err
	}
	return t.revokeJob(cert, reasonSuperseded, now)
}

// rendered keeps the payload if the document and the device certificate are still the ones that it was made for.
func (t *tx) rendered(r *connectorapi.RenderedEffect, now time.Time) error {
	if err := t.do(`UPDATE documents SET payload = $1, payload_revision = $2, payload_recipient = $3, updated_at = $4
		WHERE enrolment_id = $5 AND document_id = $6 AND revision = $2
			AND EXISTS (SELECT 1 FROM enrolments WHERE id = $5 AND cert_sha256 = $3 AND state <> 'ended')`,
		r.Payload, r.Revision, r.Recipient, now, r.EnrolmentID, r.DocumentID); err != nil {
		return err
	}
	return t.dirtyEnrolment(r.EnrolmentID)
}

// rewrapped replaces a record's wraps. A late answer for an older key set never replaces wraps for the current one.
func (t *tx) rewrapped(r escrow.Record, now time.Time) error {
	stored, err := find(t, records(), `WHERE id = $1`, r.ID)
	if isAbsent(err) {
		return nil // deleted in between
	}
	if err != nil {
		return err
	}
	fresh := stored
	fresh.Record.Wraps = r.Wraps
	set, err := t.keySet()
	if err != nil {
		return err
	}
	if !stale(stored, set) && stale(fresh, set) {
		return nil
	}
	if err := t.do(`UPDATE records SET record = $1 WHERE id = $2`, fresh.Record, r.ID); err != nil {
		return err
	}
	return t.rewrapIfStale(fresh, now)
}

// dirtyEnrolment makes one enrolment be planned again at its next check-in.
func (t *tx) dirtyEnrolment(id string) error {
	return t.do(`UPDATE enrolments SET dirty = TRUE, version = version + 1 WHERE id = $1 AND state <> 'ended'`, id)
}
