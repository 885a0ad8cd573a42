package connectorapi

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// certifiedEffect checks that a certificate is of the CA that was asked, for the key of the request, with the addresses
// that the profile gives and no other.
func (s *Service) certifiedEffect(ctx context.Context, job model.Job, raw json.RawMessage) (*CertifiedEffect, error) {
	answer, err := decodeAnswer[link.CertifyAnswer](raw)
	if err != nil {
		return nil, err
	}
	asked, err := decodePayload[link.CertifyJob](job)
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
	csr, err := x509.ParseCertificateRequest(asked.CSR)
	if err != nil {
		return nil, fmt.Errorf("reading the stored request: %w", err)
	}
	if !samePublicKey(parsed.PublicKey, csr.PublicKey) {
		return nil, refuse("the certificate is for another key than the request's")
	}
	same := link.IssueJob{Request: asked.Request, Subject: asked.Subject, SANs: asked.SANs}
	if err := s.checkIssued(parsed, same, link.IssueAnswer{Certificate: answer.Certificate, Chain: answer.Chain}, trust); err != nil {
		return nil, err
	}
	now := s.cfg.Clock()
	c.Kind, c.Purpose, c.RecordID = model.CertificateIssued, profiles.PurposeSMIMESigning, asked.RequestID
	c.UserID, c.DeviceID, c.EnrolmentID, c.Profile = asked.UserID, asked.DeviceID, asked.EnrolmentID, asked.Profile
	c.CA, c.RevokeOn = asked.Request.CertificateAuthority, asked.Request.Revocations()
	c.Status, c.StatusAt, c.CreatedAt = model.CertificateCurrent, now, now
	return &CertifiedEffect{Certificate: c, Chain: answer.Chain}, nil
}

const (
	maxFindings = 64
	maxCheck    = 128
)

// testedEffect bounds what a connector says of a CA's settings.
func testedEffect(raw json.RawMessage) (*link.TestCAAnswer, error) {
	answer, err := decodeAnswer[link.TestCAAnswer](raw)
	if err != nil {
		return nil, err
	}
	if len(answer.Findings) > maxFindings {
		return nil, refuse("%d findings about a CA; at most %d are allowed", len(answer.Findings), maxFindings)
	}
	for i, f := range answer.Findings {
		if len(f.Check) > maxCheck {
			return nil, refuse("findings[%d].check has more than %d bytes", i, maxCheck)
		}
		answer.Findings[i].Check, answer.Findings[i].Detail = printable(f.Check), printable(f.Detail)
	}
	return &answer, nil
}
