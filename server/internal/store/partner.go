package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
)

func partners() table[model.Partner] {
	return table[model.Partner]{"partners", func(p *model.Partner) row {
		return row{{"name", &p.Name}, {"app_id", &p.AppID}, {"secret_hash", &p.SecretHash}, {"url", &p.URL}, {"chain", &p.Chain}, {"created_at", &p.CreatedAt}}
	}}
}

func partnerCertificates() table[model.PartnerCertificate] {
	return table[model.PartnerCertificate]{"partner_certificates", func(c *model.PartnerCertificate) row {
		return row{{"id", &c.ID}, {"partner", &c.Partner}, {"request_hash", &c.RequestHash}, {"serial", &c.Serial}, {"issuer", &c.Issuer},
			{"ca_configuration", &c.CAConfiguration}, {"at", &c.At}}
	}}
}

// forgotten gives up what a partner found right and never told more of, and requests that were refused.
const forgotten = `UPDATE jobs SET state = 'obsolete' WHERE kind = 'certify' AND (state = 'failed' OR state = 'open' AND needs LIKE '["partner:%')
	AND updated_at < $1`

// withPartners adds the CAs of partners. A name that a connector offers is the connector's.
func (t *tx) withPartners(cas []link.CA) ([]link.CA, error) {
	all, err := list(t, partners(), `ORDER BY name`)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if !offered(cas, p.Name) {
			cas = append(cas, p.CA())
		}
	}
	return cas, nil
}

func offered(cas []link.CA, name string) bool {
	return slices.ContainsFunc(cas, func(ca link.CA) bool { return ca.Name == name })
}

