package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/model"
)

// page reads rows of a table whose key is greater than the last one of the page before.
func page[T any](ctx context.Context, db *DB, tab table[T], key string, p admin.Page) (all []T, err error) {
	err = db.read(ctx, "reading "+tab.name, func(t *tx) error {
		all, err = list(t, tab, `WHERE `+key+` > $1 ORDER BY `+key+` LIMIT $2`, p.After, pageSize(p.Limit))
		return err
	})
	return all, err
}

func single[T any](ctx context.Context, db *DB, what string, tab table[T], where string, arg any) (v T, err error) {
	err = db.read(ctx, what, func(t *tx) error {
		v, err = find(t, tab, where, arg)
		return err
	})
	return v, err
}

// Users implements admin.Store; the key is the UPN, whatever its case.
func (db *DB) Users(ctx context.Context, p admin.Page) ([]model.User, error) {
	p.After = upnKey(p.After)
	return page(ctx, db, users(), "upn_key", p)
}

// UserByUPN implements admin.Store.
func (db *DB) UserByUPN(ctx context.Context, upn string) (model.User, error) {
	return single(ctx, db, "looking for a user", users(), `WHERE upn_key = $1`, upnKey(upn))
}

// UserByID implements admin.Store.
func (db *DB) UserByID(ctx context.Context, id string) (model.User, error) {
	return single(ctx, db, "looking for a user", users(), `WHERE id = $1`, id)
}

// Devices implements admin.Store; the key is the ID.
func (db *DB) Devices(ctx context.Context, p admin.Page) ([]model.Device, error) {
	return page(ctx, db, devices(), "id", p)
}

// DeviceByID implements admin.Store.
func (db *DB) DeviceByID(ctx context.Context, id string) (model.Device, error) {
	return single(ctx, db, "looking for a device", devices(), `WHERE id = $1`, id)
}

// EnrolmentsOfDevice implements admin.Store.
func (db *DB) EnrolmentsOfDevice(ctx context.Context, deviceID string) (all []model.Enrolment, err error) {
	err = db.read(ctx, "reading a device's enrolments", func(t *tx) error {
		all, err = list(t, enrolments(), `WHERE device_id = $1 ORDER BY created_at DESC, id`, deviceID)
		return err
	})
	return all, err
}

