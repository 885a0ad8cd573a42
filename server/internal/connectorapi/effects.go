package connectorapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	maxChain = 16
	// maxPayload is what an Apple device takes at most as one profile, with room.
	maxPayload = 4 << 20
	// maxSkew is how far the connector's clock may be ahead.
	maxSkew = 5 * time.Minute
	// DeviceCAName is what certificates of the device CA carry as their CA.
	DeviceCAName = "device-ca"
)

// identityEffect checks that a device certificate is of the device CA, for the request's key, with the names of the
// challenge's binding and no other power (design.md section 5).
func (s *Service) identityEffect(ctx context.Context, job model.Job, raw json.RawMessage) (*IdentityEffect, error) {
	answer, err := decodeAnswer[link.IdentityAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.IdentityJob](job)
	if err != nil {
		return nil, err
	}
	trust, err := s.cfg.Store.Trust(ctx)
	if err != nil {
		return nil, err
	}
	c, parsed, err := model.NewCertificate(answer.Certificate)
	if err != nil {
		return nil, refusal{err}
	}
	if err := s.checkIdentity(parsed, asked, trust.DeviceCA); err != nil {
		return nil, err
	}
	if err := checkChain(answer.Chain); err != nil {
		return nil, err
	}
	now := s.cfg.Clock()
	c.Kind, c.UserID, c.EnrolmentID, c.CA = model.CertificateIdentity, asked.UserID, asked.EnrolmentID, DeviceCAName
	c.Status, c.StatusAt, c.CreatedAt = model.CertificateCurrent, now, now
	return &IdentityEffect{EnrolmentID: asked.EnrolmentID, Certificate: c, Chain: answer.Chain}, nil
}

func (s *Service) checkIdentity(c *x509.Certificate, asked link.IdentityJob, deviceCA []byte) error {
	ca, err := x509.ParseCertificate(deviceCA)
	if err != nil {
		return refuse("no device CA is stored")
	}
	if err := c.CheckSignatureFrom(ca); err != nil {
		return refuse("the certificate is not issued by the device CA: %w", err)
	}
	csr, err := mde.ParseCSR(asked.CSR)
	if err != nil {
		return fmt.Errorf("reading the stored request: %w", err)
	}
	if !samePublicKey(c.PublicKey, csr.PublicKey) {
		return refuse("the certificate is for another key than the request's")
	}
	if c.Subject.CommonName != asked.EnrolmentID {
		return refuse("the certificate names %q, not the enrolment %s", c.Subject.CommonName, asked.EnrolmentID)
	}
	if !sameURIs(c, link.EnrolmentURN(asked.EnrolmentID), link.UserURN(asked.UserID)) {
		return refuse("the certificate's URIs are not those of enrolment %s and user %s", asked.EnrolmentID, asked.UserID)
	}
	return s.checkIdentityUse(c)
}

func (s *Service) checkIdentityUse(c *x509.Certificate) error {
	const needed = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if c.KeyUsage&needed != needed || c.IsCA {
		return refuse("the certificate needs the key usages digitalSignature and keyEncipherment and must be no CA")
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return refuse("the certificate lacks the extended key usage clientAuth")
	}
	return s.checkTime(c)
}

