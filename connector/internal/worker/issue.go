package worker

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
)

// issueEntry is what the journal knows of an intent; the last entry counts. A key stays in it no longer than the server
// may have to be told of it:
//
//	begun      Key: before the CA is asked
//	answered   Answer: the CA has answered, the record holds the key
//	accepted   Certificate: the server has the record; the connector keeps none
type issueEntry struct {
	Digest string `json:"digest"`
	// Round counts how often the intent was begun afresh after an acceptance.
	Round       int               `json:"round,omitempty"`
	At          time.Time         `json:"at"`
	Key         []byte            `json:"key,omitempty"` // sealed to this connector
	Answer      *link.IssueAnswer `json:"answer,omitempty"`
	Certificate []byte            `json:"certificate,omitempty"`
}

const (
	issuePrefix = "issue/"
	// keepUnaccepted is how long a key waits for the server to accept it: that an answer arrived may itself be lost.
	keepUnaccepted = 30 * 24 * time.Hour
	// maxSubject bounds the names of a subject.
	maxSubject = 8 << 10
	// reasonSuperseded is CRLReason superseded (RFC 5280 section 5.3.1).
	reasonSuperseded = 4
)

// noteIntent is the purpose that the sealed key is bound to.
const noteIntent = "intent key"

// intentID is what may be a record's id.
var intentID = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{14,63}$`)

// issue makes a key and has it certified, in steps that can each be repeated: key and intent into the journal, certificate
// from the CA, answer into the journal.
func (w *Worker) issue(ctx context.Context, job link.Job, p link.IssueJob) (link.IssueAnswer, error) {
	if err := checkIssue(p); err != nil {
		return link.IssueAnswer{}, err
	}
	authority, err := w.issuer(p.Request.CertificateAuthority)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	digest, err := digestOf(p)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	defer w.locks.lock(issuePrefix + p.IntentID)()
	var known issueEntry
	found, err := w.Journal.Get(issuePrefix+p.IntentID, &known)
	switch {
	case err != nil:
		return link.IssueAnswer{}, err
	case found && known.Digest != digest:
		return link.IssueAnswer{}, w.refuse(job, "intent %s was begun for another request", p.IntentID)
	case known.Answer != nil && w.validNow(known.Answer.Certificate):
		return w.freshWraps(*known.Answer)
	}
	if old := known.issued(); old != nil {
		if err := w.supersede(ctx, job, p, authority, old); err != nil {
			return link.IssueAnswer{}, err
		}
		known = issueEntry{Round: known.Round + 1}
	}
	known.Digest = digest
	key, err := w.intentKey(p, known)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	return w.obtain(ctx, job, authority, p, known, key)
}

// issuer finds the CA that shall issue. That there is none passes: the server asks only for what this connector offered, and so
// another one may have it, or an admin is about to set it again.
func (w *Worker) issuer(name string) (CA, error) {
	authority, err := w.CAs.Named(name)
	if errors.Is(err, ca.ErrUnknown) {
		return nil, &waitError{platforms.ReasonCertificateAuthorityUnknown, fmt.Errorf("this connector has no CA %q any more: waxseal-connector ca set adds it", name)}
	}
	return authority, err
}

// issued is the certificate of the entry's round, nil before there is one.
func (e issueEntry) issued() []byte {
	if e.Answer != nil {
		return e.Answer.Certificate
	}
	return e.Certificate
}

// maxSkew is how much later than now the server lets a certificate begin.
const maxSkew = 5 * time.Minute

// validNow tells whether a certificate is of use. One that was made while the clock was wrong is not, and the server
// would refuse it for ever.
func (w *Worker) validNow(der []byte) bool {
	cert, err := x509.ParseCertificate(der)
	return err == nil && !w.Clock().Add(maxSkew).Before(cert.NotBefore) && !w.ended(cert)
}

func (w *Worker) ended(cert *x509.Certificate) bool { return w.Clock().After(cert.NotAfter) }

// checkIssue refuses, before a certificate exists, what could not be sealed or kept afterwards.
func checkIssue(p link.IssueJob) error {
	if !intentID.MatchString(p.IntentID) {
		return final("", "intent id %q: it is 15 to 64 lower-case letters, digits and hyphens", p.IntentID)
	}
	if !escrow.IsOwner(link.EnrolmentURN(p.Holder())) {
		return final("", "enrolment %q: an id is 1 to 128 letters, digits, dots and hyphens", p.Holder())
	}
	if len(p.Subject) > maxSubject {
		return final("", "a subject of %d bytes: at most %d are possible", len(p.Subject), maxSubject)
	}
	return nil
}

// supersede ends the certificate of an intent that is asked for again although it cannot be given again: the server
// accepted it and so its key is not here any more (a server that was put back from a backup asks), or it is not valid.
func (w *Worker) supersede(ctx context.Context, job link.Job, p link.IssueJob, authority CA, certificate []byte) error {
	event := keyring.Event{Action: keyring.ActionRevoke, Job: job.ID, Record: p.IntentID, Certificate: hash(certificate),
		Detail: "asked for again, and its key is gone or it is not valid: superseded"}
	if err := w.Keyring.Audit(event); err != nil {
		return err
	}
	if cert, err := x509.ParseCertificate(certificate); err == nil && w.ended(cert) {
		return nil // CAs revoke nothing that has ended
	}
	_, err := authority.Revoke(ctx, certificate, reasonSuperseded, w.Clock())
	if errors.Is(err, ca.ErrCannotRevoke) { // without a certificate nobody would be better off
		event.Detail = "superseded, and yet not revoked: " + err.Error()
		return w.Keyring.Audit(event)
	}
	if err != nil {
		return fmt.Errorf("revoking the certificate that a new one replaces: %w", err)
	}
	return nil
}

// accepted takes the key out of the journal once the server has it (204), or has another's answer to the same intent
// (409). If this fails, prune does it later.
func (w *Worker) accepted(p link.IssueJob) error {
	defer w.locks.lock(issuePrefix + p.IntentID)()
	return w.forget(p.IntentID)
}

func (w *Worker) forget(intent string) error {
	var known issueEntry
	found, err := w.Journal.Get(issuePrefix+intent, &known)
	if err != nil || !found || known.Answer == nil && known.Key == nil {
		return err
	}
	kept := issueEntry{Digest: known.Digest, Round: known.Round, At: known.At}
	if known.Answer != nil {
		kept.Certificate = known.Answer.Certificate
	} else {
		kept.Round++ // the CA may know the key that goes
	}
	return w.Journal.Put(issuePrefix+intent, kept)
}

// prune takes keys out of the journal whose acceptance nobody heard of, and what was taken out off the disk.
func (w *Worker) prune() error {
	for _, key := range w.Journal.Keys(issuePrefix) {
		var known issueEntry
		if _, err := w.Journal.Get(key, &known); err != nil {
			return err
		}
		if w.Clock().Sub(known.At) < keepUnaccepted {
			continue
		}
		if err := w.accepted(link.IssueJob{IntentID: strings.TrimPrefix(key, issuePrefix)}); err != nil {
			return err
		}
	}
	return w.Journal.Compact()
}

// digestOf names what was asked for, so that a repeated intent cannot be bent. When to renew and to revoke is no part of what
// the certificate is, and an admin may change it while the job is under way.
func digestOf(p link.IssueJob) (string, error) {
	p.Request.RenewalThresholdPercentage, p.Request.RevokeOn = 0, nil
	raw, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("reading the intent: %w", err)
	}
	return hash(raw), nil
}

// intentKey gives the intent's key: from the journal, or a new one that is in the journal when this returns.
func (w *Worker) intentKey(p link.IssueJob, known issueEntry) (*rsa.PrivateKey, error) {
	if known.Key != nil {
		return w.openIntentKey(known)
	}
	bits := p.Request.KeySize
	if bits == 0 {
		bits = 2048
	}
	if !slices.Contains([]int{2048, 3072, 4096}, bits) {
		return nil, final("", "a key of %d bits: 2048, 3072 and 4096 are possible", bits)
	}
	key, err := rsa.GenerateKey(w.Rand, bits)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	defer clear(der)
	if known.Key, err = w.Keyring.SealNote(noteIntent, der); err != nil {
		return nil, err
	}
	known.At = w.Clock().UTC()
	return key, w.Journal.Put(issuePrefix+p.IntentID, known)
}

func (w *Worker) openIntentKey(e issueEntry) (*rsa.PrivateKey, error) {
	der, err := w.Keyring.OpenNote(noteIntent, e.Key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the journal's key of this intent is damaged")
	}
	return key, nil
}

// obtain asks the CA and seals the key to the connectors.
func (w *Worker) obtain(ctx context.Context, job link.Job, authority CA, p link.IssueJob, known issueEntry, key *rsa.PrivateKey) (link.IssueAnswer, error) {
	chain, err := authority.Issue(ctx, intentOf(p, known.Round, key))
	if err != nil {
		return link.IssueAnswer{}, issueError(p, err)
	}
	if len(chain) == 0 {
		return link.IssueAnswer{}, fmt.Errorf("CA %q answered without a certificate", p.Request.CertificateAuthority)
	}
	answer := link.IssueAnswer{Certificate: chain[0], Chain: chain[1:]}
	if answer.Record, err = w.sealIssued(p, chain, key); err != nil {
		return link.IssueAnswer{}, err
	}
	event := keyring.Event{Action: keyring.ActionIssue, Job: job.ID, Record: p.IntentID, Owner: answer.Record.Owner,
		Certificate: answer.Record.CertSHA256, Detail: "CA " + p.Request.CertificateAuthority}
	if err := w.Keyring.Audit(event); err != nil {
		return link.IssueAnswer{}, err
	}
	done := issueEntry{Digest: known.Digest, Round: known.Round, At: w.Clock().UTC(), Answer: &answer}
	return answer, w.Journal.Put(issuePrefix+p.IntentID, done)
}

// intentOf names a round of its own to the CA, which knows the key of each intent.
func intentOf(p link.IssueJob, round int, key *rsa.PrivateKey) ca.Intent {
	id := p.IntentID
	if round > 0 {
		id = fmt.Sprintf("%s.%d", id, round)
	}
	return ca.Intent{
		ID: id, PublicKey: key.Public(), Signer: key, Template: p.Request.Template, Subject: p.Subject, SANs: p.SANs,
		KeyUsage: p.Request.KeyUsage, ExtendedKeyUsage: p.Request.ExtendedKeyUsage, Validity: p.Request.Lifetime(),
	}
}

// issueError keeps whether the CA refused for good, and names it.
func issueError(p link.IssueJob, err error) error {
	var refused *ca.RefusedError
	if errors.As(err, &refused) {
		return final(platforms.ReasonIssueRefused, "%s, profile %s: %w", p.Request.CertificateAuthority, p.Profile, err)
	}
	if errors.Is(err, ca.ErrPending) {
		return &waitError{platforms.ReasonIssuePending, fmt.Errorf("CA %s: %w", p.Request.CertificateAuthority, err)}
	}
	return fmt.Errorf("asking CA %s: %w", p.Request.CertificateAuthority, err)
}

func (w *Worker) sealIssued(p link.IssueJob, chain [][]byte, key *rsa.PrivateKey) (escrow.Record, error) {
	set, err := w.Keyring.KeySet()
	if err != nil {
		return escrow.Record{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return escrow.Record{}, fmt.Errorf("encoding a key: %w", err)
	}
	defer clear(der)
	secret := escrow.Secret{PrivateKey: der, Chain: chain}
	return escrow.Seal(w.Rand, p.IntentID, link.EnrolmentURN(p.Holder()), hash(chain[0]), secret, set.Connectors())
}

// freshWraps seals a known answer's record to the connectors of today, if the key set has changed since.
func (w *Worker) freshWraps(a link.IssueAnswer) (link.IssueAnswer, error) {
	set, err := w.Keyring.KeySet()
	if err != nil {
		return a, err
	}
	if sealedToAll(a.Record, set.Connectors()) {
		return a, nil
	}
	a.Record, err = w.Keyring.Rewrap(a.Record, set.Connectors())
	return a, err
}

func sealedToAll(r escrow.Record, members []escrow.Member) bool {
	for _, m := range members {
		if !r.SealedTo(m.ID) {
			return false
		}
	}
	return len(r.Wraps) == len(members)
}
