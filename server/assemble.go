package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/server/internal/amapi"
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/pki"
	"github.com/waxseal/waxseal/server/internal/push"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/web"
)

const tokenFile = "admin-token"

// profileSigning names the setting; without it the server has a certificate of its own.
const profileSigning = "profile-signing-cert"

// server is the assembled whole.
type server struct {
	Config
	db      *store.DB
	fixed   fixed
	proxies []netip.Prefix
	// pkiBound is the address of the plain listener; empty: there is none.
	pkiBound string

	tls       *tls.Config
	ownTLS    *pki.OwnTLS // nil with a configured certificate
	signer    *pki.Signer
	raKey     *rsa.PrivateKey
	pushTopic string // empty without a push certificate
	sender    push.Sender
	// leaves are the certificates of settings, by the setting's name.
	leaves map[string]*x509.Certificate
	google *amapi.Client // nil: Android devices come in by hand

	identity   *identity.Service
	issuance   *issuance.Service
	connectors *connectorapi.Service
	companions *androidmdm.Endpoint
	push       *push.Worker
	router     *web.Router
	metrics    *metrics
}

// assemble makes or finds keys and values, then wires the rooms.
func assemble(ctx context.Context, c Config, db *store.DB, l *listeners) (*server, error) {
	s, bound := &server{Config: c, db: db, metrics: newMetrics()}, l.url
	if l.pki != nil {
		s.pkiBound = l.pki.Addr().String()
	}
	var err error
	if s.proxies, err = c.Settings.Proxies(); err != nil {
		return nil, err
	}
	if s.fixed, err = settle(ctx, c, db, bound); err != nil {
		return nil, err
	}
	if err := s.loadKeys(bound); err != nil {
		return nil, err
	}
	if err := s.loadPush(); err != nil {
		return nil, err
	}
	if err := s.loadGoogle(); err != nil {
		return nil, err
	}
	if err := s.settleTopic(ctx); err != nil {
		return nil, err
	}
	token, err := s.adminToken()
	if err != nil {
		return nil, err
	}
	return s, s.wire(token)
}

func (s *server) loadKeys(bound string) error {
	if err := s.loadTLS(bound); err != nil {
		return err
	}
	var err error
	if s.raKey, err = pki.RAKey(s.Settings.Data, s.Rand); err != nil {
		return err
	}
	if s.Settings.ProfileSigningCert != "" {
		s.signer, err = pki.NewSigner(s.Settings.ProfileSigningCert, s.Settings.ProfileSigningKey)
	} else {
		s.signer, err = pki.OwnSigner(s.Settings.Data, s.ownTLS, s.Clock, s.Rand)
	}
	if err == nil {
		s.watch(profileSigning, s.signer.Certificate)
	}
	return err
}

func (s *server) loadTLS(bound string) error {
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Time: s.Clock, NextProtos: []string{"h2", "http/1.1"}}
	if s.Settings.TLSCert != "" {
		pair, err := pki.LoadPair(s.Settings.TLSCert, s.Settings.TLSKey)
		if err != nil {
			return err
		}
		s.watch("tls-cert", pair.Leaf)
		s.tls.Certificates = []tls.Certificate{pair}
		return nil
	}
	own, err := pki.NewOwnTLS(s.Settings.Data, hosts(bound, s.fixed.PublicURL, s.Settings.DeviceURL), s.Clock, s.Rand)
	if err != nil {
		return err
	}
	s.ownTLS, s.tls.GetCertificate = own, own.GetCertificate
	return nil
}

func hosts(urls ...string) []string {
	var out []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			out = append(out, u.Hostname())
		}
	}
	return out
}

// watch keeps a certificate in view, and says at once that it has ended: that degrades one feature and stops nothing.
func (s *server) watch(name string, c *x509.Certificate) {
	if c == nil {
		return
	}
	if s.leaves == nil {
		s.leaves = map[string]*x509.Certificate{}
	}
	s.leaves[name] = c
	if !s.Clock().Before(c.NotAfter) {
		s.Logger.Warn("a certificate has expired; renew it", "setting", name, "subject", c.Subject.String(), "notAfter", c.NotAfter.UTC().Format(time.RFC3339))
	}
}

func (s *server) loadPush() error {
	if s.Settings.APNSCert == "" {
		s.Logger.Warn("no push certificate: clients that poll work, a real device is never woken", "reason", "NoPushCertificate")
		return nil
	}
	pair, err := pki.LoadPair(s.Settings.APNSCert, s.Settings.APNSKey)
	if err != nil {
		return err
	}
	s.watch("apns-cert", pair.Leaf)
	roots, err := rootsOf(s.Settings.APNSCA)
	if err != nil {
		return err
	}
	client, err := push.NewClient(push.ClientConfig{Certificate: pair, URL: s.Settings.APNSURL, Roots: roots, Clock: s.Clock})
	if err != nil {
		return err
	}
	s.sender, s.pushTopic = client, client.Topic()
	return nil
}

// settleTopic finds the devices that the push certificate of now can never wake, since they enrolled with another topic.
func (s *server) settleTopic(ctx context.Context) error {
	if s.pushTopic == "" {
		return nil
	}
	n, err := s.db.SettleTopic(ctx, s.pushTopic)
	if n > 0 {
		s.Logger.Warn("devices enrolled with another push topic and must enrol again", "reason", "MustReenroll", "enrolments", n, "topic", s.pushTopic)
	}
	return err
}

// rootsOf reads a file of CA certificates; nil means the system's.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("apns-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("apns-ca: %s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// adminToken reads the token or makes it; it is shown once, to a terminal only.
func (s *server) adminToken() (string, error) {
	path := filepath.Join(s.Settings.Data, tokenFile)
	raw, err := os.ReadFile(path)
	if err == nil {
		token := strings.TrimSpace(string(raw))
		if len(token) < 32 {
			return "", fmt.Errorf("%s holds no token; remove the file and a new one is made", path)
		}
		return token, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the admin token: %w", err)
	}
	b := make([]byte, 32)
	if _, err := io.ReadFull(s.Rand, b); err != nil {
		return "", fmt.Errorf("making the admin token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(b)
	if err := pki.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", err
	}
	if s.Terminal != nil {
		_, _ = fmt.Fprintf(s.Terminal, "admin token (also in %s): %s\n", path, token)
	}
	return token, nil
}
