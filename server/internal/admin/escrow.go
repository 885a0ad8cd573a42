package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// maxChain bounds the issuers that come with a certificate.
const maxChain = 16

func (s *Service) registerEscrow(h huma.API) {
	handle(s, h, operation("list-escrow", http.MethodGet, "/escrow", "List escrow records"), s.escrowRecords)
	add := operation("import", http.MethodPost, "/escrow", "Store one sealed key with its certificate")
	add.MaxBodyBytes, add.DefaultStatus = maxImport, http.StatusOK
	handle(s, h, add, s.importRecord)
	handle(s, h, operation("delete-escrow", http.MethodDelete, "/escrow/{id}", "Remove an escrow record; devices lose it, nothing is revoked"), s.deleteRecord)
}

func (s *Service) escrowRecords(ctx context.Context, in *pageInput) (*body[api.Page[api.EscrowRecord]], error) {
	records, err := s.Store.EscrowRecords(ctx, in.page())
	if err != nil {
		return nil, err
	}
	names := s.upns()
	for _, r := range records {
		if err := names.load(ctx, r.UserID); err != nil {
			return nil, err
		}
	}
	return pageOf(in, records, recordKey, func(r model.EscrowRecord) api.EscrowRecord {
		out := api.EscrowRecord{ID: r.Record.ID, User: names.of(r.UserID), UserID: r.UserID, Purpose: r.Purpose, CertSHA256: r.Record.CertSHA256, SealedTo: []string{}}
		for _, w := range r.Record.Wraps {
			out.SealedTo = append(out.SealedTo, w.Member)
		}
		return out
	}), nil
}

// importRecord checks what can be seen without the key; waxctl and the connector check the rest.
func (s *Service) importRecord(ctx context.Context, in *struct{ Body api.ImportRequest }) (*body[api.ImportResponse], error) {
	r := in.Body
	user, err := s.userByUPN(ctx, http.StatusUnprocessableEntity, "body.user", r.User)
	if err != nil {
		return nil, err
	}
	certificate, err := s.checkImport(ctx, user, r)
	if err != nil {
		s.refused(ctx, "escrow.import", "user "+user.ID, err.Error())
		return nil, err
	}
	entry := s.entry("escrow.import", "record "+r.Record.ID, map[string]string{"user": user.UPN, "certificate": certificate.SHA256, "purpose": string(r.Purpose)})
	created, err := s.Store.Import(ctx, model.EscrowRecord{Record: r.Record, UserID: user.ID, Purpose: r.Purpose}, certificate, entry)
	if err != nil {
		return nil, err
	}
	if created {
		s.Wake()
	}
	return &body[api.ImportResponse]{Body: api.ImportResponse{Created: created}}, nil
}

func (s *Service) checkImport(ctx context.Context, user model.User, r api.ImportRequest) (model.Certificate, error) {
	if err := r.Record.Check(); err != nil {
		return model.Certificate{}, refuse(http.StatusUnprocessableEntity, "body.record", "%v", err)
	}
	c, parsed, err := model.NewCertificate(r.Certificate)
	if err != nil {
		return c, refuse(http.StatusUnprocessableEntity, "body.certificate", "%v; it must be one certificate in DER form", err)
	}
	if err := checkNames(user, r.Record, c); err != nil {
		return c, err
	}
	if err := checkChain(r.Chain); err != nil {
		return c, err
	}
	if err := checkPurpose(r.Purpose, parsed); err != nil {
		return c, err
	}
	if err := s.checkAddresses(ctx, user, c); err != nil {
		return c, err
	}
	now := s.Clock()
	c.Purpose, c.RecordID, c.Kind, c.UserID = r.Purpose, r.Record.ID, model.CertificateImported, user.ID
	c.Status, c.StatusAt, c.CreatedAt = model.CertificateCurrent, now, now
	return c, s.checkSealedTo(ctx, r.Record)
}

// checkNames compares the names that are bound into the record with the user and the certificate.
func checkNames(user model.User, r escrow.Record, c model.Certificate) error {
	if owner := link.UserURN(user.ID); r.Owner != owner {
		return refuse(http.StatusUnprocessableEntity, "body.record.owner", "the record is sealed for %s, but user %s is %s: seal the key again", r.Owner, user.UPN, owner)
	}
	if r.CertSHA256 != c.SHA256 {
		return refuse(http.StatusUnprocessableEntity, "body.record.certSha256", "the record is sealed for certificate %s, the certificate sent is %s", r.CertSHA256, c.SHA256)
	}
	return nil
}

