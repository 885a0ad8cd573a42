package store

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/server/internal/push"
)

// hasWork selects enrolments that a wake-up is for; each part has an index of its own. $1 is now, $2 the generation, $3
// and $4 the moments before which a notNow command is worth it by its age and in any case. An enrolment whose inventory_at
// is that of its oldest list waits for something else than time.
const hasWork = `
	SELECT id FROM enrolments WHERE dirty AND state = 'active'
	UNION SELECT id FROM enrolments WHERE state = 'active' AND settled_generation < $2
	UNION SELECT enrolment_id FROM commands WHERE state = 'notNow'
		AND (updated_at <= $4 OR (updated_at <= $3 AND updated_at - created_at <= $1 - updated_at))
	UNION SELECT e.id FROM enrolments e WHERE e.state = 'active' AND e.inventory_at <= $1 AND NOT EXISTS (
		SELECT 1 FROM inventories i WHERE i.enrolment_id = e.id
			AND e.inventory_at <= i.facts_at AND e.inventory_at <= i.profiles_at AND e.inventory_at <= i.certificates_at)`

// isTurn: a device is woken at once for what is new since the last wake-up or the last decision that it heard of, and if it
// came since; otherwise not before Repeat, and one that did not come is left alone for as long as it has been away.
// $5, $6 and $7 are now less MinGap, Repeat and MaxGap. pushed_version 0 marks a wake-up that was not sent.
const isTurn = `(
	pushed_at = 0 OR pushed_at <= $7
	OR (pushed_at <= $5 AND pushed_version > 0 AND version > pushed_version)
	OR (pushed_at <= $5 AND pushed_version > 0 AND last_seen >= pushed_at AND NOT dirty)
	OR (pushed_at <= $6 AND (pushed_version = 0 OR pushed_at - last_seen <= $1 - pushed_at)))`

// DuePushes implements push.Store. Rows that another node claims at the same moment are left to it.
func (db *DB) DuePushes(ctx context.Context, now time.Time, limit int, p push.Pace) (targets []push.Target, err error) {
	query := `UPDATE enrolments SET pushed_at = $1, pushed_version = version WHERE id IN (
		SELECT id FROM enrolments
		WHERE state = 'active' AND NOT must_reenroll AND push_token IS NOT NULL AND length(push_token) > 0
			AND push_failed_at = 0 AND id IN (` + hasWork + `) AND ` + isTurn + `
		ORDER BY pushed_at, id LIMIT $8` + db.dialect.SkipLocked + `)
	RETURNING id, push_token, push_magic, push_topic`
	err = db.write(ctx, "claiming wake-ups", func(t *tx) error {
		generation, err := t.generation()
		if err != nil {
			return err
		}
		targets, err = collect(t, func(p *push.Target) row {
			return row{{"id", &p.EnrolmentID}, {"push_token", &p.Token}, {"push_magic", &p.Magic}, {"push_topic", &p.Topic}}
		}, query, now, generation, now.Add(-p.NotNowAfter), now.Add(-p.NotNowMost), now.Add(-p.MinGap), now.Add(-p.Repeat), now.Add(-p.MaxGap), pageSize(limit))
		return err
	})
	return targets, err
}

// PushUnsent implements push.Store.
func (db *DB) PushUnsent(ctx context.Context, enrolmentID string) error {
	return db.write(ctx, "noting a wake-up that was not sent", func(t *tx) error {
		return must(t.run(`UPDATE enrolments SET pushed_version = 0 WHERE id = $1`, enrolmentID))
	})
}

// PushFailed implements push.Store.
func (db *DB) PushFailed(ctx context.Context, enrolmentID string, reason string, now time.Time) error {
	return db.write(ctx, "noting a lost push token", func(t *tx) error {
		return must(t.run(`UPDATE enrolments SET push_failed_at = $1, push_failure = $2 WHERE id = $3`, now, reason, enrolmentID))
	})
}

// SettleTopic marks the enrolments that can never be woken with the push certificate of this topic, and frees the others:
// a device keeps the topic that it enrolled with. It gives how many are marked.
func (db *DB) SettleTopic(ctx context.Context, topic string) (marked int64, err error) {
	err = db.write(ctx, "comparing the push topics of enrolments", func(t *tx) error {
		for _, must := range []bool{true, false} {
			differs := map[bool]string{true: "<>", false: "="}[must]
			if err := t.do(`UPDATE enrolments SET must_reenroll = $1, version = version + 1
				WHERE state <> 'ended' AND push_topic <> '' AND push_topic `+differs+` $2 AND must_reenroll <> $1`, must, topic); err != nil {
				return err
			}
		}
		marked, err = t.mustReenroll()
		return err
	})
	return marked, err
}

// MustReenroll counts the enrolments that can never be woken.
func (db *DB) MustReenroll(ctx context.Context) (n int64, err error) {
	err = db.read(ctx, "counting enrolments", func(t *tx) error {
		n, err = t.mustReenroll()
		return err
	})
	return n, err
}

func (t *tx) mustReenroll() (int64, error) {
	return one[int64](t, `SELECT count(*) FROM enrolments WHERE must_reenroll AND state <> 'ended'`)
}