func (s *Service) checkTime(c *x509.Certificate) error {
	now := s.cfg.Clock()
	if now.After(c.NotAfter) || now.Add(maxSkew).Before(c.NotBefore) {
		return refuse("the certificate is valid from %s to %s, and now is %s: compare the clocks of server and connector",
			c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// sameURIs compares the subject alternative name URIs; no name of another type may stand beside them.
func sameURIs(c *x509.Certificate, want ...string) bool {
	if len(c.URIs) != len(want) || len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) > 0 {
		return false
	}
	for _, u := range c.URIs {
		if !slices.Contains(want, u.String()) {
			return false
		}
	}
	return true
}

func checkChain(chain [][]byte) error {
	if len(chain) > maxChain {
		return refuse("the chain has %d certificates; at most %d are allowed", len(chain), maxChain)
	}
	for i, der := range chain {
		if _, err := x509.ParseCertificate(der); err != nil {
			return refuse("chain[%d]: %w", i, err)
		}
	}
	return nil
}

// issuedEffect checks that a certificate is of the CA that was asked, carries the addresses that were asked for and no
// other, and that its key is sealed to connectors under the enrolment's name.
func (s *Service) issuedEffect(ctx context.Context, job model.Job, raw json.RawMessage) (*IssuedEffect, error) {
	answer, err := decodeAnswer[link.IssueAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.IssueJob](job)
	if err != nil {
		return nil, err
	}
	trust, err := s.cfg.Store.Trust(ctx)
	if err != nil {
		return nil, err
	}
	c, parsed, err := model.NewCertificate(answer.Certificate)
	if err != nil {
		return nil, refusal{err}
	}
	if err := s.checkIssued(parsed, asked, answer, trust); err != nil {
		return nil, err
	}
	if err := checkIssuedRecord(answer.Record, asked, c.SHA256, trust.KeySet); err != nil {
		return nil, err
	}
	now := s.cfg.Clock()
	c.Kind, c.Purpose, c.RecordID = model.CertificateIssued, profiles.PurposeSMIMESigning, asked.IntentID
	c.UserID, c.DeviceID, c.EnrolmentID, c.Profile = asked.UserID, asked.DeviceID, asked.EnrolmentID, asked.Profile
	c.CA, c.RevokeOn = asked.Request.CertificateAuthority, asked.Request.Revocations()
	c.Status, c.StatusAt, c.CreatedAt = model.CertificateCurrent, now, now
	return &IssuedEffect{Certificate: c, Record: answer.Record, CA: c.CA}, nil
}

func (s *Service) checkIssued(c *x509.Certificate, asked link.IssueJob, answer link.IssueAnswer, trust Trust) error {
	if c.IsCA {
		return refuse("the certificate is a CA certificate")
	}
	if err := s.checkTime(c); err != nil {
		return err
	}
	if err := checkIssuer(c, asked.Request.CertificateAuthority, answer.Chain, trust.CAs); err != nil {
		return err
	}
	return checkAddresses(c, asked)
}

// checkAddresses: the rfc822Names are the ones that were asked for, in their order and spelling. Names that ASCII cannot
// write stand elsewhere (RFC 9598), and the subject may repeat an address if it was asked to.
func checkAddresses(c *x509.Certificate, asked link.IssueJob) error {
	var want, ascii []string
	for _, n := range asked.SANs {
		if n.Type != profiles.SANEmail {
			continue
		}
		want = append(want, n.Value)
		if !strings.ContainsFunc(n.Value, func(r rune) bool { return r > unicode.MaxASCII }) {
			ascii = append(ascii, n.Value)
		}
	}
	got := profiles.CertificateAddresses(c)
	allowed := slices.Concat(want, subjectAddresses(asked.Subject))
	lacks := slices.ContainsFunc(want, func(a string) bool { return !slices.Contains(got, a) })
	strange := slices.ContainsFunc(got, func(a string) bool { return !slices.Contains(allowed, a) })
	if lacks || strange || !slices.Equal(c.EmailAddresses, ascii) {
		return refuse("the certificate carries the addresses %q, asked were %q", got, want)
	}
	return nil
}

// subjectAddresses are the emailAddress attributes of a subject in DER form.
func subjectAddresses(der []byte) []string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &name); err != nil {
		return nil
	}
	var subject pkix.Name
	subject.FillFromRDNSequence(&name)
	return profiles.CertificateAddresses(&x509.Certificate{Subject: subject})
}

// checkIssuer builds a chain to what the connector published for the CA.
func checkIssuer(c *x509.Certificate, name string, chain [][]byte, cas []link.CA) error {
	i := slices.IndexFunc(cas, func(ca link.CA) bool { return ca.Name == name })
	if i < 0 {
		return refuse("no connector offers the CA %q", name)
	}
	if err := checkChain(chain); err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	at := c.NotBefore // CAs date back, also to before they had the certificate that they issue with
	for _, der := range append([][]byte{cas[i].Certificate}, cas[i].Chain...) {
		if ca, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(ca)
			if ca.NotBefore.After(at) && ca.NotBefore.Before(c.NotAfter) {
				at = ca.NotBefore
			}
		}
	}
	for _, der := range chain {
		if ca, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(ca)
		}
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return refuse("the certificate is not issued by the CA %q: %w", name, err)
	}
	return nil
}

func checkIssuedRecord(r escrow.Record, asked link.IssueJob, certSHA256 string, signed *escrow.SignedKeySet) error {
	if err := r.Check(); err != nil {
		return refusal{err}
	}
	if r.ID != asked.IntentID || r.Owner != link.EnrolmentURN(asked.Holder()) || r.CertSHA256 != certSHA256 {
		return refuse("the sealed key names record %s, owner %s and certificate %s, not the ones of this job", r.ID, r.Owner, r.CertSHA256)
	}
	return checkConnectorsOnly(r, signed)
}

