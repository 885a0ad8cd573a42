package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	// answerEvery is how often an OCSP answer is made anew, and dueAgain when it is asked for again if nothing came.
	answerEvery = 24 * time.Hour
	dueAgain    = 10 * time.Minute
	// reviewAfter is how long a revocation that a connector confirmed may take to reach its OCSP answer.
	reviewAfter = 10 * time.Minute
)

var _ connectorapi.StatusStore = (*DB)(nil)

func caFiles() table[model.CAFile] {
	return table[model.CAFile]{"ca_files", func(f *model.CAFile) row {
		return row{{"name", &f.Name}, {"content", &f.Content}, {"number", &f.Number}, {"updated_at", &f.UpdatedAt}}
	}}
}

// caAnswer is a model.CAAnswer with what the exchange between connectors needs.
type caAnswer struct {
	model.CAAnswer
	DueAt    time.Time
	MemberID string
	Change   int64
}

func caAnswers() table[caAnswer] {
	return table[caAnswer]{"ca_answers", func(a *caAnswer) row {
		return row{{"ca", &a.CA}, {"serial", &a.Serial}, {"not_after", &a.NotAfter}, {"revoked", &a.Revoked},
			{"this_update", &a.ThisUpdate}, {"next_update", &a.NextUpdate}, {"due_at", &a.DueAt}, {"member_id", &a.MemberID},
			{"change", &a.Change}, {"sha1", &a.SHA1}, {"sha256", &a.SHA256}}
	}}
}

// CAFile implements connectorapi.StatusStore and status.Store.
func (db *DB) CAFile(ctx context.Context, name string) (f model.CAFile, err error) {
	err = db.look(ctx, "reading a file of the CA", func(t *tx) error {
		f, err = find(t, caFiles(), `WHERE name = $1`, name)
		return err
	})
	return f, err
}

// CAAnswer implements status.Store.
func (db *DB) CAAnswer(ctx context.Context, ca, serial string) (a model.CAAnswer, err error) {
	err = db.look(ctx, "reading an OCSP answer", func(t *tx) error {
		found, err := find(t, caAnswers(), `WHERE ca = $1 AND serial = $2`, ca, serial)
		a = found.CAAnswer
		return err
	})
	return a, err
}

