package store

import (
	"context"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// EnrolmentByID implements identity.Store.
func (db *DB) EnrolmentByID(ctx context.Context, id string) (e model.Enrolment, err error) {
	err = db.look(ctx, "looking for an enrolment", func(t *tx) error {
		e, err = find(t, enrolments(), `WHERE id = $1`, id)
		return err
	})
	return e, err
}

// SetCredential implements identity.Store.
func (db *DB) SetCredential(ctx context.Context, enrolmentID, hash string) error {
	return db.write(ctx, "storing a credential", func(t *tx) error {
		return must(t.run(`UPDATE enrolments SET credential_hash = $1, version = version + 1 WHERE id = $2`, hash, enrolmentID))
	})
}

// OtherOwner implements identity.Store.
func (db *DB) OtherOwner(ctx context.Context, platform profiles.Platform, externalID, userID string) (other bool, err error) {
	err = db.read(ctx, "looking for a device's owner", func(t *tx) error {
		n, err := one[int64](t, `SELECT count(*) FROM devices WHERE platform = $1 AND external_id = $2 AND user_id <> $3 AND state <> 'left'`, platform, externalID, userID)
		other = n > 0
		return err
	})
	return other, err
}
