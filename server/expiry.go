package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/expiry"
)

// watchEvery is how often the board is looked at; a webhook that did not answer is asked again then.
const watchEvery = 10 * time.Minute

// watchExpiry says what ends soon, to the log, the audit log, the metrics and the webhook, until ctx ends.
func (s *server) watchExpiry(ctx context.Context) error {
	hook, err := s.webhook()
	if err != nil {
		return err
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		if err := s.lookAtExpiry(ctx, hook); err != nil && ctx.Err() == nil {
			s.Logger.Error("telling what expires failed; it is tried again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *server) lookAtExpiry(ctx context.Context, hook *expiry.Webhook) error {
	fresh, err := s.board().Look(ctx)
	for _, n := range fresh {
		s.Logger.Warn("a certificate ends", "kind", n.Kind, "name", n.Name, "subject", n.Subject, "user", n.User, "notAfter", n.NotAfter.Format(time.RFC3339), "remedy", n.Remedy)
	}
	if err != nil {
		return err
	}
	items, err := s.board().List(ctx, expiry.Horizon)
	if err != nil {
		return err
	}
	own, err := s.ownCertificates(ctx)
	if err != nil {
		return err
	}
	s.metrics.expiring(items, own)
	if hook == nil {
		return nil
	}
	return hook.Deliver(ctx)
}

func (s *server) board() *expiry.Board {
	return &expiry.Board{Store: s.db, Own: s.ownCertificates, Clock: s.Clock}
}

// webhook is nil when nobody is to be told.
func (s *server) webhook() (*expiry.Webhook, error) {
	c := s.Settings.Webhook
	if c.URL == "" {
		return nil, nil
	}
	hook := &expiry.Webhook{URL: c.URL, HTTP: &http.Client{}, Store: s.db, Clock: s.Clock}
	if c.SecretFile != "" {
		raw, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("webhook-secret-file: %w", err)
		}
		if hook.Secret = bytes.TrimSpace(raw); len(hook.Secret) == 0 {
			return nil, errors.New("webhook-secret-file: it is empty")
		}
	}
	roots, err := rootsOf(c.CA)
	if err != nil {
		return nil, fmt.Errorf("webhook-ca: %w", err)
	}
	hook.HTTP.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Time: s.Clock}}
	return hook, nil
}

// remedyOf says what an admin does about a CA that ends.
func remedyOf(ca link.CA) string {
	switch {
	case ca.Kind == "softca":
		return "waxseal-connector ca roll makes the next issuing CA; under a root that ends, a new connector keyring is needed"
	case ca.Kind == link.KindPartner:
		return "ask the partner for its next issuing certificate, and give it to the server: waxctl partner remove, then add with --issuer-cert"
	}
	return "when the CA has its next certificate, put it into issuersFile of the settings: waxseal-connector ca set"
}

// Remedies for what the server made for itself.
const (
	remedyOwnTLS    = "the server renews it by itself while it runs: see that it can write to its data folder"
	remedyOwnSigner = "start the server again: it makes a new one in the last 30 days"
	remedyServerCA  = "before it ends, give the server a certificate of a CA that devices trust by themselves (--tls-cert, --tls-key); then remove server-ca.pem from each connector's keyring and --ca from waxctl, which go by the system's CAs without"
)

// remedyOfLeaf says what an admin does about a certificate of a setting, or about what the server made in its place.
func (s *server) remedyOfLeaf(name string) string {
	if name == profileSigning && s.Settings.ProfileSigningCert == "" {
		return remedyOwnSigner
	}
	return "renew it, put the new one in place of --" + name + " and start the server again"
}

// adder collects items of certificates; nil is none.
type adder []expiry.Item

func (a *adder) add(kind expiry.Kind, name string, c *x509.Certificate, remedy string) {
	if c != nil {
		*a = append(*a, expiry.Of(kind, name, c, expiry.SHA256(sha256.Sum256(c.Raw)), remedy))
	}
}

// serverCertificates are those of settings, and those that the server makes for itself. Its own CA is in every connector's
// keyring and with every waxctl, and cannot be renewed.
func (s *server) serverCertificates() (items adder) {
	for name, c := range s.leaves {
		items.add(expiry.KindServer, name, c, s.remedyOfLeaf(name))
	}
	if s.ownTLS == nil {
		return items
	}
	items.add(expiry.KindServer, "server-ca", s.ownTLS.CA(), remedyServerCA)
	pair, err := s.ownTLS.GetCertificate(nil) // renewed here if that is due, so that a quiet server raises no alarm
	if err != nil {
		s.Logger.Error("renewing the server's own TLS certificate failed; it is tried again", "error", err.Error())
		return items
	}
	items.add(expiry.KindServer, "tls-cert", pair.Leaf, remedyOwnTLS)
	return items
}

// ownCertificates are those of the server and of the CAs that connectors offer.
func (s *server) ownCertificates(ctx context.Context) ([]expiry.Item, error) {
	items := s.serverCertificates()
	trust, err := s.db.Trust(ctx)
	if err != nil {
		return nil, err
	}
	parse := func(der []byte) *x509.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil // there is none yet
		}
		return c
	}
	items.add(expiry.KindServer, "ra-certificate", parse(trust.RACertificate), "a connector renews it: see that waxseal-connector run is at work")
	items.add(expiry.KindCA, "device-ca", parse(trust.DeviceCA), "devices must be enrolled again under a new connector keyring before it ends")
	for _, ca := range trust.CAs {
		for _, der := range append([][]byte{ca.Certificate}, ca.Chain...) {
			items.add(expiry.KindCA, ca.Name, parse(der), remedyOf(ca))
		}
	}
	return items, nil
}
