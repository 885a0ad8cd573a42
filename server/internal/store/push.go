package store

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/server/internal/push"
)

// DuePushes implements push.Store. Each kind of work has an index of its own; rows that another node claims at the same
// moment are left to it.
func (db *DB) DuePushes(ctx context.Context, now time.Time, limit int, minGap, notNowAfter time.Duration) (targets []push.Target, err error) {
	query := `UPDATE enrolments SET pushed_at = $1 WHERE id IN (
		SELECT id FROM enrolments
		WHERE state = 'active' AND NOT must_reenroll AND push_token IS NOT NULL AND length(push_token) > 0
			AND push_failed_at = 0 AND pushed_at <= $2
			AND id IN (
				SELECT id FROM enrolments WHERE dirty AND state = 'active'
				UNION SELECT id FROM enrolments WHERE state = 'active' AND settled_generation < $3
				UNION SELECT enrolment_id FROM commands WHERE state = 'notNow' AND updated_at <= $4)
		ORDER BY pushed_at, id LIMIT $5` + db.dialect.SkipLocked + `)
	RETURNING id, push_token, push_magic, push_topic`
	err = db.write(ctx, "claiming wake-ups", func(t *tx) error {
		generation, err := t.generation()
		if err != nil {
			return err
		}
		targets, err = collect(t, func(p *push.Target) row {
			return row{{"id", &p.EnrolmentID}, {"push_token", &p.Token}, {"push_magic", &p.Magic}, {"push_topic", &p.Topic}}
		}, query, now, now.Add(-minGap), generation, now.Add(-notNowAfter), pageSize(limit))
		return err
	})
	return targets, err
}

// PushFailed implements push.Store.
func (db *DB) PushFailed(ctx context.Context, enrolmentID string, reason string, now time.Time) error {
	return db.write(ctx, "noting a lost push token", func(t *tx) error {
		return must(t.run(`UPDATE enrolments SET push_failed_at = $1, push_failure = $2 WHERE id = $3`, now, reason, enrolmentID))
	})
}
