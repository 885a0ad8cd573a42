package connectorapi

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// register spends a one-time token. The same member with the token that it spent gets a new credential for its own row,
// so that an init that died in between can be repeated.
func (s *Service) register(w http.ResponseWriter, r *http.Request) error {
	var in link.RegisterRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if err := checkRegister(in); err != nil {
		return web.Errorf(http.StatusUnprocessableEntity, "%w", err)
	}
	credential, err := s.newSecret()
	if err != nil {
		return err
	}
	id, err := uuid.NewRandomFromReader(s.cfg.Rand)
	if err != nil {
		return fmt.Errorf("making a connector id: %w", err)
	}
	now := s.cfg.Clock()
	c := model.Connector{ID: id.String(), Name: in.Name, Member: in.Member, CredentialHash: hash(credential), CreatedAt: now, LastSeen: now}
	audit := s.entry("connector "+c.ID, "connector.register", "member "+in.Member.ID, map[string]string{"name": in.Name})
	c, err = s.cfg.Store.RegisterConnector(r.Context(), hash(in.Token), c, in.EscrowRoot, now, audit)
	if err != nil {
		return s.refuseToken(r, in, err)
	}
	return writeJSON(w, link.RegisterResponse{ConnectorID: c.ID, Credential: credential, Pending: c.State != model.ConnectorTrusted})
}

func checkRegister(in link.RegisterRequest) error {
	if in.Token == "" || len(in.Token) > 255 {
		return errors.New("token: it is what waxctl connector token prints")
	}
	if in.Name == "" || len(in.Name) > 128 || strings.ContainsFunc(in.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("name: it has 1 to 128 printable bytes")
	}
	if err := in.Member.Check(); err != nil {
		return fmt.Errorf("member: %w", err)
	}
	if in.Member.Kind != escrow.MemberConnector {
		return fmt.Errorf("member: kind %q: a connector registers as %q", in.Member.Kind, escrow.MemberConnector)
	}
	if n := len(in.EscrowRoot); n != 0 && n != ed25519.PublicKeySize {
		return fmt.Errorf("escrowRoot: %d bytes; an Ed25519 public key has %d", n, ed25519.PublicKeySize)
	}
	return nil
}

func (s *Service) refuseToken(r *http.Request, in link.RegisterRequest, err error) error {
	why := ""
	switch {
	case errors.Is(err, model.ErrNotFound):
		why = "the registration token is not known"
	case errors.Is(err, model.ErrExpired):
		why = "the registration token is too old"
	case errors.Is(err, model.ErrSpent):
		why = "the registration token was already used by another connector"
	default:
		return err
	}
	if s.cfg.Refusals != nil {
		s.cfg.Refusals.Note(r.Context(), "connector", "connector.register", "member "+in.Member.ID, why, nil)
	}
	return web.Hide(http.StatusForbidden, why+"; make a new one with waxctl connector token", err)
}
