package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
)

// dropPayload empties the payload of a job that nobody will do any more if it holds sealed records. Others are kept: a
// late certificate is checked against what was asked for.
const dropPayload = `payload = CASE WHEN kind IN ('render', 'rewrap') THEN '{}' ELSE payload END`

// createJob stores an open job and gives its id. A job with the same key stays as it is unless it failed or became
// obsolete; then it is opened again and keeps its id and its attempts, so that a late answer to an old lease never fits.
// A render job is opened again after it was done too: who asks for it has no payload, because the document was forgotten
// in between (unassigned and assigned again). So is a certify job, whose request was forgotten: the same CA gives the same
// certificate again.
func (t *tx) createJob(j model.Job) (string, error) {
	if j.ID == "" {
		j.ID = t.db.newID()
	}
	j.State, j.LeasedBy, j.LeaseUntil = model.JobOpen, "", time.Time{}
	if j.CreatedAt.IsZero() {
		j.CreatedAt = j.RunAt
	}
	if j.UpdatedAt.IsZero() {
		j.UpdatedAt = j.CreatedAt
	}
	statement := jobs().upsert([]string{"job_key"}, "id", "attempt", "created_at") + ` WHERE jobs.state IN ('failed', 'obsolete') OR (jobs.state = 'done' AND jobs.kind IN ('render', 'certify'))`
	if err := put(t, jobs(), statement, j); err != nil {
		return "", err
	}
	return one[string](t, `SELECT id FROM jobs WHERE job_key = $1`, j.Key)
}

// obsolete takes back the jobs that the condition (with $1) selects.
func (t *tx) obsolete(condition string, arg any) error {
	return t.do(`UPDATE jobs SET state = 'obsolete', leased_by = '', `+dropPayload+` WHERE `+condition, arg)
}

// revokeJob asks the CA of a certificate to revoke it.
func (t *tx) revokeJob(c model.Certificate, reasonCode int, now time.Time) error {
	payload, err := json.Marshal(link.RevokeJob{CA: c.CA, Certificate: c.DER, ReasonCode: reasonCode, At: now})
	if err != nil {
		return fmt.Errorf("writing a revoke job: %w", err)
	}
	cas, err := t.cas()
	if err != nil {
		return err
	}
	_, err = t.createJob(model.Job{Key: "revoke:" + c.SHA256, Kind: link.JobRevoke, Payload: payload, UserID: c.UserID,
		Needs: c.Revokers(cas), RunAt: now, CreatedAt: now})
	return err
}

// rewrapJob asks a recipient of the record to seal it to the members of the key set with this serial.
func (t *tx) rewrapJob(s sealed, serial uint64, now time.Time) error {
	payload, err := json.Marshal(link.RewrapJob{Record: s.Record})
	if err != nil {
		return fmt.Errorf("writing a rewrap job: %w", err)
	}
	key := fmt.Sprintf("rewrap:%s:%d", s.Record.ID, serial)
	_, err = t.createJob(model.Job{Key: key, Kind: link.JobRewrap, Payload: payload, UserID: s.UserID,
		Needs: recipients(s.Record), RunAt: now, CreatedAt: now})
	return err
}

func recipients(r escrow.Record) []string {
	var members []string
	for _, w := range r.Wraps {
		members = append(members, w.Member)
	}
	return members
}

// claimable selects jobs that this member may do now, fairly: a user's n-th job comes after the n-1st of every other
// user, counting those that are being done. $1 is now, $2 the member's id in quotes as it stands in the JSON list needs.
const claimable = `
SELECT id FROM (
	SELECT j.id, j.run_at, coalesce(busy.n, 0) + row_number() OVER (PARTITION BY j.user_id ORDER BY j.run_at, j.id) AS turn
	FROM jobs j
	LEFT JOIN (SELECT user_id, count(*) AS n FROM jobs WHERE state = 'leased' AND lease_until > $1 GROUP BY user_id) busy
		ON busy.user_id = j.user_id
	WHERE ((j.state = 'open' AND j.run_at <= $1) OR (j.state = 'leased' AND j.lease_until <= $1))
		AND (j.needs IN ('null', '[]') OR j.needs LIKE $2)
) AS ready
ORDER BY turn, run_at, id LIMIT $3`

