package store

import (
	"context"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Session implements windowsmdm.Sessions.
func (db *DB) Session(ctx context.Context, enrolmentID string) (s model.Session, err error) {
	err = db.look(ctx, "reading a management session", func(t *tx) error {
		s, err = find(t, sessions(), `WHERE enrolment_id = $1`, enrolmentID)
		return err
	})
	return s, err
}

// SaveSession implements windowsmdm.Sessions.
func (db *DB) SaveSession(ctx context.Context, s model.Session) error {
	return db.write(ctx, "storing a management session", func(t *tx) error {
		read, row := s.Version, s
		row.Version++
		if read == 0 {
			tab := sessions()
			return exactlyOne(t.run(tab.insert()+` ON CONFLICT (enrolment_id) DO NOTHING`, tab.row(&row).values()...))
		}
		return exactlyOne(t.run(`UPDATE sessions SET session_id = $1, heard = $2, login = $3, state = $4, version = $5, updated_at = $6
			WHERE enrolment_id = $7 AND version = $8`, s.ID, s.Heard, s.Login, s.State, row.Version, s.UpdatedAt, s.EnrolmentID, read))
	})
}

// exactlyOne makes a conflict of a statement that found nothing to change.
func exactlyOne(n int64, err error) error {
	if err == nil && n == 0 {
		return model.ErrConflict
	}
	return err
}
