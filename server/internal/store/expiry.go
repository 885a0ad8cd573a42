package store

import (
	"context"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// inUse selects what is in use: an imported certificate that has a successor of its purpose is kept for old mail alone, and
// may end. A device's own is in use while the device is here: not before it has spoken, nor once it left or is silent for good.
const inUse = `WHERE status = 'current' AND (kind <> 'deviceIdentity' OR EXISTS (
	SELECT 1 FROM devices WHERE devices.id = certificates.device_id AND devices.removal = ''))
	AND (kind <> 'imported' OR NOT EXISTS (
	SELECT 1 FROM certificates later WHERE later.user_id = certificates.user_id AND later.kind = 'imported' AND later.status = 'current'
		AND later.purpose = certificates.purpose AND later.not_after > certificates.not_after))`

// Expiring implements expiry.Store.
func (db *DB) Expiring(ctx context.Context, before time.Time, limit int) (all []model.Certificate, err error) {
	err = db.read(ctx, "reading what expires", func(t *tx) error {
		all, err = list(t, certificates(), inUse+` AND not_after < $1 ORDER BY not_after, sha256, user_id LIMIT $2`, before, pageSize(limit))
		return err
	})
	return all, err
}

// Unsaid implements expiry.Store.
func (db *DB) Unsaid(ctx context.Context, after, until time.Time, days, limit int) (all []model.Certificate, err error) {
	const unsaid = inUse + ` AND not_after > $1 AND not_after <= $2
		AND NOT EXISTS (SELECT 1 FROM notices WHERE notices.key = certificates.sha256 || '/' || certificates.user_id || $3)
		ORDER BY not_after, sha256, user_id LIMIT $4`
	err = db.read(ctx, "reading what nobody was told of", func(t *tx) error {
		all, err = list(t, certificates(), unsaid, after, until, fmt.Sprintf("/%d", days), pageSize(limit))
		return err
	})
	return all, err
}

// Notify implements expiry.Store.
func (db *DB) Notify(ctx context.Context, key string, payload []byte, audit model.AuditEntry) (fresh bool, err error) {
	err = db.write(ctx, "storing a notice", func(t *tx) error {
		n, err := t.run(`INSERT INTO notices (key, payload, at, taken_at) VALUES ($1, $2, $3, 0) ON CONFLICT (key) DO NOTHING`, key, payload, audit.At)
		if fresh = n > 0; err != nil || !fresh {
			return err
		}
		return t.audit(audit)
	})
	return fresh, err
}

// Notices implements expiry.Store.
func (db *DB) Notices(ctx context.Context, limit int) (all []model.Notice, err error) {
	err = db.read(ctx, "reading notices", func(t *tx) error {
		all, err = list(t, notices(), `WHERE taken_at = 0 ORDER BY at, key LIMIT $1`, pageSize(limit))
		return err
	})
	return all, err
}

// Taken implements expiry.Store.
func (db *DB) Taken(ctx context.Context, key string, at time.Time) error {
	return db.write(ctx, "noting that a notice was taken", func(t *tx) error {
		return t.do(`UPDATE notices SET taken_at = $1 WHERE key = $2 AND taken_at = 0`, at, key)
	})
}
