// Package identitytest is a store of identity in memory, for tests of the endpoints that stand on it. It follows the
// contract of identity.Store and nothing more; the real stores have a conformance suite of their own.
package identitytest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Store keeps everything in maps.
type Store struct {
	mu         sync.Mutex
	links      map[string]model.Link // by token hash
	challenges map[string]model.Challenge
	jobs       map[string]model.Job
	enrolments map[string]model.Enrolment
	devices    map[string]model.Device
	audit      []model.AuditEntry
	// Created is called after an identity job was created, outside the lock; nil means nobody works.
	Created func(model.Job)
	// Err, when set, is what every method fails with.
	Err error
}

// New makes an empty store.
func New() *Store {
	return &Store{links: map[string]model.Link{}, challenges: map[string]model.Challenge{}, jobs: map[string]model.Job{},
		enrolments: map[string]model.Enrolment{}, devices: map[string]model.Device{}}
}

// CreateLink implements identity.Store.
func (s *Store) CreateLink(_ context.Context, l model.Link, audit model.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[l.TokenHash] = l
	s.audit = append(s.audit, audit)
	return s.Err
}

// LinkByToken implements identity.Store.
func (s *Store) LinkByToken(_ context.Context, hash string) (model.Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return found(s.links, hash, s.Err)
}

// CreateChallenge implements identity.Store.
func (s *Store) CreateChallenge(_ context.Context, c model.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.challenges[c.Hash] = c
	return s.Err
}

// ChallengeByHash implements identity.Store.
func (s *Store) ChallengeByHash(_ context.Context, hash string) (model.Challenge, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return found(s.challenges, hash, s.Err)
}

// JobByID implements identity.Jobs.
func (s *Store) JobByID(_ context.Context, id string) (model.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return found(s.jobs, id, s.Err)
}

// EnrolmentByCertificate implements identity.Store.
func (s *Store) EnrolmentByCertificate(_ context.Context, sum string) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.enrolments {
		if e.Channel == model.ChannelUser {
			continue
		}
		if e.CertSHA256 == sum || (e.NextCertSHA256 == sum && sum != "") {
			return e, s.Err
		}
	}
	return model.Enrolment{}, model.ErrNotFound
}

// DeviceByID reads one device.
func (s *Store) DeviceByID(_ context.Context, id string) (model.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return found(s.devices, id, s.Err)
}

func found[T any](m map[string]T, key string, err error) (T, error) {
	v, ok := m[key]
	if err == nil && !ok {
		err = model.ErrNotFound
	}
	return v, err
}

// Redeem implements identity.Store.
func (s *Store) Redeem(_ context.Context, hash, key string, job model.Job, now time.Time) (model.Challenge, error) {
	c, created, err := s.redeem(hash, key, job, now)
	if created && s.Created != nil {
		s.Created(job)
	}
	return c, err
}

func (s *Store) redeem(hash, key string, job model.Job, now time.Time) (model.Challenge, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := found(s.challenges, hash, s.Err)
	if err != nil {
		return c, false, err
	}
	l := s.linkByID(c.LinkID)
	switch {
	case c.KeySHA256 == key:
		return c, false, nil
	case c.KeySHA256 != "" || !l.SpentAt.IsZero():
		return c, false, model.ErrSpent
	case !now.Before(c.ExpiresAt) || !now.Before(l.ExpiresAt):
		return c, false, model.ErrExpired
	}
	c.KeySHA256, c.JobID = key, job.ID
	s.challenges[hash], s.jobs[job.ID] = c, job
	return c, true, nil
}

func (s *Store) linkByID(id string) model.Link {
	for _, l := range s.links {
		if l.ID == id {
			return l
		}
	}
	return model.Link{}
}

// Renew implements identity.Store.
func (s *Store) Renew(_ context.Context, c model.Challenge, job model.Job) (model.Challenge, error) {
	stored, created, err := s.renew(c, job)
	if created && s.Created != nil {
		s.Created(job)
	}
	return stored, err
}

