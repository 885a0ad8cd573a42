package identity

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	minRSABits = 2048
	maxRSABits = 8192
	// maxChallenge bounds what is hashed; ours have 43 characters.
	maxChallenge = 255
	// pollEvery is how often a wait looks whether another node stored the answer.
	pollEvery = 200 * time.Millisecond
)

// Redeem exchanges a challenge and a certificate request for an identity job. The same key again returns the challenge
// as it is, with the certificate once it is there. Of the request only the key is used; names come from the challenge.
//
// The challenge must be one of these platforms, if any are given: each endpoint takes its own only.
//
// A *Refusal is an error in the request; model.ErrNotFound, model.ErrExpired and model.ErrSpent are about the challenge.
func (s *Service) Redeem(ctx context.Context, challenge string, csr *x509.CertificateRequest, of ...profiles.Platform) (model.Challenge, error) {
	if challenge == "" {
		return model.Challenge{}, refuse("the request carries no challenge password; enrol with a profile downloaded from an enrolment link")
	}
	if len(challenge) > maxChallenge {
		return model.Challenge{}, model.ErrNotFound
	}
	c, err := s.cfg.Store.ChallengeByHash(ctx, Hash(challenge))
	if err != nil {
		return model.Challenge{}, fmt.Errorf("reading the challenge: %w", err)
	}
	if len(of) > 0 && !slices.Contains(of, c.Platform) {
		return model.Challenge{}, model.ErrNotFound
	}
	if err := checkRequest(csr, c); err != nil {
		return c, err
	}
	job, err := s.identityJob(csr, c)
	if err != nil {
		return c, err
	}
	return s.cfg.Store.Redeem(ctx, c.Hash, keyHash(csr), job, s.cfg.Clock())
}

func keyHash(csr *x509.CertificateRequest) string {
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func (s *Service) identityJob(csr *x509.CertificateRequest, c model.Challenge) (model.Job, error) {
	id, err := s.newID()
	if err != nil {
		return model.Job{}, err
	}
	payload, err := json.Marshal(link.IdentityJob{CSR: csr.Raw, EnrolmentID: c.EnrolmentID, UserID: c.UserID, Platform: string(c.Platform)})
	if err != nil {
		return model.Job{}, fmt.Errorf("encoding the identity job: %w", err)
	}
	now := s.cfg.Clock()
	return model.Job{ID: id, Key: "identity:" + c.EnrolmentID, Kind: link.JobIdentity, Payload: payload, UserID: c.UserID,
		EnrolmentID: c.EnrolmentID, State: model.JobOpen, RunAt: now, CreatedAt: now, UpdatedAt: now}, nil
}

// checkRequest refuses what the challenge's binding does not hold.
func checkRequest(csr *x509.CertificateRequest, c model.Challenge) error {
	key, ok := csr.PublicKey.(*rsa.PublicKey)
	if !ok {
		return refuse("the request's key is %s; a device identity needs RSA, to open what is encrypted to it", csr.PublicKeyAlgorithm)
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return refuse("the request's RSA key has %d bits; %d to %d are right", bits, minRSABits, maxRSABits)
	}
	if err := csr.CheckSignature(); err != nil {
		return refuse("the request is not signed by its own key")
	}
	for _, ext := range csr.Extensions {
		if err := checkExtension(ext.Id, ext.Value, c); err != nil {
			return err
		}
	}
	return nil
}

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidClientAuth       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

func checkExtension(id asn1.ObjectIdentifier, value []byte, c model.Challenge) error {
	switch {
	case id.Equal(oidSubjectAltName):
		return checkSAN(value, c)
	case id.Equal(oidExtKeyUsage):
		var usages []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(value, &usages); err != nil || len(rest) != 0 {
			return refuse("the request's extended key usage is malformed")
		}
		for _, u := range usages {
			if !u.Equal(oidClientAuth) {
				return refuse("the request asks for extended key usage %s; only clientAuth is given", u)
			}
		}
	case id.Equal(oidBasicConstraints):
		var bc struct {
			CA      bool `asn1:"optional"`
			PathLen int  `asn1:"optional"`
		}
		if rest, err := asn1.Unmarshal(value, &bc); err != nil || len(rest) != 0 || bc.CA {
			return refuse("the request asks for a CA certificate")
		}
	}
	return nil
}

// checkSAN allows the two URIs that the certificate gets anyway and nothing else; it looks at every general name, those
// that crypto/x509 skips too.
func checkSAN(value []byte, c model.Challenge) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &names); err != nil || len(rest) != 0 {
		return refuse("the request's subject alternative name is malformed")
	}
	for _, n := range names {
		uri := n.Class == asn1.ClassContextSpecific && n.Tag == 6
		if !uri || (string(n.Bytes) != link.EnrolmentURN(c.EnrolmentID) && string(n.Bytes) != link.UserURN(c.UserID)) {
			return refuse("the request asks for a subject alternative name that its challenge is not bound to")
		}
	}
	return nil
}

// Kick tells everybody who waits in this process that an answer may have been stored.
func (s *Service) Kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.kicked)
	s.kicked = make(chan struct{})
}

func (s *Service) nextKick() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked
}

// Answer waits until a redeemed challenge has its certificate. It notices an answer of this process at once and another
// node's at the next tick. ErrPending when ctx ends first; a *Refusal when the connector refused for good.
func (s *Service) Answer(ctx context.Context, c model.Challenge) (model.Challenge, error) {
	ticks, stop := s.cfg.Ticks(pollEvery)
	defer stop()
	for {
		kick := s.nextKick() // taken before the look, so that no answer falls in between
		now, err := s.look(ctx, c)
		if err != nil || len(now.Certificate) > 0 {
			return now, err
		}
		select {
		case <-kick:
		case <-ticks:
		case <-ctx.Done():
			return c, ErrPending
		}
	}
}

func (s *Service) look(ctx context.Context, c model.Challenge) (model.Challenge, error) {
	now, err := s.cfg.Store.ChallengeByHash(ctx, c.Hash)
	if err != nil {
		if ctx.Err() != nil {
			return c, ErrPending
		}
		return c, fmt.Errorf("reading the challenge: %w", err)
	}
	if len(now.Certificate) > 0 || s.cfg.Jobs == nil {
		return now, nil
	}
	job, err := s.cfg.Jobs.JobByID(ctx, now.JobID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return now, nil
	case err != nil && ctx.Err() != nil:
		return now, ErrPending
	case err != nil:
		return now, fmt.Errorf("reading the identity job: %w", err)
	case job.State == model.JobObsolete:
		return now, refuse("a later request by the same enrolment link took the place of this one")
	case job.State == model.JobFailed:
		return now, refuse("the connector refused the request: %s", job.Error)
	}
	return now, nil
}
