package issuance

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Store is what issuance needs of the database. Every method is one transaction, durable on return.
type Store interface {
	// SCEPRequest reads what became of a challenge, by its hash; model.ErrNotFound: nothing yet.
	SCEPRequest(ctx context.Context, hash string) (model.SCEPRequest, error)
	// BeginSCEPRequest binds a challenge to the key of its first request and creates the certify job in the same transaction.
	// The same key again gives what is stored and changes nothing but the client's name for it. model.ErrSpent: another key; model.ErrConflict: the
	// enrolment has ended; model.ErrNotFound: there is none; model.ErrTooMany: the device has asked by very many keys.
	BeginSCEPRequest(ctx context.Context, r model.SCEPRequest, job model.Job) (model.SCEPRequest, error)
	// SCEPRequestByTransaction is the latest request of a key, or signed by one, under the client's name for it; model.ErrNotFound.
	SCEPRequestByTransaction(ctx context.Context, transactionID, keySHA256 string) (model.SCEPRequest, error)
	// IssuedCertificate reads a certificate that a CA issued for a profile; model.ErrNotFound.
	IssuedCertificate(ctx context.Context, sha256 string) (model.Certificate, error)
	// JobByID reads one; model.ErrNotFound.
	JobByID(ctx context.Context, id string) (model.Job, error)
}

// Orders says what certificates an enrolment's profiles want now, whether it has them or not. model.ErrNotFound: there is
// no such enrolment.
type Orders interface {
	Orders(ctx context.Context, enrolmentID string) ([]link.CertifyJob, error)
}

// Config is what New needs; Kick may be nil.
type Config struct {
	Store      Store
	Orders     Orders
	Challenger *Challenger
	// Kick tells the connectors' long polls that there is a job.
	Kick  func()
	Clock func() time.Time
	// Tick is how often an answer of another node is looked for [250 ms].
	Tick time.Duration
}

// Service certifies devices' own keys. It is safe for concurrent use.
type Service struct {
	cfg    Config
	mu     sync.Mutex
	kicked chan struct{}
}

// New makes the service.
func New(cfg Config) *Service {
	if cfg.Kick == nil {
		cfg.Kick = func() {}
	}
	if cfg.Tick == 0 {
		cfg.Tick = 250 * time.Millisecond
	}
	return &Service{cfg: cfg, kicked: make(chan struct{})}
}

// ErrPending says that no connector has answered yet; the same request again waits further.
var ErrPending = errors.New("no connector has answered yet")

// Validate holds a request and its challenge against what the profile wants now, without spending the challenge. The error
// is a *Fault, or a fault of the machine.
func (s *Service) Validate(ctx context.Context, challenge string, csr *x509.CertificateRequest, strict bool) (link.CertifyJob, error) {
	b, err := s.cfg.Challenger.Open(challenge)
	if err != nil {
		return link.CertifyJob{EnrolmentID: b.EnrolmentID}, err
	}
	orders, err := s.cfg.Orders.Orders(ctx, b.EnrolmentID)
	if errors.Is(err, model.ErrNotFound) {
		return link.CertifyJob{}, fault(BadDeviceIDInChallenge, "the challenge is of an enrolment that is not known")
	}
	if err != nil {
		return link.CertifyJob{}, fmt.Errorf("reading what enrolment %s shall have: %w", b.EnrolmentID, err)
	}
	for _, order := range orders {
		if order.RequestID == b.RequestID {
			return order, s.check(ctx, challenge, csr, order, strict)
		}
	}
	return link.CertifyJob{EnrolmentID: b.EnrolmentID}, fault(ScepProfileNoLongerTargeted, "the profile of the challenge was changed, or is not assigned to the device any more")
}

func (s *Service) check(ctx context.Context, challenge string, csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	if err := csr.CheckSignature(); err != nil {
		return fault(SignatureValidationFailed, "the request is not signed by its own key")
	}
	if err := Check(csr, order, strict); err != nil {
		return err
	}
	known, err := s.cfg.Store.SCEPRequest(ctx, hashOf(challenge))
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether the challenge was used: %w", err)
	case known.KeySHA256 != keyHash(csr):
		return fault(RegisteredKeyMismatch, "the challenge was used for another key")
	}
	return nil
}

