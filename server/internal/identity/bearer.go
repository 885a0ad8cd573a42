package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Credential makes the bearer credential of an enrolment, in place of an older one; it is stored as a hash only.
func (s *Service) Credential(ctx context.Context, enr model.Enrolment) (string, error) {
	secret, err := s.newSecret()
	if err != nil {
		return "", err
	}
	if err := s.cfg.Store.SetCredential(ctx, enr.ID, Hash(secret)); err != nil {
		return "", fmt.Errorf("storing a credential: %w", err)
	}
	return enr.ID + "." + secret, nil
}

// Bearer finds the enrolment of a credential, an ended one too; model.ErrNotFound when it is nobody's.
func (s *Service) Bearer(ctx context.Context, credential string) (model.Enrolment, error) {
	id, secret, ok := strings.Cut(credential, ".")
	if !ok || len(credential) > maxChallenge {
		return model.Enrolment{}, model.ErrNotFound
	}
	enr, err := s.cfg.Store.EnrolmentByID(ctx, id)
	if err != nil {
		if errors.Is(err, model.ErrNotFound) {
			return model.Enrolment{}, model.ErrNotFound
		}
		return model.Enrolment{}, fmt.Errorf("reading the enrolment of a credential: %w", err)
	}
	if enr.CredentialHash == "" || subtle.ConstantTimeCompare([]byte(Hash(secret)), []byte(enr.CredentialHash)) != 1 {
		return model.Enrolment{}, model.ErrNotFound
	}
	return enr, nil
}

// Taken tells whether a device belongs to somebody else, who has not given it back.
func (s *Service) Taken(ctx context.Context, platform profiles.Platform, externalID, userID string) (bool, error) {
	return s.cfg.Store.OtherOwner(ctx, platform, externalID, userID)
}