// AddPartner implements admin.Partners.
func (db *DB) AddPartner(ctx context.Context, p model.Partner, audit model.AuditEntry) error {
	return db.write(ctx, "adding a partner CA", func(t *tx) error {
		if err := t.lockTrust(); err != nil {
			return err
		}
		cas, err := t.cas()
		if err != nil {
			return err
		}
		if offered(cas, p.Name) {
			return fmt.Errorf("CA %s exists: %w", p.Name, model.ErrConflict)
		}
		if err := put(t, partners(), partners().insert(), p); err != nil {
			return err
		}
		if err := t.bumpGeneration(); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// RemovePartner implements admin.Partners.
func (db *DB) RemovePartner(ctx context.Context, name string, audit model.AuditEntry) error {
	return db.write(ctx, "removing a partner CA", func(t *tx) error {
		if err := t.lockTrust(); err != nil {
			return err
		}
		if err := must(t.run(`DELETE FROM partners WHERE name = $1`, name)); err != nil {
			return err
		}
		if err := t.bumpGeneration(); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// Partners implements admin.Partners.
func (db *DB) Partners(ctx context.Context) (all []model.Partner, err error) {
	err = db.look(ctx, "reading the partner CAs", func(t *tx) error {
		all, err = list(t, partners(), `ORDER BY name`)
		return err
	})
	return all, err
}

// PartnerByApp implements partnerca.Store.
func (db *DB) PartnerByApp(ctx context.Context, appID string) (p model.Partner, err error) {
	err = db.look(ctx, "looking for a partner CA", func(t *tx) error {
		p, err = find(t, partners(), `WHERE app_id = $1`, appID)
		return err
	})
	return p, err
}

// NotePartnerCertificate implements partnerca.Store.
func (db *DB) NotePartnerCertificate(ctx context.Context, words model.PartnerCertificate, cert model.Certificate, audit model.AuditEntry) error {
	useless := false
	err := db.write(ctx, "noting a certificate of a partner CA", func(t *tx) error {
		r, ended, err := t.partnerRequest(words.RequestHash)
		if err != nil {
			return err
		}
		if useless, err = t.note(words, cert, r, ended); err != nil {
			return err
		}
		if useless {
			audit.Outcome = "refused"
		}
		return t.audit(audit)
	})
	if err == nil && useless {
		return model.ErrConflict
	}
	return err
}

// note stores what was told, once. A certificate is useless when its request has another, or the enrolment has ended: it is
// recorded all the same, and shall be revoked.
func (t *tx) note(words model.PartnerCertificate, cert model.Certificate, r model.SCEPRequest, ended bool) (useless bool, err error) {
	former, err := find(t, partnerCertificates(), `WHERE id = $1`, words.ID)
	if err == nil {
		record, err := one[string](t, `SELECT record_id FROM certificates WHERE sha256 = $1`, words.ID)
		return record == "" || former.RequestHash != words.RequestHash, err
	}
	if !isAbsent(err) {
		return false, err
	}
	others, err := one[int64](t, `SELECT count(*) FROM partner_certificates WHERE request_hash = $1`, words.RequestHash)
	if err != nil {
		return false, err
	}
	if err := put(t, partnerCertificates(), partnerCertificates().insert(), words); err != nil {
		return false, err
	}
	cert.DER = []byte{} // not known, and the column has no null
	if ended || others > 0 {
		return true, t.surplus(cert, words.At)
	}
	return false, t.storeNoted(r, cert, words.At)
}

// partnerRequest locks the enrolment of a request, and its job.
func (t *tx) partnerRequest(hash string) (r model.SCEPRequest, ended bool, err error) {
	if r, err = find(t, scepRequests(), `WHERE hash = $1`, hash); err != nil {
		return r, false, err
	}
	if _, err := one[string](t, `SELECT id FROM enrolments WHERE id = $1`+t.db.dialect.ForUpdate, r.EnrolmentID); err != nil && !isAbsent(err) {
		return r, false, err
	}
	if ended, err = t.hasEnded(r.EnrolmentID); err != nil {
		return r, false, err
	}
	_, err = one[string](t, `SELECT id FROM jobs WHERE id = $1`+t.db.dialect.ForUpdate, r.JobID)
	return r, ended, err
}

// storeNoted keeps the certificate as current, and has the device's list read anew: an older one says nothing about it.
func (t *tx) storeNoted(r model.SCEPRequest, cert model.Certificate, now time.Time) error {
	cert.Status, cert.RecordID = model.CertificateCurrent, r.RequestID
	if err := put(t, certificates(), certificates().insert(), cert); err != nil {
		return err
	}
	if err := t.do(`UPDATE inventories SET certificates_at = 0 WHERE enrolment_id = $1`, r.EnrolmentID); err != nil {
		return err
	}
	if err := t.finish(r.JobID, now); err != nil {
		return err
	}
	return t.dirtyEnrolment(r.EnrolmentID)
}

// RefusePartnerRequest implements partnerca.Store.
func (db *DB) RefusePartnerRequest(ctx context.Context, hash, words string, audit model.AuditEntry) error {
	return db.write(ctx, "noting what a partner CA refused", func(t *tx) error {
		r, _, err := t.partnerRequest(hash)
		if err != nil {
			return err
		}
		n, err := t.run(`UPDATE jobs SET state = 'failed', error = $1, reason = $2, updated_at = $3 WHERE id = $4 AND state IN ('open', 'failed')`,
			words, platforms.ReasonIssueRefused, audit.At, r.JobID)
		if err == nil && n > 0 {
			err = t.dirtyEnrolment(r.EnrolmentID)
		}
		if err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// revocable selects revocations of a partner ($1) that may be handed out at $2, of one issuer ($3) or of all ($3 empty).
const revocable = `SELECT j.id FROM jobs j JOIN partner_certificates p ON j.job_key = 'revoke:' || p.id
WHERE j.kind = 'revoke' AND j.needs = $1 AND ((j.state = 'open' AND j.run_at <= $2) OR (j.state = 'leased' AND j.lease_until <= $2))
	AND ($3 = '' OR p.issuer = $3) ORDER BY j.run_at, j.id LIMIT $4`

// ClaimRevocations implements partnerca.Store.
func (db *DB) ClaimRevocations(ctx context.Context, partner, issuer string, limit int, lease time.Duration, audit model.AuditEntry) (claimed []model.Revocation, err error) {
	member := link.PartnerMember(partner)
	err = db.write(ctx, "handing out revocations", func(t *tx) error {
		claimed = nil
		if db.dialect.ClaimLock != "" {
			if err := t.do(db.dialect.ClaimLock); err != nil {
				return err
			}
		}
		ids, err := values[string](t, revocable, []string{member}, audit.At, issuer, min(limit, maxPage))
		if err != nil {
			return err
		}
		for _, id := range ids {
			r, taken, err := t.handOut(id, member, lease, audit.At)
			if err != nil {
				return err
			}
			if taken {
				claimed = append(claimed, r)
			}
		}
		if len(claimed) == 0 {
			return nil // partners poll, and an audit log is kept for ever
		}
		audit.Detail["requests"] = fmt.Sprint(len(claimed))
		return t.audit(audit)
	})
	return claimed, err
}

func (t *tx) handOut(id, member string, lease time.Duration, now time.Time) (r model.Revocation, taken bool, err error) {
	n, err := t.run(`UPDATE jobs SET state = 'leased', leased_by = $1, lease_until = $2, attempt = attempt + 1, updated_at = $3
		WHERE id = $4 AND (state = 'open' OR (state = 'leased' AND lease_until <= $3))`, member, now.Add(lease), now, id)
	if err != nil || n == 0 {
		return r, false, err
	}
	key, err := one[string](t, `SELECT job_key FROM jobs WHERE id = $1`, id)
	if err != nil {
		return r, false, err
	}
	r.JobID = id
	r.PartnerCertificate, err = find(t, partnerCertificates(), `WHERE id = $1`, strings.TrimPrefix(key, "revoke:"))
	return r, true, err
}

// AnswerRevocations implements partnerca.Store.
func (db *DB) AnswerRevocations(ctx context.Context, partner string, answers []model.RevocationAnswer, audit model.AuditEntry) error {
	sorted := slices.SortedFunc(slices.Values(answers), func(a, b model.RevocationAnswer) int { return cmp.Compare(a.JobID, b.JobID) })
	return db.write(ctx, "storing what a partner CA revoked", func(t *tx) error {
		unknown := 0
		for _, a := range sorted {
			j, err := find(t, jobs(), `WHERE id = $1 AND kind = 'revoke'`+db.dialect.ForUpdate, a.JobID)
			switch {
			case isAbsent(err) || err == nil && link.PartnerOf(j.Needs) != partner:
				unknown++
				continue
			case err != nil:
				return err
			case j.State == model.JobDone:
				continue // it said so before
			}
			if err := t.answeredRevocation(a, j, audit.At); err != nil {
				return err
			}
		}
		audit.Detail["unknown"] = fmt.Sprint(unknown)
		return t.audit(audit)
	})
}

func (t *tx) answeredRevocation(a model.RevocationAnswer, j model.Job, now time.Time) error {
	if a.Revoked {
		id := strings.TrimPrefix(j.Key, "revoke:")
		if err := t.do(`UPDATE certificates SET status = 'revoked', status_at = $1 WHERE sha256 = $2`, now, id); err != nil {
			return err
		}
		return t.finish(j.ID, now)
	}
	state := model.JobOpen
	if a.RetryAt.IsZero() {
		state = model.JobFailed
	}
	return t.do(`UPDATE jobs SET state = $1, leased_by = '', run_at = $2, error = $3, updated_at = $4 WHERE id = $5`, state, a.RetryAt, a.Error, now, j.ID)
}
