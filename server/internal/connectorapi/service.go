// Package connectorapi is where connectors dial in: registration by a one-time token, what they publish, and the jobs
// that they take and answer (the wire is internal/link). An answer is checked as far as the server can see before it has
// any effect: a connector alone holds the keys, but what it certifies must be what was asked for.
//
// Fault table of a job's answer:
//
//	answer lost on its way       the lease ends, another attempt gives the same answer (the connector's journal)
//	stored, but reply lost       the repeated answer gets 409, which is no error
//	answer wrong                 audited, the job is tried again later with back-off
package connectorapi

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	// defaultLease is what Config.Lease is if nothing else is said.
	defaultLease = 60 * time.Second
	// TokenLife is how long a registration token works.
	TokenLife = time.Hour
	// maxWait bounds a long poll.
	maxWait = 25 * time.Second
	// maxClaim bounds the jobs of one claim.
	maxClaim = 32
	// pollEvery is how soon a job that another server node stored is seen.
	pollEvery = 500 * time.Millisecond
	// renewRA is how long before its end the RA certificate is asked for again.
	renewRA = 30 * 24 * time.Hour

	secretBytes = 32
)

// Config is what the endpoint needs; zero Clock, Rand and After mean the real ones.
type Config struct {
	Store Store
	// Status keeps revocation lists and OCSP answers.
	Status StatusStore
	// RAKey is the server's SCEP key, for which the device CA issues the RA certificate.
	RAKey crypto.Signer
	// Lease is how long a connector may work on a job before another may have it [60 s].
	Lease time.Duration
	// PKIURL is the plain http base URL of CRLs; may be empty.
	PKIURL string
	// CheckRendered refuses a rendered document that is not the one asked for or not encrypted.
	CheckRendered func(platform profiles.Platform, doc platforms.Document, payload []byte) error
	// Stored is told of each answer that was stored, after the commit: identity waiters and the push worker look for work.
	Stored func()
	// Refusals audits what strangers are refused, bounded; may be nil.
	Refusals *web.Refusals
	Clock    func() time.Time
	Rand     io.Reader
	After    func(time.Duration) <-chan time.Time
	Logger   *slog.Logger
}

// Service answers connectors. It is safe for concurrent use and keeps nothing that another node would need.
type Service struct {
	cfg Config

	mu       sync.Mutex
	notified chan struct{}

	stop    sync.Once
	stopped chan struct{}
}

// New makes the service.
func New(cfg Config) *Service {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	if cfg.Stored == nil {
		cfg.Stored = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.CheckRendered == nil {
		cfg.CheckRendered = func(profiles.Platform, platforms.Document, []byte) error { return nil }
	}
	return &Service{cfg: cfg, notified: make(chan struct{}), stopped: make(chan struct{})}
}

// Notify wakes the long polls of this process: there may be a new job. It does not block.
func (s *Service) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.notified)
	s.notified = make(chan struct{})
}

// Stop ends the long polls of this process, so that a shutdown need not wait for them.
func (s *Service) Stop() { s.stop.Do(func() { close(s.stopped) }) }

func (s *Service) nextNotice() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notified
}

// Connectors lists all connectors.
func (s *Service) Connectors(ctx context.Context) ([]model.Connector, error) {
	return s.cfg.Store.Connectors(ctx)
}

// KeySet is the signed key set, nil before the first.
func (s *Service) KeySet(ctx context.Context) (*escrow.SignedKeySet, error) {
	t, err := s.cfg.Store.Trust(ctx)
	return t.KeySet, err
}

// Authorities are the CAs that connectors offer, nil before the first publish.
func (s *Service) Authorities(ctx context.Context) ([]link.CA, error) {
	t, err := s.cfg.Store.Trust(ctx)
	return t.CAs, err
}

// CreateToken makes a one-time registration token; only its hash is stored.
func (s *Service) CreateToken(ctx context.Context) (token string, expires time.Time, err error) {
	token, err = s.newSecret()
	if err != nil {
		return "", time.Time{}, err
	}
	now := s.cfg.Clock()
	expires = now.Add(TokenLife)
	audit := s.entry("admin", "connector.token", "connector", map[string]string{"expires": expires.UTC().Format(time.RFC3339)})
	if err := s.cfg.Store.CreateConnectorToken(ctx, hash(token), expires, audit); err != nil {
		return "", time.Time{}, fmt.Errorf("storing a registration token: %w", err)
	}
	return token, expires, nil
}

func (s *Service) newSecret() (string, error) {
	b := make([]byte, secretBytes)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// hash is what is kept of a secret of 256 random bits: lower-case hex SHA-256, no salt needed.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *Service) entry(actor, action, object string, detail map[string]string) model.AuditEntry {
	return model.AuditEntry{At: s.cfg.Clock(), Actor: actor, Action: action, Object: object, Outcome: "ok", Detail: detail}
}

// decodeStrict reads one JSON value without unknown fields and with nothing behind it.
func decodeStrict(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON value")
	}
	return nil
}