// Begin asks for the certificate of a request. The same challenge with the same key again is the same question. The error
// is a *Fault, or a fault of the machine.
func (s *Service) Begin(ctx context.Context, challenge, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	if known, err := s.cfg.Store.SCEPRequest(ctx, hashOf(challenge)); err == nil && known.KeySHA256 == keyHash(csr) && csr.CheckSignature() == nil {
		return s.again(ctx, known, transactionID) // what is ordered by now does not matter: this one is issued, or will be
	}
	order, err := s.Validate(ctx, challenge, csr, false)
	if partner := link.PartnerOf(order.Needs); err == nil && partner != "" {
		err = notHere(partner)
	}
	if err != nil {
		return model.SCEPRequest{EnrolmentID: order.EnrolmentID}, err
	}
	return s.begin(ctx, model.SCEPRequest{Hash: hashOf(challenge), TransactionID: transactionID}, order, csr)
}

// Renew asks for the next certificate of a profile by a request that the former one signed (RFC 8894 section 2.3), once it
// is due. Names come from the profile as they do for the first. The error is a *Fault, or a fault of the machine.
func (s *Service) Renew(ctx context.Context, former *x509.Certificate, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	sum := sha256.Sum256(former.Raw)
	known, err := s.cfg.Store.IssuedCertificate(ctx, hex.EncodeToString(sum[:]))
	if errors.Is(err, model.ErrNotFound) || err == nil && known.Status != model.CertificateCurrent {
		return model.SCEPRequest{}, fault(BadRequestIDInChallenge, "the request is signed by a certificate that is not current here")
	}
	if err != nil {
		return model.SCEPRequest{}, fmt.Errorf("looking for the certificate to renew: %w", err)
	}
	hash := hashOf("renewal of " + known.SHA256 + " for " + keyHash(csr))
	if r, err := s.cfg.Store.SCEPRequest(ctx, hash); err == nil {
		return s.again(ctx, r, transactionID)
	}
	orders, err := s.cfg.Orders.Orders(ctx, known.EnrolmentID)
	if err != nil {
		return model.SCEPRequest{}, fmt.Errorf("reading what enrolment %s shall have: %w", known.EnrolmentID, err)
	}
	for _, order := range orders {
		switch {
		case order.Profile != known.Profile:
			continue
		case order.RequestID == known.RecordID:
			return model.SCEPRequest{EnrolmentID: known.EnrolmentID}, fault(BadRequestIDInChallenge, "the certificate is not due for renewal")
		case link.PartnerOf(order.Needs) != "":
			return model.SCEPRequest{EnrolmentID: known.EnrolmentID}, notHere(link.PartnerOf(order.Needs))
		case csr.CheckSignature() != nil:
			return model.SCEPRequest{EnrolmentID: known.EnrolmentID}, fault(SignatureValidationFailed, "the request is not signed by its own key")
		}
		if err := Check(csr, order, false); err != nil {
			return model.SCEPRequest{EnrolmentID: known.EnrolmentID}, err
		}
		return s.begin(ctx, model.SCEPRequest{Hash: hash, TransactionID: transactionID, SignerSHA256: keyOf(former)}, order, csr)
	}
	return model.SCEPRequest{EnrolmentID: known.EnrolmentID}, fault(ScepProfileNoLongerTargeted, "the profile of the certificate is not assigned to the device any more")
}

// again is a request that came before. A client that polls does so by the name that it gave last.
func (s *Service) again(ctx context.Context, r model.SCEPRequest, transactionID string) (model.SCEPRequest, error) {
	if r.TransactionID == transactionID || len(r.Certificate) > 0 {
		return r, nil
	}
	r.TransactionID = transactionID
	r, err := s.cfg.Store.BeginSCEPRequest(ctx, r, model.Job{})
	if err != nil {
		return r, fmt.Errorf("noting what a client calls its request: %w", err)
	}
	return r, nil
}

// Poll finds a request by the client's name for it (RFC 8894 section 3.3.3); the key is that of the poll's signature, which in
// a renewal is the former one.
func (s *Service) Poll(ctx context.Context, transactionID string, signer *x509.Certificate) (model.SCEPRequest, error) {
	r, err := s.cfg.Store.SCEPRequestByTransaction(ctx, transactionID, keyOf(signer))
	if errors.Is(err, model.ErrNotFound) {
		return r, fault(BadRequestIDInChallenge, "no request of that transaction and key is known")
	}
	return r, err
}

