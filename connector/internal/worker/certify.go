package worker

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// maxDeviceKeyBits bounds the arithmetic that a device's request can ask for.
const maxDeviceKeyBits = 8192

// certify has a CA certify a key that a device has. The CA knows the intent before it issues, and gives the same
// certificate again.
func (w *Worker) certify(ctx context.Context, job link.Job, p link.CertifyJob) (link.CertifyAnswer, error) {
	if !intentID.MatchString(p.IntentID) {
		return link.CertifyAnswer{}, final("", "intent id %q: it is 15 to 64 lower-case letters, digits and hyphens", p.IntentID)
	}
	if len(p.Subject) > maxSubject {
		return link.CertifyAnswer{}, final("", "a subject of %d bytes: at most %d are possible", len(p.Subject), maxSubject)
	}
	authority, err := w.issuer(p.Request.CertificateAuthority)
	if err != nil {
		return link.CertifyAnswer{}, err
	}
	csr, err := deviceRequest(p)
	if err != nil {
		return link.CertifyAnswer{}, w.refuse(job, "profile %s: %w", p.Profile, err)
	}
	defer w.locks.lock("certify/" + p.IntentID)()
	chain, err := authority.Issue(ctx, ca.Intent{ID: p.IntentID, PublicKey: csr.PublicKey, CSR: p.CSR, Template: p.Request.Template, Subject: p.Subject,
		SANs: p.SANs, KeyUsage: p.Request.KeyUsage, ExtendedKeyUsage: p.Request.ExtendedKeyUsage, Validity: p.Request.Lifetime()})
	if err != nil {
		return link.CertifyAnswer{}, issueError(link.IssueJob{Profile: p.Profile, Request: p.Request}, err)
	}
	if len(chain) == 0 {
		return link.CertifyAnswer{}, fmt.Errorf("CA %q answered without a certificate", p.Request.CertificateAuthority)
	}
	event := keyring.Event{Action: keyring.ActionIssue, Job: job.ID, Record: p.IntentID, Owner: link.EnrolmentURN(p.EnrolmentID), Certificate: hash(chain[0]),
		Detail: "CA " + p.Request.CertificateAuthority + ", for the device's own key"}
	if err := w.Keyring.Audit(event); err != nil {
		return link.CertifyAnswer{}, err
	}
	return link.CertifyAnswer{Certificate: chain[0], Chain: chain[1:]}, nil
}

// deviceRequest checks a request's signature and key; whose names it asks for is the CA's adapter's to look at, if it
// hands the request on.
func deviceRequest(p link.CertifyJob) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(p.CSR)
	if err != nil {
		return nil, fmt.Errorf("the certificate request does not parse: %w", err)
	}
	key, ok := csr.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the certificate request has a %T: mail programs need an RSA key", csr.PublicKey)
	}
	want := p.Request.KeySize
	if want == 0 {
		want = 2048
	}
	if bits := key.N.BitLen(); bits < want || bits > maxDeviceKeyBits {
		return nil, fmt.Errorf("the certificate request has an RSA key of %d bits: the profile asks for %d", bits, want)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("the certificate request is not signed by its own key")
	}
	return csr, nil
}
