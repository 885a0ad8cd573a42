package store

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Import implements admin.Store. A record that was sealed to a key set that changed while it was on its way is queued to
// be wrapped again.
func (db *DB) Import(ctx context.Context, r model.EscrowRecord, c model.Certificate, audit model.AuditEntry) (isNew bool, err error) {
	err = db.write(ctx, "importing a sealed record", func(t *tx) error {
		isNew = false
		if err := t.lockTrust(); err != nil {
			return err
		}
		if _, err := one[string](t, `SELECT id FROM users WHERE id = $1`+db.dialect.ForUpdate, r.UserID); err != nil {
			return err
		}
		_, err := one[string](t, `SELECT id FROM records WHERE user_id = $1 AND cert_sha256 = $2 AND kind = 'imported'`, r.UserID, r.Record.CertSHA256)
		if err == nil || !isAbsent(err) {
			return err
		}
		isNew = true
		if err := t.storeImport(r, c, audit.At); err != nil {
			return err
		}
		if err := t.dirtyUser(r.UserID); err != nil {
			return err
		}
		return t.audit(audit)
	})
	return isNew && err == nil, err
}

func (t *tx) storeImport(r model.EscrowRecord, c model.Certificate, now time.Time) error {
	s := sealed{Record: r.Record, Kind: model.CertificateImported, UserID: r.UserID, Purpose: r.Purpose}
	if err := put(t, records(), records().insert(), s); err != nil {
		return err
	}
	c.Kind, c.UserID, c.RecordID, c.Purpose = model.CertificateImported, r.UserID, r.Record.ID, r.Purpose
	c.Status, c.StatusAt = model.CertificateCurrent, now
	if c.CreatedAt.IsZero() {
		c.CreatedAt = now
	}
	// A certificate whose record was deleted before comes back.
	if err := put(t, certificates(), certificates().upsert([]string{"sha256", "user_id"}), c); err != nil {
		return err
	}
	return t.rewrapIfStale(s, now)
}

// DeleteRecord implements admin.Store. The certificate stays in the list, as removed.
func (db *DB) DeleteRecord(ctx context.Context, recordID string, now time.Time, audit model.AuditEntry) error {
	return db.write(ctx, "deleting an escrow record", func(t *tx) error {
		s, err := find(t, records(), `WHERE id = $1 AND kind = 'imported'`, recordID)
		if err != nil {
			return err
		}
		if err := t.do(`DELETE FROM records WHERE id = $1`, recordID); err != nil {
			return err
		}
		if err := t.do(`UPDATE certificates SET status = 'removed', status_at = $1, record_id = '' WHERE sha256 = $2 AND user_id = $3`, now, s.Record.CertSHA256, s.UserID); err != nil {
			return err
		}
		if err := t.obsolete(`job_key LIKE $1 AND state IN ('open', 'leased', 'failed')`, "rewrap:"+recordID+":%"); err != nil {
			return err
		}
		if err := t.dirtyUser(s.UserID); err != nil {
			return err
		}
		return t.audit(audit)
	})
}
