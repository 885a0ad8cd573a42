package store

import (
	"context"

	"github.com/waxseal/waxseal/server/internal/model"
)

// maxPage is the most rows that one list answers with.
const maxPage = 1000

// audit writes entries in the transaction of the act that they tell of.
func (t *tx) audit(entries ...model.AuditEntry) error {
	const insert = `INSERT INTO audit (at, actor, action, object, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6)`
	for _, a := range entries {
		if a.Action == "" {
			continue // the caller has nothing to tell
		}
		if err := t.do(insert, a.At, a.Actor, a.Action, a.Object, a.Outcome, a.Detail); err != nil {
			return err
		}
	}
	return nil
}

// Audit implements admin.Store.
func (db *DB) Audit(ctx context.Context, afterID int64, limit int) (entries []model.AuditEntry, err error) {
	err = db.read(ctx, "reading the audit log", func(t *tx) error {
		entries, err = list(t, auditEntries(), `WHERE id > $1 ORDER BY id LIMIT $2`, afterID, pageSize(limit))
		return err
	})
	return entries, err
}

// AppendAudit implements admin.Store.
func (db *DB) AppendAudit(ctx context.Context, entries ...model.AuditEntry) error {
	return db.write(ctx, "writing the audit log", func(t *tx) error { return t.audit(entries...) })
}

func pageSize(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}
