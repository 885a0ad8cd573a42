// Package sender finds out who sent a message: the certificate that proves it, and the enrolment that it is bound to.
package sender

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// NoConnector is what everybody hears before the first connector has registered.
const NoConnector = "no connector has registered with this server yet, and only it can certify devices; run waxseal-connector init and run"

// Config is what a Sender needs.
type Config struct {
	Identity  *identity.Service
	Authority *identity.Authority
	// ProxyHeader is the header in which a proxy of TrustedProxies hands on the client certificate; empty for none.
	ProxyHeader    string
	TrustedProxies []netip.Prefix
	Clock          func() time.Time
}

// Sender finds senders. It is safe for concurrent use.
type Sender struct{ cfg Config }

// New makes a Sender.
func New(cfg Config) *Sender {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Sender{cfg: cfg}
}

// Find gives the enrolment whose key signed the body or opened the connection. An *identity.Refusal says what is wrong
// with the proof, a *web.Error what is to be answered; other errors are faults of ours.
func (s *Sender) Find(r *http.Request, body []byte) (model.Enrolment, error) {
	cert, err := s.certificate(r, body)
	if err == nil {
		err = s.Verify(r.Context(), cert)
	}
	if err != nil {
		return model.Enrolment{}, err
	}
	enr, err := s.cfg.Identity.Bind(r.Context(), cert)
	if errors.Is(err, model.ErrNotFound) {
		err = &identity.Refusal{Reason: "the certificate is bound to no enrolment"}
	}
	return enr, err
}

// Verify checks that a certificate is a device certificate of ours that is valid now.
func (s *Sender) Verify(ctx context.Context, cert *x509.Certificate) error {
	err := s.cfg.Authority.Verify(ctx, cert, s.cfg.Clock())
	if errors.Is(err, model.ErrNotFound) {
		return web.Hide(http.StatusServiceUnavailable, NoConnector, err)
	}
	return err
}