func (s *Store) renew(c model.Challenge, job model.Job) (model.Challenge, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, c.EnrolmentID, s.Err)
	if err != nil {
		return c, false, err
	}
	if e.State != model.EnrolmentActive {
		return c, false, model.ErrConflict
	}
	if stored, known := s.challenges[c.Hash]; known {
		return stored, false, nil
	}
	c.JobID = job.ID
	s.challenges[c.Hash], s.jobs[job.ID] = c, job
	return c, true, nil
}

// Promote implements identity.Store.
func (s *Store) Promote(_ context.Context, id, sum string, _ time.Time, audit model.AuditEntry) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, id, s.Err)
	if err != nil || e.NextCertSHA256 != sum {
		return e, err
	}
	e.Certificate, e.CertSHA256, e.NextCertificate, e.NextCertSHA256, e.Dirty = e.NextCertificate, sum, nil, "", true
	s.enrolments[id] = e
	s.audit = append(s.audit, audit)
	return e, nil
}

// OpenUserChannel implements identity.Store.
func (s *Store) OpenUserChannel(_ context.Context, u model.Enrolment, _ time.Time, audit model.AuditEntry) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder, err := found(s.enrolments, u.HolderID, s.Err)
	if err != nil {
		return u, err
	}
	for id, e := range s.enrolments {
		if e.HolderID != u.HolderID || e.State == model.EnrolmentEnded {
			continue
		}
		if e.ExternalID != u.ExternalID {
			return u, model.ErrConflict
		}
		u.ID = id
	}
	if holder.State != model.EnrolmentActive {
		return u, model.ErrConflict
	}
	u.DeviceID, u.UserID, u.Platform, u.Channel, u.State = holder.DeviceID, holder.UserID, holder.Platform, model.ChannelUser, model.EnrolmentActive
	u.Certificate, u.CertSHA256, u.Dirty = holder.Certificate, holder.CertSHA256, true
	s.enrolments[u.ID] = u
	s.audit = append(s.audit, audit)
	return u, nil
}

// UserChannel implements identity.Store.
func (s *Store) UserChannel(_ context.Context, holderID string) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.enrolments {
		if e.HolderID == holderID && holderID != "" && e.State != model.EnrolmentEnded {
			return e, s.Err
		}
	}
	return model.Enrolment{}, model.ErrNotFound
}

// EnrolmentByID implements identity.Store.
func (s *Store) EnrolmentByID(_ context.Context, id string) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return found(s.enrolments, id, s.Err)
}

// SetCredential implements identity.Store.
func (s *Store) SetCredential(_ context.Context, id, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, id, s.Err)
	e.CredentialHash = hash
	if err == nil {
		s.enrolments[id] = e
	}
	return err
}

// OtherOwner implements identity.Store.
func (s *Store) OtherOwner(_ context.Context, platform profiles.Platform, externalID, userID string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if d.Platform == platform && d.ExternalID == externalID && d.UserID != userID && d.State != model.DeviceLeft {
			return true, s.Err
		}
	}
	return false, s.Err
}

// Users is a set of users by id, for identity.Config.
type Users map[string]model.User

// UserByID implements identity.Users.
func (u Users) UserByID(_ context.Context, id string) (model.User, error) { return found(u, id, nil) }

// Authenticate implements identity.Store.
func (s *Store) Authenticate(_ context.Context, bound model.Enrolment, d model.Device, audit model.AuditEntry) (model.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, bound.ID, s.Err)
	if err != nil {
		return e, err
	}
	if e.ExternalID != "" && e.ExternalID != bound.ExternalID {
		return e, model.ErrConflict
	}
	if e.DeviceID == "" {
		e.DeviceID, e.ExternalID, e.CertStore, e.State = d.ID, bound.ExternalID, bound.CertStore, model.EnrolmentAuthenticated
		s.devices[d.ID] = d
		s.audit = append(s.audit, audit)
	}
	s.enrolments[bound.ID] = e
	return e, nil
}

// TokenUpdate implements identity.Store.
func (s *Store) TokenUpdate(_ context.Context, id string, token []byte, magic, topic string, must bool, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, id, s.Err)
	if err != nil {
		return err
	}
	e.PushToken, e.PushMagic, e.PushTopic, e.MustReenroll, e.State, e.Dirty = token, magic, topic, must, model.EnrolmentActive, true
	s.enrolments[id] = e
	return nil
}