func (s *Service) begin(ctx context.Context, r model.SCEPRequest, order link.CertifyJob, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	now, hash := s.cfg.Clock(), r.Hash
	r.EnrolmentID, r.RequestID, r.KeySHA256, r.CreatedAt = order.EnrolmentID, order.RequestID, keyHash(csr), now
	order.CSR, order.IntentID = csr.Raw, "scep-"+hash[:32]
	payload, err := json.Marshal(order)
	if err != nil {
		return r, fmt.Errorf("writing the certify job: %w", err)
	}
	r, err = s.cfg.Store.BeginSCEPRequest(ctx, r, model.Job{Key: "certify:" + hash, Kind: link.JobCertify, Payload: payload, UserID: order.UserID,
		EnrolmentID: order.EnrolmentID, Needs: order.Needs, RunAt: now})
	switch {
	case errors.Is(err, model.ErrSpent):
		return r, fault(RegisteredKeyMismatch, "the challenge was used for another key")
	case errors.Is(err, model.ErrTooMany):
		return r, fault(BadRequestIDInChallenge, "the device has asked for this certificate by too many keys: its store loses them, or it means harm")
	case errors.Is(err, model.ErrNotFound), errors.Is(err, model.ErrConflict):
		return r, fault(BadDeviceIDInChallenge, "the enrolment has ended")
	case err == nil:
		s.cfg.Kick()
	}
	return r, err
}

// Answer waits until a request has its certificate: ErrPending when ctx ends first, a *Fault when the CA refused.
func (s *Service) Answer(ctx context.Context, r model.SCEPRequest) (model.SCEPRequest, error) {
	ticker := time.NewTicker(s.cfg.Tick)
	defer ticker.Stop()
	for {
		kicked := s.nextKick() // taken before the look, so that no answer falls in between
		now, err := s.look(ctx, r)
		if err != nil || len(now.Certificate) > 0 {
			return now, err
		}
		select {
		case <-kicked:
		case <-ticker.C:
		case <-ctx.Done():
			return r, ErrPending
		}
	}
}

func (s *Service) look(ctx context.Context, r model.SCEPRequest) (model.SCEPRequest, error) {
	now, err := s.cfg.Store.SCEPRequest(ctx, r.Hash)
	if err == nil && len(now.Certificate) == 0 {
		now, err = s.outcome(ctx, now)
	}
	var no *Fault
	switch {
	case errors.As(err, &no):
		return now, err
	case ctx.Err() != nil:
		return r, ErrPending
	case err != nil:
		return r, fmt.Errorf("reading a SCEP request: %w", err)
	}
	return now, nil
}

// outcome says why a request has no certificate. It may have got one since it was read.
func (s *Service) outcome(ctx context.Context, r model.SCEPRequest) (model.SCEPRequest, error) {
	job, err := s.cfg.Store.JobByID(ctx, r.JobID)
	switch partner := link.PartnerOf(job.Needs); {
	case err != nil:
		return r, err
	case job.State == model.JobFailed || job.State == model.JobObsolete:
		return r, fault(BadRequestIDInChallenge, "the CA issues nothing: %s", job.Error)
	case partner != "":
		return r, notHere(partner)
	case job.State != model.JobDone:
		return r, nil
	}
	if r, err = s.cfg.Store.SCEPRequest(ctx, r.Hash); err == nil && len(r.Certificate) == 0 {
		err = fault(BadDeviceIDInChallenge, "the certificate came when the enrolment had ended")
	}
	return r, err
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

// Mint gives the one-time challenges that a document needs, by profile.
func (s *Service) Mint(ctx context.Context, enrolmentID string, names []string) (map[string]string, error) {
	out := map[string]string{}
	if len(names) == 0 {
		return out, nil
	}
	orders, err := s.cfg.Orders.Orders(ctx, enrolmentID)
	if err != nil {
		return nil, fmt.Errorf("reading what enrolment %s shall have: %w", enrolmentID, err)
	}
	for _, name := range names {
		for _, order := range orders {
			if order.Profile == name {
				if out[name], err = s.cfg.Challenger.Make(enrolmentID, order.RequestID); err != nil {
					return nil, err
				}
			}
		}
		if out[name] == "" {
			return nil, fmt.Errorf("SCEPCertificate %s: it is not wanted on the device any more", name)
		}
	}
	return out, nil
}

func hashOf(challenge string) string {
	sum := sha256.Sum256([]byte(challenge))
	return hex.EncodeToString(sum[:])
}

func keyHash(csr *x509.CertificateRequest) string {
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func keyOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
