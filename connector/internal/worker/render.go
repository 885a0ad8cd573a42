package worker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/connector/internal/ca/deviceca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/profiles"
)

// maxCredentials bounds one document; a key history of 30 years has fewer.
const maxCredentials = 256

// render makes a document with private keys, encrypted to one device. Nothing is opened before the recipient is known to
// be a device of this connector that owns every record.
func (w *Worker) render(_ context.Context, job link.Job, p link.RenderJob) (link.RenderAnswer, error) {
	writer, ok := w.writer(p)
	if !ok {
		return link.RenderAnswer{}, final(platforms.ReasonNotDeliverable, "this connector cannot render for platform %q", p.Platform)
	}
	device, err := w.Keyring.Authority(keyring.DeviceCA)
	if err != nil {
		return link.RenderAnswer{}, err
	}
	recipient, holder, err := deviceca.Verify(device.Certificate, p.Recipient, w.Clock())
	if errors.Is(err, deviceca.ErrCannotDecrypt) {
		return link.RenderAnswer{}, final(platforms.ReasonDeviceIdentityCannotDecrypt, "%w", err)
	}
	if err != nil {
		return link.RenderAnswer{}, w.refuse(job, "%w", err)
	}
	records, err := match(p, holder)
	if err != nil {
		return link.RenderAnswer{}, w.refuse(job, "document %s: %w", p.Document.ID, err)
	}
	creds, err := w.open(records, writer.flavour)
	if err != nil {
		return link.RenderAnswer{}, err
	}
	payload, err := writer.render(p.Document, creds, func(content []byte) ([]byte, error) {
		return cms.Encrypt(w.Rand, content, []*x509.Certificate{recipient}, cms.EncryptOptions{})
	})
	if err != nil {
		return link.RenderAnswer{}, final(platforms.ReasonRenderFailed, "%w", err)
	}
	return link.RenderAnswer{Payload: payload}, w.Keyring.Audit(releases(job, records, recipient)...)
}

// writer is how a platform wants its documents.
type writer struct {
	flavour pfx.Flavour
	render  func(platforms.Document, map[string]platforms.PKCS12, func([]byte) ([]byte, error)) ([]byte, error)
}

func (w *Worker) writer(p link.RenderJob) (writer, bool) {
	switch p.Platform {
	case profiles.IOS, profiles.MacOS:
		return writer{pfx.Flavour(apple.PKCS12Flavour(p.OSVersion, p.Platform, w.ModernPKCS12)), apple.Render}, true
	case profiles.Windows:
		return writer{pfx.Flavour(windows.PKCS12Flavour(p.OSVersion)), windows.Render}, true
	}
	return writer{}, false
}

// match finds the record of each credential and checks that the holder owns it.
func match(p link.RenderJob, holder deviceca.Holder) ([]escrow.Record, error) {
	if len(p.Document.Credentials) == 0 || len(p.Document.Credentials) > maxCredentials {
		return nil, fmt.Errorf("%d credentials: 1 to %d are rendered here", len(p.Document.Credentials), maxCredentials)
	}
	byID := map[string]escrow.Record{}
	for _, r := range p.Records {
		byID[r.ID] = r
	}
	var out []escrow.Record
	for _, c := range p.Document.Credentials {
		r, ok := byID[c.RecordID]
		if !ok {
			return nil, fmt.Errorf("the job brings no record %q", c.RecordID)
		}
		if err := r.Check(); err != nil {
			return nil, err
		}
		if r.CertSHA256 != c.SHA256 {
			return nil, fmt.Errorf("record %q is of another certificate than the document's", c.RecordID)
		}
		if !holder.Owns(r.Owner) {
			return nil, fmt.Errorf("record %q belongs to %q, the device to %s and %s", r.ID, r.Owner, holder.User, holder.Enrolment)
		}
		out = append(out, r)
	}
	return out, nil
}

// open makes a PKCS#12 of each record, under a password that only the sealed document tells.
func (w *Worker) open(records []escrow.Record, flavour pfx.Flavour) (map[string]platforms.PKCS12, error) {
	out := map[string]platforms.PKCS12{}
	for _, r := range records {
		secret, err := w.Keyring.OpenRecord(r)
		if errors.Is(err, escrow.ErrNotRecipient) {
			return nil, fmt.Errorf("record %s: %w", r.ID, err) // another connector can
		}
		if err != nil {
			return nil, final(platforms.ReasonRenderFailed, "record %s: %w", r.ID, err)
		}
		if out[r.CertSHA256], err = w.pkcs12(secret, flavour); err != nil {
			return nil, final(platforms.ReasonRenderFailed, "record %s: %w", r.ID, err)
		}
	}
	return out, nil
}

func (w *Worker) pkcs12(secret escrow.Secret, flavour pfx.Flavour) (platforms.PKCS12, error) {
	key, err := x509.ParsePKCS8PrivateKey(secret.PrivateKey)
	clear(secret.PrivateKey)
	if err != nil {
		return platforms.PKCS12{}, errors.New("the private key does not parse")
	}
	id := pfx.Identity{PrivateKey: key}
	for i, der := range secret.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return platforms.PKCS12{}, fmt.Errorf("certificate %d of the chain does not parse: %w", i+1, err)
		}
		if i == 0 {
			id.Certificate = cert
		} else {
			id.Chain = append(id.Chain, cert)
		}
	}
	password, err := pfx.NewPassword(w.Rand)
	if err != nil {
		return platforms.PKCS12{}, err
	}
	file, err := pfx.Encode(w.Rand, id, password, flavour)
	return platforms.PKCS12{Bytes: file, Password: password}, err
}

func releases(job link.Job, records []escrow.Record, recipient *x509.Certificate) []keyring.Event {
	var out []keyring.Event
	for _, r := range records {
		out = append(out, keyring.Event{Action: keyring.ActionRelease, Job: job.ID, Record: r.ID, Owner: r.Owner,
			Recipient: hash(recipient.Raw), Certificate: r.CertSHA256})
	}
	return out
}
