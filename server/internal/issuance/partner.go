package issuance

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Approve tells a partner CA that a request is right, and binds the challenge to the request's key: from then on it is good
// for no other. The certify job that it makes is the partner's, who ends it by telling what became of it. The same request
// again is looked at again and changes nothing. The error is a *Fault, or a fault of the machine.
func (s *Service) Approve(ctx context.Context, partner, challenge, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	order, err := s.Validate(ctx, challenge, csr, true)
	if err != nil {
		return model.SCEPRequest{EnrolmentID: order.EnrolmentID}, err
	}
	if link.PartnerOf(order.Needs) != partner {
		return model.SCEPRequest{EnrolmentID: order.EnrolmentID}, fault(BadRequestIDInChallenge,
			"the challenge is for the CA %q, which the partner %q is not", order.Request.CertificateAuthority, partner)
	}
	return s.begin(ctx, model.SCEPRequest{Hash: hashOf(challenge), TransactionID: transactionID}, order, csr)
}

// Approved finds what a partner CA was told to be right before, and says something about now. Whether it still would be does
// not matter. The error is a *Fault, or a fault of the machine.
func (s *Service) Approved(ctx context.Context, partner, challenge string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	if challenge == "" {
		return model.SCEPRequest{}, fault(ChallengePasswordMissing, "the request has no challenge password")
	}
	r, err := s.cfg.Store.SCEPRequest(ctx, hashOf(challenge))
	if errors.Is(err, model.ErrNotFound) {
		return r, fault(BadRequestIDInChallenge, "the request was not validated before, or long ago; call validateRequest first")
	}
	if err != nil {
		return r, fmt.Errorf("looking for the request: %w", err)
	}
	if r.KeySHA256 != keyHash(csr) {
		return r, fault(RegisteredKeyMismatch, "the challenge was validated for another key")
	}
	job, err := s.cfg.Store.JobByID(ctx, r.JobID)
	if errors.Is(err, model.ErrNotFound) || err == nil && link.PartnerOf(job.Needs) != partner {
		return r, fault(BadRequestIDInChallenge, "the request was not validated by the partner %q", partner)
	}
	return r, err
}

func notHere(partner string) error {
	return fault(BadRequestIDInChallenge, "the certificate comes from the partner CA %q: it is asked at its own URL", partner)
}

// What a device cannot put into its request, nobody can ask it for.

// canAskUsage: the SCEP payload of Apple knows signing and encryption (Apple: SCEP.PayloadContent, Key Usage), the CSP of
// Windows one bit more (ClientCertificateInstall CSP, KeyUsage).
func canAskUsage(p profiles.Platform, usage string) bool {
	switch p {
	case profiles.IOS, profiles.MacOS:
		return slices.Contains([]string{"digitalSignature", "keyEncipherment"}, usage)
	case profiles.Windows:
		return slices.Contains([]string{"digitalSignature", "nonRepudiation", "keyEncipherment"}, usage)
	}
	return true
}

// canAskExtUsage: Apple's payload has no extended key usage, so that the CA adds it.
func canAskExtUsage(p profiles.Platform) bool { return p != profiles.IOS && p != profiles.MacOS }

// canAskName: Apple's payload has one ntPrincipalName.
func canAskName(order link.CertifyJob, at int) bool {
	if order.Platform != profiles.IOS && order.Platform != profiles.MacOS || order.SANs[at].Type != profiles.SANUPN {
		return true
	}
	return !slices.ContainsFunc(order.SANs[:at], func(n profiles.SubjectAlternativeName) bool { return n.Type == profiles.SANUPN })
}