// DocumentsOfEnrolment implements admin.Store.
func (db *DB) DocumentsOfEnrolment(ctx context.Context, enrolmentID string) (all []model.DocumentState, err error) {
	columns := documents().columns()
	for i, c := range columns {
		if c == "payload" {
			columns[i] = "NULL AS payload"
		}
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM documents WHERE enrolment_id = $1 ORDER BY document_id"
	err = db.read(ctx, "reading a device's documents", func(t *tx) error {
		all, err = collect(t, documents().row, query, enrolmentID)
		return err
	})
	return all, err
}

// Imported implements admin.Store.
func (db *DB) Imported(ctx context.Context, userID string) (all []model.Certificate, err error) {
	err = db.read(ctx, "reading a user's imported certificates", func(t *tx) error {
		all, err = t.imported(userID)
		return err
	})
	return all, err
}

func (t *tx) imported(userID string) ([]model.Certificate, error) {
	return list(t, certificates(), `WHERE user_id = $1 AND kind = 'imported' AND status = 'current' ORDER BY created_at, sha256`, userID)
}

// CreateJob implements admin.Store.
func (db *DB) CreateJob(ctx context.Context, j model.Job, audit model.AuditEntry) (id string, err error) {
	err = db.write(ctx, "storing a job", func(t *tx) error {
		if id, err = t.createJob(j); err != nil {
			return err
		}
		return t.audit(audit)
	})
	return id, err
}

// Certificates implements admin.Store; the key is SHA256/UserID, for two users may have imported the same one, and SHA256
// alone means all users of it.
func (db *DB) Certificates(ctx context.Context, p admin.Page) (all []model.Certificate, err error) {
	sha256, userID, found := strings.Cut(p.After, "/")
	if !found {
		userID = "\U0010FFFF" // after every user
	}
	err = db.read(ctx, "reading certificates", func(t *tx) error {
		all, err = list(t, certificates(), `WHERE sha256 > $1 OR (sha256 = $1 AND user_id > $2) ORDER BY sha256, user_id LIMIT $3`,
			sha256, userID, pageSize(p.Limit))
		return err
	})
	return all, err
}

// EscrowRecords implements admin.Store; the key is the record's id. Keys that were issued for a device are not among them.
func (db *DB) EscrowRecords(ctx context.Context, p admin.Page) (all []model.EscrowRecord, err error) {
	err = db.read(ctx, "reading escrow records", func(t *tx) error {
		all = nil
		stored, err := list(t, records(), `WHERE kind = 'imported' AND id > $1 ORDER BY id LIMIT $2`, p.After, pageSize(p.Limit))
		for _, s := range stored {
			all = append(all, model.EscrowRecord{Record: s.Record, UserID: s.UserID, Purpose: s.Purpose})
		}
		return err
	})
	return all, err
}

// Jobs implements admin.Store; the key is the ID.
func (db *DB) Jobs(ctx context.Context, p admin.Page) ([]model.Job, error) {
	return page(ctx, db, jobs(), "id", p)
}

// SetDeviceState implements admin.Store. Wiping is stronger than retiring; what has left stays.
func (db *DB) SetDeviceState(ctx context.Context, deviceID string, s model.DeviceState, now time.Time, audit model.AuditEntry) error {
	return db.write(ctx, "changing a device's state", func(t *tx) error {
		d, err := find(t, devices(), `WHERE id = $1`, deviceID)
		if err != nil {
			return err
		}
		switch {
		case d.State == s || d.State == model.DeviceLeft:
			return nil
		case s != model.DeviceWiping && (s != model.DeviceRetiring || d.State != model.DeviceEnrolled):
			return fmt.Errorf("a device that is %s cannot become %s: %w", d.State, s, model.ErrConflict)
		}
		// Enrolments first: a decision that is being saved holds that lock and then writes the device.
		if err := t.do(`UPDATE enrolments SET dirty = TRUE, version = version + 1 WHERE device_id = $1 AND state <> 'ended'`, deviceID); err != nil {
			return err
		}
		if err := t.do(`UPDATE devices SET state = $1, state_at = $2 WHERE id = $3 AND state <> 'left'`, s, now, deviceID); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// MarkDirty implements admin.Store. What was refused, or lost again and again, is tried as if for the first time. A refused certificate for a device's own key is not asked for again: the device has given
// that key up, and asks with another.
func (db *DB) MarkDirty(ctx context.Context, deviceID string, now time.Time, audit model.AuditEntry) error {
	const ofDevice = ` IN (SELECT id FROM enrolments WHERE device_id = $2 AND state = 'active')`
	return db.write(ctx, "asking for a sync", func(t *tx) error {
		if _, err := one[string](t, `SELECT id FROM devices WHERE id = $1`, deviceID); err != nil {
			return err
		}
		for _, statement := range []string{
			`UPDATE enrolments SET dirty = TRUE, version = version + 1, inventory_at = $1 WHERE device_id = $2 AND state = 'active'`,
			`UPDATE documents SET attempts = 0, retry_at = $1, updated_at = $1 WHERE status = 'failed' AND enrolment_id` + ofDevice,
			`UPDATE documents SET losses = '{}', updated_at = $1 WHERE losses NOT IN ('{}', 'null') AND enrolment_id` + ofDevice,
			`UPDATE jobs SET state = 'open', run_at = $1, updated_at = $1 WHERE (state = 'failed' AND kind <> 'certify' OR state = 'open' AND run_at > $1) AND enrolment_id` + ofDevice,
			`UPDATE jobs SET state = 'open', run_at = $1, updated_at = $1 WHERE kind = 'revoke' AND state = 'failed'
				AND job_key IN (SELECT 'revoke:' || sha256 FROM certificates WHERE device_id = $2 AND status = 'revoking')`,
		} {
			if err := t.do(statement, now, deviceID); err != nil {
				return err
			}
		}
		return t.audit(audit)
	})
}
