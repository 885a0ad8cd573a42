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
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/profiles"
)

// maxCredentials bounds one document; a key history of 30 years has fewer.
const maxCredentials = 256

// render makes a document with private keys, encrypted to one device. Nothing is opened before the recipient is known to
// be a device of this connector that owns every record.
func (w *Worker) render(_ context.Context, job link.Job, p link.RenderJob) (link.RenderAnswer, error) {
	write, ok := w.writer(p)
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
	secrets, err := w.open(records)
	if err != nil {
		return link.RenderAnswer{}, err
	}
	payload, err := write(p.Document, secrets, func(content []byte) ([]byte, error) {
		return cms.Encrypt(w.Rand, content, []*x509.Certificate{recipient}, cms.EncryptOptions{})
	})
	for _, secret := range secrets {
		clear(secret.PrivateKey)
	}
	if err != nil {
		return link.RenderAnswer{}, final(platforms.ReasonRenderFailed, "%w", err)
	}
	return link.RenderAnswer{Payload: payload}, w.Keyring.Audit(releases(job, records, recipient)...)
}

// seal encrypts to the recipient.
type seal = func([]byte) ([]byte, error)

// writer makes a platform's document of opened records, which are by the SHA-256 of their certificates.
type writer func(doc platforms.Document, secrets map[string]escrow.Secret, s seal) ([]byte, error)

func (w *Worker) writer(p link.RenderJob) (writer, bool) {
	switch p.Platform {
	case profiles.IOS, profiles.MacOS:
		return w.inPKCS12(pfx.Flavour(apple.PKCS12Flavour(p.OSVersion, p.Platform, w.ModernPKCS12)), appleWith(p.Challenges)), true
	case profiles.Windows:
		return w.inPKCS12(pfx.Flavour(windows.PKCS12Flavour(p.OSVersion)), windows.Render), true
	case profiles.Android:
		return inPKCS8, true
	}
	return nil, false
}

// inPKCS12 is for platforms that take keys as PKCS#12 files, each under a password that only the sealed document tells.
func (w *Worker) inPKCS12(flavour pfx.Flavour, render func(platforms.Document, map[string]platforms.PKCS12, seal) ([]byte, error)) writer {
	return func(doc platforms.Document, secrets map[string]escrow.Secret, s seal) ([]byte, error) {
		files := map[string]platforms.PKCS12{}
		for sha, secret := range secrets {
			file, err := w.pkcs12(secret, flavour)
			if err != nil {
				return nil, fmt.Errorf("certificate %s: %w", sha, err)
			}
			files[sha] = file
		}
		return render(doc, files, s)
	}
}

// appleWith renders for Apple; the challenges are the server's own.
func appleWith(challenges map[string]string) func(platforms.Document, map[string]platforms.PKCS12, seal) ([]byte, error) {
	return func(doc platforms.Document, files map[string]platforms.PKCS12, s seal) ([]byte, error) {
		return apple.Render(doc, apple.Secrets{PKCS12: files, Challenges: challenges}, s)
	}
}

// inPKCS8 is for Android: its app takes the key as it is, since the platform's PKCS#12 readers differ (android.md P12-1).
func inPKCS8(doc platforms.Document, secrets map[string]escrow.Secret, s seal) ([]byte, error) {
	keys := map[string]android.Key{}
	for sha, secret := range secrets {
		keys[sha] = android.Key{PKCS8: secret.PrivateKey, Chain: secret.Chain}
	}
	return android.Render(doc, keys, s)
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

// open opens each record.
func (w *Worker) open(records []escrow.Record) (map[string]escrow.Secret, error) {
	out := map[string]escrow.Secret{}
	for _, r := range records {
		secret, err := w.Keyring.OpenRecord(r)
		if errors.Is(err, escrow.ErrNotRecipient) {
			return nil, fmt.Errorf("record %s: %w", r.ID, err) // another connector can
		}
		if err != nil {
			return nil, final(platforms.ReasonRenderFailed, "record %s: %w", r.ID, err)
		}
		out[r.CertSHA256] = secret
	}
	return out, nil
}

func (w *Worker) pkcs12(secret escrow.Secret, flavour pfx.Flavour) (platforms.PKCS12, error) {
	key, err := x509.ParsePKCS8PrivateKey(secret.PrivateKey)
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
