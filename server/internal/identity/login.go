package identity

import (
	"context"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Users finds who a link is for; model.ErrNotFound.
type Users interface {
	UserByID(ctx context.Context, id string) (model.User, error)
}

const (
	// secretGroups of four characters of base32 make an enrolment secret: 120 bits, and a person can type it.
	secretGroups = 6
	groupSize    = 4
)

// newToken makes the token of a link: for Windows one to be typed, for the others one that belongs in a URL.
func (s *Service) newToken(platform profiles.Platform) (string, error) {
	if platform != profiles.Windows {
		return s.newSecret()
	}
	var b [secretGroups * groupSize * 5 / 8]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("making an enrolment secret: %w", err)
	}
	text := base32.StdEncoding.EncodeToString(b[:])
	var groups []string
	for ; text != ""; text = text[groupSize:] {
		groups = append(groups, text[:groupSize])
	}
	return strings.Join(groups, "-"), nil
}

// Secret is an enrolment secret as it was made, whatever a person did to its case, its dashes and its blanks. Base32 has
// neither 0 nor 1, so those are read as the letters that look like them.
func Secret(typed string) string {
	kept := strings.Map(func(r rune) rune {
		switch {
		case r == '0':
			return 'O'
		case r == '1':
			return 'I'
		case r == '-' || r == ' ' || r == '\t' || r == '\u2013':
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	var out strings.Builder
	for i, r := range kept {
		if i > 0 && i%groupSize == 0 {
			out.WriteByte('-')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// Login checks a user name and an enrolment secret and spends nothing. A *Refusal says that the two do not fit, and never
// which of them is wrong; model.ErrSpent and model.ErrExpired are those of Link.
func (s *Service) Login(ctx context.Context, upn, secret string) (model.Link, error) {
	if len(secret) > maxChallenge {
		return model.Link{}, wrongLogin()
	}
	l, err := s.Link(ctx, Secret(secret))
	switch {
	case errors.Is(err, model.ErrNotFound):
		return model.Link{}, wrongLogin()
	case err != nil && l.ID == "":
		return model.Link{}, err
	case l.Platform != profiles.Windows:
		return model.Link{}, wrongLogin()
	}
	user, userErr := s.cfg.Users.UserByID(ctx, l.UserID)
	switch {
	case errors.Is(userErr, model.ErrNotFound) || (userErr == nil && !strings.EqualFold(strings.TrimSpace(upn), user.UPN)):
		return model.Link{}, wrongLogin()
	case userErr != nil:
		return model.Link{}, fmt.Errorf("reading the user of an enrolment secret: %w", userErr)
	}
	return l, err
}

func wrongLogin() error {
	return refuse("the user name and the enrolment secret do not belong together; both come from the administrator (waxctl enroll link)")
}

// Challenge reads a token that Profile made, without any effect. model.ErrNotFound, model.ErrExpired and model.ErrSpent,
// when it was redeemed already, say what is wrong with it.
func (s *Service) Challenge(ctx context.Context, challenge string) (model.Challenge, error) {
	if challenge == "" || len(challenge) > maxChallenge {
		return model.Challenge{}, model.ErrNotFound
	}
	c, err := s.cfg.Store.ChallengeByHash(ctx, Hash(challenge))
	switch {
	case err != nil:
		return model.Challenge{}, fmt.Errorf("reading the token: %w", err)
	case c.KeySHA256 != "":
		return c, model.ErrSpent
	case !s.cfg.Clock().Before(c.ExpiresAt):
		return c, model.ErrExpired
	}
	return c, nil
}

// Direct redeems the token of a link for the key of a request in one step. The same key again gives the same answer, even
// though the token is spent by then. Of Windows' secrets it takes the form of Secret, and the caller has checked the user
// name by Login.
func (s *Service) Direct(ctx context.Context, token string, csr *x509.CertificateRequest) (model.Challenge, error) {
	challenge := "direct:" + token + ":" + keyHash(csr)
	_, err := s.cfg.Store.ChallengeByHash(ctx, Hash(challenge))
	if err == nil {
		return s.Redeem(ctx, challenge, csr)
	}
	if !errors.Is(err, model.ErrNotFound) {
		return model.Challenge{}, fmt.Errorf("reading the challenge: %w", err)
	}
	l, err := s.Link(ctx, token)
	if err != nil {
		return model.Challenge{}, err
	}
	if _, err := s.start(ctx, l, challenge); err != nil {
		return model.Challenge{}, err
	}
	return s.Redeem(ctx, challenge, csr)
}

// Enrolled binds a fresh enrolment to the PC that asked for it: externalID is the DeviceID of this enrolment, and
// facts.ExternalID the HWDevID, by which a PC that enrols again is known. certStore is where it keeps the certificate,
// which a renewal need not say again. Safe to repeat.
func (s *Service) Enrolled(ctx context.Context, c model.Challenge, externalID, certStore string, facts model.Device) (model.Enrolment, error) {
	return s.authenticate(ctx, model.Enrolment{ID: c.EnrolmentID, UserID: c.UserID, Platform: c.Platform, ExternalID: externalID, CertStore: certStore}, facts)
}

// Activate makes an enrolment active whose device has spoken for the first time and is never pushed. Idempotent.
func (s *Service) Activate(ctx context.Context, enr model.Enrolment) (model.Enrolment, error) {
	if enr.State != model.EnrolmentAuthenticated {
		return enr, nil
	}
	if err := s.cfg.Store.TokenUpdate(ctx, enr.ID, nil, "", "", false, s.cfg.Clock()); err != nil {
		return enr, fmt.Errorf("making an enrolment active: %w", err)
	}
	enr.State, enr.Dirty = model.EnrolmentActive, true
	return enr, nil
}