// CheckOut implements identity.Store.
func (s *Store) CheckOut(_ context.Context, id string, removal model.Removal, _ string, now time.Time, audit model.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := found(s.enrolments, id, s.Err)
	if err != nil || e.State == model.EnrolmentEnded {
		return err
	}
	e.State = model.EnrolmentEnded
	s.enrolments[id] = e
	d := s.devices[e.DeviceID]
	d.State, d.Removal, d.StateAt = model.DeviceLeft, removal, now
	s.devices[e.DeviceID] = d
	s.audit = append(s.audit, audit)
	return nil
}

// AppendAudit implements web.Auditor.
func (s *Store) AppendAudit(_ context.Context, entries ...model.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audit = append(s.audit, entries...)
	return s.Err
}

// Audit is what was written so far.
func (s *Store) Audit() []model.AuditEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.AuditEntry(nil), s.audit...)
}

// Refused are the audit entries of refused acts.
func (s *Store) Refused() []model.AuditEntry {
	var out []model.AuditEntry
	for _, a := range s.Audit() {
		if a.Outcome == "refused" {
			out = append(out, a)
		}
	}
	return out
}

// Challenges counts them.
func (s *Store) Challenges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.challenges)
}

// Enrolment reads one, the zero value when there is none.
func (s *Store) Enrolment(id string) model.Enrolment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enrolments[id]
}

// PutEnrolment stores one as it is.
func (s *Store) PutEnrolment(e model.Enrolment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enrolments[e.ID] = e
}

// PutDevice stores one as it is.
func (s *Store) PutDevice(d model.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[d.ID] = d
}

// Fail marks a job as refused for good.
func (s *Store) Fail(jobID, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[jobID]
	j.State, j.Error = model.JobFailed, reason
	s.jobs[jobID] = j
}

// Certify answers an identity job as a connector and its endpoint would: certificate, enrolment, link spent.
func (s *Store) Certify(t testing.TB, ca *testpki.CA, job model.Job) *x509.Certificate {
	t.Helper()
	var order link.IdentityJob
	if err := json.Unmarshal(job.Payload, &order); err != nil {
		t.Fatalf("reading an identity job: %v", err)
	}
	csr, err := mde.ParseCSR(order.CSR) // Windows' requests too
	if err != nil {
		t.Fatalf("reading a request: %v", err)
	}
	cert := ca.IssueCSR(t, csr, testpki.Options{CN: order.EnrolmentID, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{parse(t, link.EnrolmentURN(order.EnrolmentID)), parse(t, link.UserURN(order.UserID))}})
	s.bind(job, order, cert, ca.Cert)
	return cert
}

func (s *Store) bind(job model.Job, order link.IdentityJob, cert, ca *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, c := range s.challenges {
		if c.JobID != job.ID {
			continue
		}
		c.Certificate, c.Chain = cert.Raw, [][]byte{ca.Raw}
		s.challenges[hash] = c
		for token, l := range s.links {
			if l.ID == c.LinkID {
				l.SpentAt = job.CreatedAt
				s.links[token] = l
			}
		}
		sum := sha256.Sum256(cert.Raw)
		if c.LinkID == "" {
			e := s.enrolments[order.EnrolmentID]
			e.NextCertificate, e.NextCertSHA256 = cert.Raw, hex.EncodeToString(sum[:])
			s.enrolments[order.EnrolmentID] = e
			continue
		}
		s.enrolments[order.EnrolmentID] = model.Enrolment{ID: order.EnrolmentID, UserID: order.UserID, Platform: c.Platform, Channel: "device",
			State: model.EnrolmentIssued, Certificate: cert.Raw, CertSHA256: hex.EncodeToString(sum[:])}
	}
}

func parse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// CSR makes a request with a challenge password (PKCS #9) and, optionally, extensions.
func CSR(t testing.TB, template *x509.CertificateRequest, id *testpki.Identity) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, id.Key)
	if err != nil {
		t.Fatalf("making a request: %v", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
