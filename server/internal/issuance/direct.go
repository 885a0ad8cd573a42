package issuance

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
)

// BeginFor asks for the certificate of a request that the enrolment's own device makes over a channel that proves who it is,
// so that there is no challenge. The same key for the same request is the same question; another key gets a certificate of
// its own, and the newest counts. The error is a *Fault, or a fault of the machine.
func (s *Service) BeginFor(ctx context.Context, enrolmentID, requestID string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	if csr.CheckSignature() != nil {
		return model.SCEPRequest{EnrolmentID: enrolmentID}, fault(SignatureValidationFailed, "the request is not signed by its own key")
	}
	hash := hashOf("request " + requestID + " of " + enrolmentID + " for " + keyHash(csr))
	known, err := s.cfg.Store.SCEPRequest(ctx, hash)
	if err == nil {
		return known, s.stillGood(ctx, known)
	}
	if !errors.Is(err, model.ErrNotFound) {
		return model.SCEPRequest{EnrolmentID: enrolmentID}, fmt.Errorf("looking for the request: %w", err)
	}
	order, err := s.orderOf(ctx, enrolmentID, requestID)
	if partner := link.PartnerOf(order.Needs); err == nil && partner != "" {
		err = notHere(partner)
	}
	if err == nil {
		err = Check(csr, order, false)
	}
	if err != nil {
		return model.SCEPRequest{EnrolmentID: enrolmentID}, err
	}
	return s.begin(ctx, model.SCEPRequest{Hash: hash, TransactionID: hash}, order, csr)
}

// stillGood refuses a key whose certificate was superseded, revoked or taken back.
func (s *Service) stillGood(ctx context.Context, r model.SCEPRequest) error {
	if len(r.Certificate) == 0 {
		return nil
	}
	sum := sha256.Sum256(r.Certificate)
	c, err := s.cfg.Store.IssuedCertificate(ctx, hex.EncodeToString(sum[:]))
	if err != nil {
		return fmt.Errorf("looking for the certificate of the request: %w", err)
	}
	if c.Status != model.CertificateCurrent {
		return fault(RegisteredKeyMismatch, "the certificate of this key is not current any more; make another key")
	}
	return nil
}

func (s *Service) orderOf(ctx context.Context, enrolmentID, requestID string) (link.CertifyJob, error) {
	orders, err := s.cfg.Orders.Orders(ctx, enrolmentID)
	if err != nil {
		return link.CertifyJob{}, fmt.Errorf("reading what enrolment %s shall have: %w", enrolmentID, err)
	}
	for _, order := range orders {
		if order.RequestID == requestID {
			return order, nil
		}
	}
	return link.CertifyJob{}, fault(ScepProfileNoLongerTargeted, "the profile was changed, or is not assigned to the device any more")
}
