package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Renew asks for a further certificate of an active enrolment, for the key of the request. The same key again gives the
// same answer, so that a lost one can be asked for once more. Errors are those of Redeem; model.ErrConflict: the enrolment
// is not active.
func (s *Service) Renew(ctx context.Context, enr model.Enrolment, csr *x509.CertificateRequest) (model.Challenge, error) {
	key := keyHash(csr)
	now := s.cfg.Clock()
	c := model.Challenge{Hash: Hash("renew:" + enr.ID + ":" + key), UserID: enr.UserID, Platform: enr.Platform, EnrolmentID: enr.ID,
		CreatedAt: now, ExpiresAt: now.Add(ChallengeLife), KeySHA256: key}
	if err := checkRequest(csr, c); err != nil {
		return c, err
	}
	job, err := s.identityJob(csr, c)
	if err != nil {
		return c, err
	}
	job.Key += ":" + key
	return s.cfg.Store.Renew(ctx, c, job)
}

// RenewBy is Renew for a device that has a challenge for it: one that is good for one key. model.ErrSpent: another key.
func (s *Service) RenewBy(ctx context.Context, enr model.Enrolment, challenge string, csr *x509.CertificateRequest) (model.Challenge, error) {
	key, now := keyHash(csr), s.cfg.Clock()
	c := model.Challenge{Hash: Hash("renew:" + challenge), UserID: enr.UserID, Platform: enr.Platform, EnrolmentID: enr.ID,
		CreatedAt: now, ExpiresAt: now.Add(ChallengeLife), KeySHA256: key}
	if err := checkRequest(csr, c); err != nil {
		return c, err
	}
	job, err := s.identityJob(csr, c)
	if err != nil {
		return c, err
	}
	job.Key += ":" + key
	stored, err := s.cfg.Store.Renew(ctx, c, job)
	if err == nil && stored.KeySHA256 != key {
		return stored, fmt.Errorf("the challenge, by another key: %w", model.ErrSpent)
	}
	return stored, err
}

// renewalPart is the last part of a device certificate's life in which it is renewed: a fifth.
const renewalPart = 5

// Due tells whether the enrolment's certificate ends soon, or has ended, and no renewed one waits to be used.
func Due(enr model.Enrolment, now time.Time) bool {
	cert, err := x509.ParseCertificate(enr.Certificate)
	if err != nil || enr.NextCertSHA256 != "" {
		return false
	}
	return !now.Before(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / renewalPart))
}

// InUse takes a renewed certificate over, because the device says that it uses it. One that is not the enrolment's next
// changes nothing.
func (s *Service) InUse(ctx context.Context, enr model.Enrolment, certSHA256 string) (model.Enrolment, error) {
	return s.promote(ctx, enr, certSHA256)
}

func (s *Service) promote(ctx context.Context, enr model.Enrolment, certSHA256 string) (model.Enrolment, error) {
	now := s.cfg.Clock()
	audit := model.AuditEntry{At: now, Actor: "enrolment " + enr.ID, Action: "enrolment.renew", Object: enr.DeviceID, Outcome: "ok",
		Detail: map[string]string{"certificate": certSHA256, "former": enr.CertSHA256}}
	enr, err := s.cfg.Store.Promote(ctx, enr.ID, certSHA256, now, audit)
	if err != nil {
		return enr, fmt.Errorf("taking over a renewed certificate: %w", err)
	}
	return enr, nil
}