// ExchangeStatus implements connectorapi.StatusStore. Changes are numbered under the lock of the row 'status', so that
// whoever has seen a number has seen all before it.
func (db *DB) ExchangeStatus(ctx context.Context, x connectorapi.StatusExchange) (out link.StatusResponse, err error) {
	err = db.write(ctx, "exchanging what is known of issued certificates", func(t *tx) error {
		out = link.StatusResponse{}
		last, err := one[int64](t, `SELECT value FROM meta WHERE name = 'status'`+t.db.dialect.ForUpdate)
		if err != nil {
			return err
		}
		if x.Request.Cursor > last {
			x.Request.Cursor = 0 // this database was put back from a backup
		}
		for _, step := range []func(connectorapi.StatusExchange, *link.StatusResponse) error{
			t.statusFiles, t.statusLearned(last), t.statusAnswers(last), t.statusLacks, t.statusDue, t.statusReview, t.statusShared,
		} {
			if err := step(x, &out); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// statusFiles stores lists unless the connector has not learnt of a revocation. It comes before the connector's own answers:
// those are in its lists.
func (t *tx) statusFiles(x connectorapi.StatusExchange, out *link.StatusResponse) error {
	if len(x.Files) > 0 {
		unknown, err := one[int64](t, `SELECT COUNT(*) FROM ca_answers WHERE revoked AND change > $1`, x.Request.Cursor)
		if err != nil {
			return err
		}
		out.Stale = unknown > 0
	}
	for _, f := range x.Files {
		if out.Stale && f.Number > 0 {
			continue
		}
		f.UpdatedAt = x.Now
		if err := put(t, caFiles(), caFiles().upsert([]string{"name"})+` WHERE excluded.number > ca_files.number`, f); err != nil {
			return err
		}
	}
	var err error
	out.CRLNumber, err = one[int64](t, `SELECT COALESCE(MAX(number), 0) FROM ca_files`)
	return err
}

// statusLearned gives what others issued, and every revocation: a keyring that was put back from a backup has lost its own.
func (t *tx) statusLearned(last int64) func(connectorapi.StatusExchange, *link.StatusResponse) error {
	return func(x connectorapi.StatusExchange, out *link.StatusResponse) error {
		found, err := list(t, caAnswers(), `WHERE change > $1 AND (member_id <> $2 OR revoked) ORDER BY change LIMIT $3`,
			x.Request.Cursor, x.Connector.Member.ID, link.MaxStatus+1)
		if err != nil {
			return err
		}
		out.Cursor = last
		if out.More = len(found) > link.MaxStatus; out.More {
			found = found[:link.MaxStatus]
			out.Cursor = found[len(found)-1].Change
		}
		out.Learned = statusAnswersOf(found)
		return nil
	}
}

func statusAnswersOf(found []caAnswer) []link.StatusAnswer {
	var out []link.StatusAnswer
	for _, a := range found {
		out = append(out, link.StatusAnswer{StatusHave: link.StatusHave{CA: a.CA, Serial: a.Serial, Revoked: a.Revoked}, NotAfter: a.NotAfter, SHA256: a.SHA256})
	}
	return out
}

// statusAnswers stores answers. What changes what is known of a certificate gets a number.
func (t *tx) statusAnswers(last int64) func(connectorapi.StatusExchange, *link.StatusResponse) error {
	return func(x connectorapi.StatusExchange, out *link.StatusResponse) error {
		if len(x.Answers) == 0 {
			return nil
		}
		statement := caAnswers().insert() + ` ON CONFLICT (ca, serial) DO UPDATE SET not_after = excluded.not_after, revoked = excluded.revoked,
			this_update = excluded.this_update, next_update = excluded.next_update, due_at = excluded.due_at,
			member_id = CASE WHEN ca_answers.revoked = excluded.revoked THEN ca_answers.member_id ELSE excluded.member_id END,
			change = CASE WHEN ca_answers.revoked = excluded.revoked THEN ca_answers.change ELSE excluded.change END,
			sha1 = excluded.sha1, sha256 = excluded.sha256
			WHERE excluded.revoked AND NOT ca_answers.revoked
				OR excluded.revoked = ca_answers.revoked AND excluded.this_update >= ca_answers.this_update`
		for i, a := range x.Answers {
			stored := caAnswer{CAAnswer: a, DueAt: a.ThisUpdate.Add(answerEvery), MemberID: x.Connector.Member.ID, Change: last + int64(i) + 1}
			if err := put(t, caAnswers(), statement, stored); err != nil {
				return err
			}
		}
		newest := last + int64(len(x.Answers))
		if !out.More {
			out.Cursor = newest // of these the connector knows
		}
		return t.do(`UPDATE meta SET value = $1 WHERE name = 'status'`, newest)
	}
}

func (t *tx) statusLacks(x connectorapi.StatusExchange, out *link.StatusResponse) error {
	for _, h := range x.Request.Have {
		revoked, err := one[bool](t, `SELECT revoked FROM ca_answers WHERE ca = $1 AND serial = $2`, h.CA, h.Serial)
		if err != nil && !isAbsent(err) {
			return err
		}
		if err != nil || h.Revoked && !revoked {
			out.Lacks = append(out.Lacks, h)
		}
	}
	return nil
}

// statusDue hands out answers to be made anew, to one connector at a time.
func (t *tx) statusDue(x connectorapi.StatusExchange, out *link.StatusResponse) error {
	found, err := list(t, caAnswers(), `WHERE due_at <= $1 AND not_after > $1 ORDER BY due_at LIMIT $2`, x.Now, link.MaxStatus)
	if err != nil {
		return err
	}
	for _, a := range found {
		if err := t.do(`UPDATE ca_answers SET due_at = $1 WHERE ca = $2 AND serial = $3`, x.Now.Add(dueAgain), a.CA, a.Serial); err != nil {
			return err
		}
	}
	out.Due = statusAnswersOf(found)
	return nil
}

// statusReview finds certificates that are revoked by all that the server knows, though no answer says so: the connector
// that confirmed it was lost with its keyring.
func (t *tx) statusReview(x connectorapi.StatusExchange, out *link.StatusResponse) error {
	if !x.Request.Review {
		return nil
	}
	type revocation struct {
		der []byte
		at  time.Time
	}
	found, err := collect(t, func(r *revocation) row { return row{{"", &r.der}, {"", &r.at}} },
		`SELECT der, status_at FROM certificates WHERE ca = 'softca' AND status = 'revoked' AND status_at < $1 AND not_after > $2
			AND NOT EXISTS (SELECT 1 FROM ca_answers WHERE ca_answers.serial = certificates.serial AND ca_answers.revoked) LIMIT $3`,
		x.Now.Add(-reviewAfter), x.Now, link.MaxStatus)
	for _, r := range found {
		out.Revoked = append(out.Revoked, link.StatusRevocation{Certificate: r.der, At: r.at})
	}
	return err
}

// statusShared keeps CA keys for other connectors, and hands over those for this one. A connector that is not registered here
// any more is no fault of the one that shares.
func (t *tx) statusShared(x connectorapi.StatusExchange, out *link.StatusResponse) error {
	for member, sealed := range x.Request.Shared {
		if err := t.do(`UPDATE connectors SET sealed_cas = $1 WHERE member_id = $2`, sealed, member); err != nil {
			return err
		}
	}
	sealed, err := one[[]byte](t, `SELECT sealed_cas FROM connectors WHERE id = $1`, x.Connector.ID)
	if err != nil || len(sealed) == 0 {
		return err
	}
	if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != x.Request.Received {
		out.SealedCAs = sealed
	}
	return nil
}
