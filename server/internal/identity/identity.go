package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	// DefaultLinkLife is how long an enrolment link works when nothing else is asked for.
	DefaultLinkLife = 72 * time.Hour
	// MaxLinkLife bounds what may be asked for.
	MaxLinkLife = 90 * 24 * time.Hour
	// ChallengeLife is how long the SCEP challenge of one download works.
	ChallengeLife = 15 * time.Minute
	// tokenBytes of randomness are in each link and challenge.
	tokenBytes = 32
)

// Refusal is a request that breaks a rule; the sentence is fit to be shown and audited.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refusal{Reason: fmt.Sprintf(format, args...)} }

// ErrPending says that no connector has answered yet; the same request again waits further.
var ErrPending = errors.New("no connector has answered yet")

// Jobs tells how an identity job fares; model.ErrNotFound without such a job. It is read only.
type Jobs interface {
	JobByID(ctx context.Context, id string) (model.Job, error)
}

// Config is what the service needs; zero Clock, Rand and Ticks mean the real ones.
type Config struct {
	Store Store
	Jobs  Jobs
	// Users is needed by Login.
	Users Users
	Clock func() time.Time
	Rand  io.Reader
	// Ticks makes the ticker by which a wait notices answers that another server node stored.
	Ticks func(time.Duration) (ticks <-chan time.Time, stop func())
}

// Service is the verbs of identity. It is safe for concurrent use and keeps nothing that another node would need.
type Service struct {
	cfg Config

	mu     sync.Mutex
	kicked chan struct{}
}

// New makes the service.
func New(cfg Config) *Service {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Ticks == nil {
		cfg.Ticks = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		}
	}
	return &Service{cfg: cfg, kicked: make(chan struct{})}
}

// Hash is what is stored of a token or challenge: lower-case hex SHA-256. A token has 256 random bits, so that no salt
// and no slow hash is needed.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *Service) newSecret() (string, error) {
	var b [tokenBytes]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

func (s *Service) newID() (string, error) {
	id, err := uuid.NewRandomFromReader(s.cfg.Rand)
	if err != nil {
		return "", fmt.Errorf("making an id: %w", err)
	}
	return id.String(), nil
}

// CreateLink makes an enrolment link for a user and returns the token that belongs in its URL; it is stored as a hash
// only, so it can never be shown again. A zero life means DefaultLinkLife.
func (s *Service) CreateLink(ctx context.Context, user model.User, platform profiles.Platform, life time.Duration) (string, error) {
	if life == 0 {
		life = DefaultLinkLife
	}
	if life < 0 || life > MaxLinkLife {
		return "", refuse("expires: %s is not between a moment and %s", life, MaxLinkLife)
	}
	token, err := s.newToken(platform)
	if err != nil {
		return "", err
	}
	id, err := s.newID()
	if err != nil {
		return "", err
	}
	now := s.cfg.Clock()
	l := model.Link{ID: id, TokenHash: Hash(token), UserID: user.ID, Platform: platform, CreatedAt: now, ExpiresAt: now.Add(life)}
	audit := model.AuditEntry{At: now, Actor: "admin", Action: "link.create", Object: user.UPN, Outcome: "ok",
		Detail: map[string]string{"link": id, "platform": string(platform), "expires": l.ExpiresAt.UTC().Format(time.RFC3339)}}
	if err := s.cfg.Store.CreateLink(ctx, l, audit); err != nil {
		return "", fmt.Errorf("storing an enrolment link: %w", err)
	}
	return token, nil
}

// Link reads the link of a token without any effect. model.ErrNotFound, model.ErrSpent and model.ErrExpired say what is
// wrong with it; the latter two come with the link.
func (s *Service) Link(ctx context.Context, token string) (model.Link, error) {
	l, err := s.cfg.Store.LinkByToken(ctx, Hash(token))
	switch {
	case err != nil:
		return model.Link{}, fmt.Errorf("reading an enrolment link: %w", err)
	case !l.SpentAt.IsZero():
		return l, model.ErrSpent
	case !s.cfg.Clock().Before(l.ExpiresAt):
		return l, model.ErrExpired
	}
	return l, nil
}