// Claim implements connectorapi.Store. A pending connector gets nothing.
func (db *DB) Claim(ctx context.Context, connectorID string, limit int, lease time.Duration, now time.Time) (claimed []model.Job, err error) {
	// Looking costs no write lock: long polls ask often and mostly find nothing.
	idle, err := db.idle(ctx, connectorID, now)
	if err != nil || idle || limit <= 0 {
		return nil, err
	}
	err = db.write(ctx, "claiming jobs", func(t *tx) error {
		claimed = nil
		if db.dialect.ClaimLock != "" {
			if err := t.do(db.dialect.ClaimLock); err != nil {
				return err
			}
		}
		c, err := find(t, connectors(), `WHERE id = $1`, connectorID)
		if err != nil {
			return err
		}
		if err := t.do(`UPDATE connectors SET last_seen = $1 WHERE id = $2 AND last_seen < $1`, now, connectorID); err != nil {
			return err
		}
		if c.State != model.ConnectorTrusted {
			return nil
		}
		claimed, err = t.lease(c, limit, lease, now)
		return err
	})
	return claimed, err
}

// idle tells that there is nothing to claim and that the connector was marked as seen a moment ago.
func (db *DB) idle(ctx context.Context, connectorID string, now time.Time) (idle bool, err error) {
	err = db.read(ctx, "looking for jobs", func(t *tx) error {
		c, err := find(t, connectors(), `WHERE id = $1`, connectorID)
		if err != nil || now.Sub(c.LastSeen) >= seenEvery {
			return err
		}
		if c.State != model.ConnectorTrusted {
			idle = true
			return nil
		}
		ids, err := values[string](t, claimable, now, needsPattern(c), 1)
		idle = len(ids) == 0
		return err
	})
	return idle, err
}

// seenEvery is how exact a connector's LastSeen is while it has nothing to do.
const seenEvery = 5 * time.Second

func needsPattern(c model.Connector) string { return `%"` + c.Member.ID + `"%` }

// lease takes the next jobs. The state is asked again, so that a job that was answered in between is not taken.
func (t *tx) lease(c model.Connector, limit int, lease time.Duration, now time.Time) ([]model.Job, error) {
	const take = `UPDATE jobs SET state = 'leased', leased_by = $1, lease_until = $2, attempt = attempt + 1, updated_at = $3
		WHERE id = $4 AND (state = 'open' OR (state = 'leased' AND lease_until <= $3))`
	ids, err := values[string](t, claimable, now, needsPattern(c), min(limit, maxPage))
	if err != nil {
		return nil, err
	}
	var taken []model.Job
	for _, id := range ids {
		n, err := t.run(take, c.ID, now.Add(lease), now, id)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		j, err := find(t, jobs(), `WHERE id = $1`, id)
		if err != nil {
			return nil, err
		}
		taken = append(taken, j)
	}
	return taken, nil
}

// JobByID implements connectorapi.Store.
func (db *DB) JobByID(ctx context.Context, id string) (j model.Job, err error) {
	err = db.look(ctx, "reading a job", func(t *tx) error {
		j, err = find(t, jobs(), `WHERE id = $1`, id)
		return err
	})
	return j, err
}

// finish closes a job.
func (t *tx) finish(id string, now time.Time) error {
	return t.do(`UPDATE jobs SET state = 'done', leased_by = '', error = '', reason = '', updated_at = $1, `+dropPayload+` WHERE id = $2`, now, id)
}

// isAbsent tells that a row is not there, which the caller does not mind.
func isAbsent(err error) bool { return errors.Is(err, model.ErrNotFound) }