func checkChain(chain [][]byte) error {
	if len(chain) > maxChain {
		return refuse(http.StatusUnprocessableEntity, "body.chain", "%d issuers: at most %d are allowed", len(chain), maxChain)
	}
	for i, der := range chain {
		if _, err := x509.ParseCertificate(der); err != nil {
			return refuse(http.StatusUnprocessableEntity, fmt.Sprintf("body.chain[%d]", i), "it is no certificate in DER form: %v", err)
		}
	}
	return nil
}

// checkPurpose compares the purpose with the key usage (RFC 8550 section 4.4.2; no key usage allows everything).
func checkPurpose(p profiles.Purpose, c *x509.Certificate) error {
	const (
		signs    = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
		encrypts = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	)
	needed, words := x509.KeyUsage(0), ""
	switch p {
	case profiles.PurposeSMIMESigning:
		needed, words = signs, "digitalSignature or nonRepudiation"
	case profiles.PurposeSMIMEEncryption:
		needed, words = encrypts, "keyEncipherment, dataEncipherment or keyAgreement"
	case profiles.PurposeUnassigned:
		return nil
	default:
		return refuse(http.StatusUnprocessableEntity, "body.purpose", "%q is no purpose: use smimeSigning, smimeEncryption or unassigned", p)
	}
	if c.KeyUsage != 0 && c.KeyUsage&needed == 0 {
		return refuse(http.StatusUnprocessableEntity, "body.purpose", "the certificate's key usage does not allow %s: it needs %s; import it as %s", p, words, profiles.DerivePurpose(c))
	}
	return nil
}

// checkAddresses accepts a certificate when each of its addresses is one of the user's, now or formerly.
func (s *Service) checkAddresses(ctx context.Context, user model.User, c model.Certificate) error {
	if len(c.Addresses) == 0 {
		return refuse(http.StatusUnprocessableEntity, "body.certificate", "the certificate %q carries no mail address, so no mail program would use it", c.Subject)
	}
	var strange []string
	for _, a := range c.Addresses {
		if current, former := user.Spec.Owns(a); !current && !former {
			strange = append(strange, a)
		}
	}
	if len(strange) == 0 {
		return nil
	}
	owner, address, err := s.ownerOf(ctx, user.ID, strange)
	if err != nil {
		return err
	}
	if owner != "" {
		return refuse(http.StatusUnprocessableEntity, "body.certificate", "the certificate carries %s, which belongs to %s and not to %s: import it with --user %s", address, owner, user.UPN, owner)
	}
	all := slices.Concat(user.Spec.FormerAddresses, strange)
	return refuse(http.StatusUnprocessableEntity, "body.certificate",
		"the certificate carries %s, which nobody is known to have. If it was %s's, add this line to the spec of User %s, apply it, and import again:\n  formerAddresses: [%s]",
		strings.Join(strange, ", "), user.UPN, user.UPN, strings.Join(all, ", "))
}

// ownerOf finds another user who has one of the addresses.
func (s *Service) ownerOf(ctx context.Context, except string, addresses []string) (upn, address string, err error) {
	found := errors.New("found")
	err = s.eachUser(ctx, func(u model.User) error {
		if u.ID == except {
			return nil
		}
		for _, a := range addresses {
			if current, former := u.Spec.Owns(a); current || former {
				upn, address = u.UPN, a
				return found
			}
		}
		return nil
	})
	if errors.Is(err, found) {
		err = nil
	}
	return upn, address, err
}

// checkSealedTo compares the record's wraps with the current key set: all its members and nobody else. The server reads the
// set without a pin: it only keeps a record from being useless; whom to seal to was waxctl's decision.
func (s *Service) checkSealedTo(ctx context.Context, r escrow.Record) error {
	signed, err := s.Connectors.KeySet(ctx)
	if err != nil {
		return err
	}
	if signed == nil {
		return refuse(http.StatusConflict, "", "there is no key set yet: register a connector first")
	}
	set, err := signed.Verify(escrow.Fingerprint(signed.Root), 0)
	if err != nil {
		return fmt.Errorf("reading the stored key set: %w", err)
	}
	for _, m := range set.Members {
		if !r.SealedTo(m.ID) {
			return refuse(http.StatusConflict, "body.record.wraps", "the record is not sealed to member %s (%s) of key set %d: read the key set and seal again", m.Name, m.ID, set.Serial)
		}
	}
	if len(r.Wraps) != len(set.Members) {
		return refuse(http.StatusConflict, "body.record.wraps", "the record is sealed to somebody who is not in key set %d: read the key set and seal again", set.Serial)
	}
	return nil
}

func (s *Service) deleteRecord(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64"`
}) (*struct{}, error) {
	err := s.Store.DeleteRecord(ctx, in.ID, s.Clock(), s.entry("escrow.delete", "record "+in.ID, nil))
	if errors.Is(err, model.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, "", "there is no escrow record %q", in.ID)
	}
	if err != nil {
		return nil, err
	}
	s.Wake()
	return nil, nil
}
