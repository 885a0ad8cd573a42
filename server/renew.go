package main

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
)

// renewalProfile is the enrolment profile for a device that has one, with a challenge of its own. A device that enrolled
// for another topic cannot take it: its Topic never changes.
func (s *server) renewalProfile(challenger *issuance.Challenger) func(model.Enrolment) ([]byte, error) {
	return func(enr model.Enrolment) ([]byte, error) {
		if enr.MustReenroll || enr.PushTopic != "" && enr.PushTopic != s.topic() {
			return nil, nil
		}
		challenge, err := challenger.Make(enr.ID, issuance.IdentityRequest)
		if err != nil {
			return nil, err
		}
		profile, err := s.enrolmentProfile(challenge, enr.ID)
		if err == nil && s.Settings.ProfileSigningCert == "" {
			profile, err = s.sign(profile) // by MDM every profile is signed
		}
		return profile, err
	}
}

// renewIdentity answers the SCEP request that such a profile leads to.
func (s *server) renewIdentity(challenger *issuance.Challenger) func(context.Context, string, *x509.CertificateRequest) (model.Challenge, error) {
	return func(ctx context.Context, challenge string, csr *x509.CertificateRequest) (model.Challenge, error) {
		b, err := challenger.Open(challenge)
		var fault *issuance.Fault
		switch {
		case errors.As(err, &fault) && fault.Code == issuance.ChallengeExpired:
			return model.Challenge{}, model.ErrExpired
		case err != nil || b.RequestID != issuance.IdentityRequest:
			return model.Challenge{}, model.ErrNotFound
		}
		enr, err := s.db.EnrolmentByID(ctx, b.EnrolmentID)
		if err != nil {
			return model.Challenge{}, err
		}
		return s.identity.RenewBy(ctx, enr, challenge, csr)
	}
}

// due tells whether an identity ends soon.
func (s *server) due(enr model.Enrolment) bool { return identity.Due(enr, s.Clock()) }
