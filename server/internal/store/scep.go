package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// SCEPRequest implements issuance.Store.
func (db *DB) SCEPRequest(ctx context.Context, hash string) (r model.SCEPRequest, err error) {
	err = db.look(ctx, "looking for a SCEP request", func(t *tx) error {
		r, err = find(t, scepRequests(), `WHERE hash = $1`, hash)
		return err
	})
	return r, err
}

// SCEPRequestByTransaction implements issuance.Store.
func (db *DB) SCEPRequestByTransaction(ctx context.Context, transactionID, keySHA256 string) (r model.SCEPRequest, err error) {
	err = db.look(ctx, "looking for a SCEP transaction", func(t *tx) error {
		r, err = find(t, scepRequests(), `WHERE transaction_id = $1 AND (key_sha256 = $2 OR signer_sha256 = $2) ORDER BY created_at DESC LIMIT 1`, transactionID, keySHA256)
		return err
	})
	return r, err
}

// IssuedCertificate implements issuance.Store.
func (db *DB) IssuedCertificate(ctx context.Context, sha256 string) (c model.Certificate, err error) {
	err = db.look(ctx, "looking for an issued certificate", func(t *tx) error {
		c, err = find(t, certificates(), `WHERE sha256 = $1 AND kind = 'issued'`, sha256)
		return err
	})
	return c, err
}

// BeginSCEPRequest implements issuance.Store.
func (db *DB) BeginSCEPRequest(ctx context.Context, r model.SCEPRequest, job model.Job) (stored model.SCEPRequest, err error) {
	err = db.write(ctx, "beginning a SCEP request", func(t *tx) error {
		e, err := find(t, enrolments(), `WHERE id = $1`+db.dialect.ForUpdate, r.EnrolmentID)
		if err != nil {
			return err
		}
		stored, err = find(t, scepRequests(), `WHERE hash = $1`, r.Hash)
		switch {
		case err == nil && stored.KeySHA256 != r.KeySHA256:
			return fmt.Errorf("the challenge, by another key: %w", model.ErrSpent)
		case err == nil && stored.TransactionID != r.TransactionID:
			stored.TransactionID = r.TransactionID
			return t.do(`UPDATE scep_requests SET transaction_id = $1 WHERE hash = $2`, r.TransactionID, r.Hash)
		case !isAbsent(err):
			return err
		case job.Key == "": // it was there a moment ago
			return fmt.Errorf("the request: %w", err)
		case e.State == model.EnrolmentEnded:
			return fmt.Errorf("the enrolment has ended: %w", model.ErrConflict)
		}
		if err := t.fewKeys(r); err != nil {
			return err
		}
		if r.JobID, err = t.createJob(job); err != nil {
			return err
		}
		stored = r
		return put(t, scepRequests(), scepRequests().insert(), r)
	})
	return stored, err
}

// maxKeys is for how many keys a certificate may be asked for until it is due: more than a device with bad luck needs.
const maxKeys = 100

func (t *tx) fewKeys(r model.SCEPRequest) error {
	n, err := one[int64](t, `SELECT count(*) FROM scep_requests WHERE enrolment_id = $1 AND request_id = $2`, r.EnrolmentID, r.RequestID)
	if err == nil && n >= maxKeys {
		err = fmt.Errorf("%d keys for one certificate: %w", n, model.ErrTooMany)
	}
	return err
}

// certified stores a certificate for a device's own key. It stands beside those that the device got for other keys of the
// same request before: which of them it has, only the device knows. Of several for one key the first counts, since the
// device may have it; accepted is false for the others.
func (t *tx) certified(c *connectorapi.CertifiedEffect, jobID string, now time.Time) (accepted bool, err error) {
	cert := c.Certificate
	_, err = one[string](t, `SELECT sha256 FROM certificates WHERE sha256 = $1 AND user_id = $2`, cert.SHA256, cert.UserID)
	if err == nil { // the same answer again
		return true, t.answerRequest(c, jobID)
	}
	if !isAbsent(err) {
		return false, err
	}
	ended, err := t.hasEnded(cert.EnrolmentID)
	if err != nil {
		return false, err
	}
	if ended {
		return true, t.surplus(cert, now)
	}
	others, err := one[int64](t, `SELECT count(*) FROM scep_requests WHERE job_id = $1 AND certificate IS NOT NULL`, jobID)
	if err != nil {
		return false, err
	}
	if others > 0 {
		return false, t.surplus(cert, now)
	}
	cert.Status = model.CertificateCurrent
	if err := put(t, certificates(), certificates().upsert([]string{"sha256", "user_id"}), cert); err != nil {
		return false, err
	}
	if err := t.answerRequest(c, jobID); err != nil {
		return false, err
	}
	return true, t.dirtyEnrolment(cert.EnrolmentID)
}

// answerRequest gives a request its certificate, unless it has one.
func (t *tx) answerRequest(c *connectorapi.CertifiedEffect, jobID string) error {
	return t.do(`UPDATE scep_requests SET certificate = $1, chain = $2 WHERE job_id = $3 AND certificate IS NULL`, c.Certificate.DER, c.Chain, jobID)
}

// tested keeps what a CA's settings were found to be, for whoever asked: under the job's id.
func (t *tx) tested(answer link.TestCAAnswer, jobID string) error {
	raw, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("writing the findings about a CA: %w", err)
	}
	return t.do(`UPDATE jobs SET payload = $1 WHERE id = $2`, json.RawMessage(raw), jobID)
}
