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

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
)

// intentEntry is in the journal before the CA is asked: the key that was made, sealed to this connector, and what was
// asked for.
type intentEntry struct {
	Digest string `json:"digest"`
	Key    []byte `json:"key"`
}

// issuedEntry is in the journal once the CA has answered.
type issuedEntry struct {
	Digest string           `json:"digest"`
	Answer link.IssueAnswer `json:"answer"`
}

const noteIntent = "intent key"

// intentID is what may be a record's id.
var intentID = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{14,63}$`)

// issue makes a key and has it certified, in steps that can each be repeated: key and intent into the journal, certificate
// from the CA, answer into the journal.
func (w *Worker) issue(ctx context.Context, job link.Job, p link.IssueJob) (link.IssueAnswer, error) {
	if !intentID.MatchString(p.IntentID) {
		return link.IssueAnswer{}, final("", "intent id %q: it is 15 to 64 lower-case letters, digits and hyphens", p.IntentID)
	}
	authority, ok := w.CAs[p.Request.CertificateAuthority]
	if !ok {
		return link.IssueAnswer{}, final(platforms.ReasonCertificateAuthorityUnknown, "this connector has no CA %q", p.Request.CertificateAuthority)
	}
	digest, err := digestOf(p)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	defer w.locks.lock("issue/" + p.IntentID)()
	var done issuedEntry
	found, err := w.Journal.Get("issued/"+p.IntentID, &done)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	if found && done.Digest != digest {
		return link.IssueAnswer{}, w.refuse(job, "intent %s was issued for another request", p.IntentID)
	}
	if found {
		return w.freshWraps(done.Answer)
	}
	key, err := w.intentKey(job, p, digest)
	if err != nil {
		return link.IssueAnswer{}, err
	}
	return w.certify(ctx, job, authority, p, digest, key)
}

// digestOf names what was asked for, so that a repeated intent cannot be bent.
func digestOf(p link.IssueJob) (string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("reading the intent: %w", err)
	}
	return hash(raw), nil
}

// intentKey gives the intent's key: from the journal, or a new one that is in the journal when this returns.
func (w *Worker) intentKey(job link.Job, p link.IssueJob, digest string) (*rsa.PrivateKey, error) {
	var known intentEntry
	found, err := w.Journal.Get("intent/"+p.IntentID, &known)
	if err != nil {
		return nil, err
	}
	if found {
		if known.Digest != digest {
			return nil, w.refuse(job, "intent %s was begun for another request", p.IntentID)
		}
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
	sealed, err := w.Keyring.SealNote(noteIntent, der)
	if err != nil {
		return nil, err
	}
	return key, w.Journal.Put("intent/"+p.IntentID, intentEntry{Digest: digest, Key: sealed})
}

func (w *Worker) openIntentKey(e intentEntry) (*rsa.PrivateKey, error) {
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

// certify asks the CA and seals the key to the connectors.
func (w *Worker) certify(ctx context.Context, job link.Job, authority CA, p link.IssueJob, digest string, key *rsa.PrivateKey) (link.IssueAnswer, error) {
	chain, err := authority.Issue(ctx, intentOf(p, key))
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
	return answer, w.Journal.Put("issued/"+p.IntentID, issuedEntry{Digest: digest, Answer: answer})
}

func intentOf(p link.IssueJob, key *rsa.PrivateKey) ca.Intent {
	return ca.Intent{
		ID: p.IntentID, PublicKey: key.Public(), Template: p.Request.Template, Subject: p.Subject, SANs: p.SANs,
		KeyUsage: p.Request.KeyUsage, ExtendedKeyUsage: p.Request.ExtendedKeyUsage, Validity: p.Request.Validity.Time(),
	}
}

// issueError keeps whether the CA refused for good, and names it.
func issueError(p link.IssueJob, err error) error {
	var refused *ca.RefusedError
	if errors.As(err, &refused) {
		return final(platforms.ReasonIssueRefused, "%s, profile %s: %w", p.Request.CertificateAuthority, p.Profile, err)
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
	return escrow.Seal(w.Rand, p.IntentID, link.EnrolmentURN(p.EnrolmentID), hash(chain[0]), secret, set.Connectors())
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
