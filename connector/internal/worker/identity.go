package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/waxseal/waxseal/connector/internal/ca/deviceca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// identityEntry is in the journal for each device certificate.
type identityEntry struct {
	Enrolment   string `json:"enrolment"`
	User        string `json:"user"`
	KeyHash     string `json:"keyHash"`
	Certificate []byte `json:"certificate"`
}

// identity issues a device certificate. The same job key with the same names and public key gives the same certificate;
// with others it is refused, since a challenge is good for one key.
func (w *Worker) identity(_ context.Context, job link.Job, p link.IdentityJob) (link.IdentityAnswer, error) {
	csr, err := deviceca.ParseCSR(p.CSR)
	if err != nil {
		return link.IdentityAnswer{}, err
	}
	device, err := w.Keyring.Authority(keyring.DeviceCA)
	if err != nil {
		return link.IdentityAnswer{}, err
	}
	key := "identity/" + job.Key
	defer w.locks.lock(key)()
	want := identityEntry{Enrolment: p.EnrolmentID, User: p.UserID, KeyHash: deviceca.KeyHash(csr)}
	var known identityEntry
	found, err := w.Journal.Get(key, &known)
	if err != nil {
		return link.IdentityAnswer{}, err
	}
	if found {
		if known.Enrolment != want.Enrolment || known.User != want.User || known.KeyHash != want.KeyHash {
			return link.IdentityAnswer{}, w.refuse(job, "this challenge was already used with another key or for another enrolment")
		}
		return identityAnswer(known.Certificate, device), nil
	}
	id := deviceca.Identity{EnrolmentID: p.EnrolmentID, UserID: p.UserID}
	if want.Certificate, err = deviceca.Issue(device, w.Rand, w.Clock(), csr, id); err != nil {
		return link.IdentityAnswer{}, err
	}
	event := keyring.Event{Action: keyring.ActionIdentity, Job: job.ID, Owner: link.UserURN(p.UserID),
		Certificate: hash(want.Certificate), Detail: link.EnrolmentURN(p.EnrolmentID)}
	// The audit log comes first: once the journal has the certificate, a repeat hands it out.
	if err := w.Keyring.Audit(event); err != nil {
		return link.IdentityAnswer{}, err
	}
	return identityAnswer(want.Certificate, device), w.Journal.Put(key, want)
}

func identityAnswer(cert []byte, device *keyring.Authority) link.IdentityAnswer {
	return link.IdentityAnswer{Certificate: cert, Chain: [][]byte{device.Certificate.Raw}}
}

// refuse writes a broken rule down and makes it a final error.
func (w *Worker) refuse(job link.Job, format string, args ...any) error {
	err := final("", format, args...)
	if auditErr := w.Keyring.Audit(keyring.Event{Action: keyring.ActionRefuse, Job: job.ID, Detail: err.Error()}); auditErr != nil {
		return auditErr
	}
	return err
}

func hash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
