package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
)

// revoke has the CA revoke a certificate that it issued.
func (w *Worker) revoke(ctx context.Context, job link.Job, p link.RevokeJob) (link.RevokeAnswer, error) {
	authority, err := w.CAs.Named(p.CA)
	if errors.Is(err, ca.ErrUnknown) {
		return link.RevokeAnswer{}, final(platforms.ReasonCertificateAuthorityUnknown, "this connector has no CA %q", p.CA)
	}
	if err != nil {
		return link.RevokeAnswer{}, err
	}
	event := keyring.Event{Action: keyring.ActionRevoke, Job: job.ID, Certificate: hash(p.Certificate),
		Detail: fmt.Sprintf("CA %s, reason %d", p.CA, p.ReasonCode)}
	if err := w.Keyring.Audit(event); err != nil {
		return link.RevokeAnswer{}, err
	}
	at := p.At
	if now := w.Clock(); at.IsZero() || at.After(now) {
		at = now
	}
	revokedAt, err := authority.Revoke(ctx, p.Certificate, p.ReasonCode, at)
	if errors.Is(err, ca.ErrForeign) {
		return link.RevokeAnswer{}, w.refuse(job, "CA %s: %w", p.CA, err)
	}
	if errors.Is(err, ca.ErrCannotRevoke) {
		return link.RevokeAnswer{}, final(platforms.ReasonCannotRevoke, "CA %s: %w", p.CA, err)
	}
	if err != nil {
		return link.RevokeAnswer{}, fmt.Errorf("revoking at CA %s: %w", p.CA, err)
	}
	return link.RevokeAnswer{RevokedAt: revokedAt}, nil
}

// rewrap seals a record to the members of the newest key set, as far as it verifies under the pinned root. Keys that a
// connector made go to connectors only, never to the recovery key.
func (w *Worker) rewrap(ctx context.Context, job link.Job, p link.RewrapJob) (link.RewrapAnswer, error) {
	if err := w.Sync(ctx); err != nil {
		return link.RewrapAnswer{}, fmt.Errorf("learning the newest key set: %w", err)
	}
	set, err := w.Keyring.KeySet()
	if err != nil {
		return link.RewrapAnswer{}, err
	}
	to := set.Members
	if strings.HasPrefix(p.Record.Owner, link.EnrolmentURN("")) {
		to = set.Connectors()
	}
	event := keyring.Event{Action: keyring.ActionRewrap, Job: job.ID, Record: p.Record.ID, Owner: p.Record.Owner,
		Certificate: p.Record.CertSHA256, KeySet: set.Serial}
	if err := w.Keyring.Audit(event); err != nil {
		return link.RewrapAnswer{}, err
	}
	record, err := w.Keyring.Rewrap(p.Record, to)
	if err != nil {
		return link.RewrapAnswer{}, fmt.Errorf("record %s: %w", p.Record.ID, err)
	}
	return link.RewrapAnswer{Record: record}, nil
}

// testTime is less than a job's lease and than an admin waits, so that a CA that does not answer is what is found.
const testTime = 40 * time.Second

// testCA tells what is right and wrong in the settings of a CA.
func (w *Worker) testCA(ctx context.Context, _ link.Job, p link.TestCAJob) (link.TestCAAnswer, error) {
	authority, err := w.CAs.Named(p.CA)
	if errors.Is(err, ca.ErrUnknown) {
		return link.TestCAAnswer{}, final(platforms.ReasonCertificateAuthorityUnknown, "this connector has no CA %q: waxseal-connector ca list shows which there are", p.CA)
	}
	if err != nil {
		return link.TestCAAnswer{Findings: []link.CAFinding{{Check: "settings", Detail: err.Error()}}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	return link.TestCAAnswer{Findings: authority.Test(ctx)}, nil
}