// Profile starts one enrolment by the link of a token: a fresh challenge, and the name that its certificate will have.
// Errors are those of Link.
func (s *Service) Profile(ctx context.Context, token string) (challenge, enrolmentID string, err error) {
	l, err := s.Link(ctx, token)
	if err != nil {
		return "", "", err
	}
	if challenge, err = s.newSecret(); err != nil {
		return "", "", err
	}
	enrolmentID, err = s.start(ctx, l, challenge)
	return challenge, enrolmentID, err
}

// start stores the challenge of one enrolment by a link.
func (s *Service) start(ctx context.Context, l model.Link, challenge string) (enrolmentID string, err error) {
	if enrolmentID, err = s.newID(); err != nil {
		return "", err
	}
	now := s.cfg.Clock()
	c := model.Challenge{Hash: Hash(challenge), LinkID: l.ID, UserID: l.UserID, Platform: l.Platform,
		EnrolmentID: enrolmentID, CreatedAt: now, ExpiresAt: now.Add(ChallengeLife)}
	if err := s.cfg.Store.CreateChallenge(ctx, c); err != nil {
		return "", fmt.Errorf("storing a challenge: %w", err)
	}
	return enrolmentID, nil
}

// Bind finds the enrolment that a certificate is bound to. Whether the certificate is good is the caller's question;
// model.ErrNotFound when it is bound to none.
//
// A device that speaks with its renewed certificate has it, so from then on the former one binds nothing.
func (s *Service) Bind(ctx context.Context, cert *x509.Certificate) (model.Enrolment, error) {
	sum := sha256.Sum256(cert.Raw)
	id := hex.EncodeToString(sum[:])
	enr, err := s.cfg.Store.EnrolmentByCertificate(ctx, id)
	if err != nil || enr.CertSHA256 == id {
		return enr, err
	}
	return s.promote(ctx, enr, id)
}

// Authenticate binds an enrolment to the device that speaks. The facts are what the device says about itself; owner and
// platform come from the enrolment. model.ErrConflict: the enrolment belongs to another external id.
func (s *Service) Authenticate(ctx context.Context, enr model.Enrolment, facts model.Device) (model.Enrolment, error) {
	enr.ExternalID = facts.ExternalID
	return s.authenticate(ctx, enr, facts)
}

func (s *Service) authenticate(ctx context.Context, enr model.Enrolment, facts model.Device) (model.Enrolment, error) {
	id, err := s.newID()
	if err != nil {
		return model.Enrolment{}, err
	}
	now := s.cfg.Clock()
	facts.ID, facts.UserID, facts.Platform = id, enr.UserID, enr.Platform
	facts.State, facts.CreatedAt, facts.StateAt, facts.LastSeen = model.DeviceEnrolled, now, now, now
	audit := model.AuditEntry{At: now, Actor: "enrolment " + enr.ID, Action: "device.enrol", Object: facts.ExternalID, Outcome: "ok",
		Detail: map[string]string{"user": enr.UserID, "platform": string(enr.Platform), "model": facts.Model, "os": facts.OSVersion}}
	return s.cfg.Store.Authenticate(ctx, enr, facts, audit)
}

// TokenUpdate stores what wakes the device. An enrolment whose topic is not the push certificate's can never be woken.
// Without a push certificate current is empty and nothing is marked.
func (s *Service) TokenUpdate(ctx context.Context, enr model.Enrolment, token []byte, magic, topic, current string) error {
	must := current != "" && topic != current
	return s.cfg.Store.TokenUpdate(ctx, enr.ID, token, magic, topic, must, s.cfg.Clock())
}

// CheckOut ends an enrolment because the device said that its management was removed; the platform removes managed keys
// with it, so their removal is reported.
func (s *Service) CheckOut(ctx context.Context, enr model.Enrolment) error {
	now := s.cfg.Clock()
	audit := model.AuditEntry{At: now, Actor: "enrolment " + enr.ID, Action: "device.checkout", Object: enr.DeviceID, Outcome: "ok"}
	return s.cfg.Store.CheckOut(ctx, enr.ID, model.RemovalReported, string(profiles.EventUnenroll), now, audit)
}