// checkConnectorsOnly: a key that a connector made is sealed to connectors of the key set, never to the recovery key.
func checkConnectorsOnly(r escrow.Record, signed *escrow.SignedKeySet) error {
	set, err := verifiedSet(signed)
	if err != nil {
		return err
	}
	for _, w := range r.Wraps {
		if m, ok := set.Member(w.Member); !ok || m.Kind != escrow.MemberConnector {
			return refuse("record %s is sealed to %s, who is no connector of key set %d", r.ID, w.Member, set.Serial)
		}
	}
	return nil
}

func verifiedSet(signed *escrow.SignedKeySet) (escrow.KeySet, error) {
	if signed == nil {
		return escrow.KeySet{}, refuse("there is no key set yet")
	}
	set, err := signed.Verify(escrow.Fingerprint(signed.Root), 0)
	if err != nil {
		return set, fmt.Errorf("reading the stored key set: %w", err)
	}
	return set, nil
}

func (s *Service) renderedEffect(job model.Job, raw json.RawMessage) (*RenderedEffect, error) {
	answer, err := decodeAnswer[link.RenderAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.RenderJob](job)
	if err != nil {
		return nil, err
	}
	if len(answer.Payload) == 0 || len(answer.Payload) > maxPayload {
		return nil, refuse("the document has %d bytes; 1 to %d are right", len(answer.Payload), maxPayload)
	}
	if err := s.cfg.CheckRendered(asked.Platform, asked.Document, answer.Payload); err != nil {
		return nil, refusal{err}
	}
	sum := sha256.Sum256(asked.Recipient)
	return &RenderedEffect{EnrolmentID: job.EnrolmentID, DocumentID: asked.Document.ID, Revision: asked.Document.Revision,
		Recipient: hex.EncodeToString(sum[:]), Payload: answer.Payload}, nil
}

func (s *Service) revokedEffect(job model.Job, raw json.RawMessage) (*RevokedEffect, error) {
	answer, err := decodeAnswer[link.RevokeAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.RevokeJob](job)
	if err != nil {
		return nil, err
	}
	at := answer.RevokedAt
	if now := s.cfg.Clock(); at.IsZero() || at.After(now) {
		at = now
	}
	sum := sha256.Sum256(asked.Certificate)
	return &RevokedEffect{CertSHA256: hex.EncodeToString(sum[:]), At: at}, nil
}

// rewrappedEffect checks that only the wraps changed and that they cover the current key set.
func (s *Service) rewrappedEffect(ctx context.Context, job model.Job, raw json.RawMessage) (*escrow.Record, error) {
	answer, err := decodeAnswer[link.RewrapAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.RewrapJob](job)
	if err != nil {
		return nil, err
	}
	trust, err := s.cfg.Store.Trust(ctx)
	if err != nil {
		return nil, err
	}
	set, err := verifiedSet(trust.KeySet)
	if err != nil {
		return nil, err
	}
	before, after := asked.Record, answer.Record
	if err := after.Check(); err != nil {
		return nil, refusal{err}
	}
	if before.ID != after.ID || before.Owner != after.Owner || before.CertSHA256 != after.CertSHA256 ||
		!bytes.Equal(before.Nonce, after.Nonce) || !bytes.Equal(before.Ciphertext, after.Ciphertext) {
		return nil, refuse("more than the wraps of record %s changed", before.ID)
	}
	if err := checkWraps(after, set); err != nil {
		return nil, err
	}
	return &after, nil
}

// checkWraps: an imported record is for all members; an issued one, owned by an enrolment, for connectors.
func checkWraps(r escrow.Record, set escrow.KeySet) error {
	members := set.Members
	if strings.HasPrefix(r.Owner, link.EnrolmentURN("")) {
		members = set.Connectors()
	}
	for _, m := range members {
		if !r.SealedTo(m.ID) {
			return refuse("record %s is not sealed to member %s of key set %d", r.ID, m.ID, set.Serial)
		}
	}
	if len(r.Wraps) != len(members) {
		return refuse("record %s is sealed to somebody who may not have it in key set %d", r.ID, set.Serial)
	}
	return nil
}
