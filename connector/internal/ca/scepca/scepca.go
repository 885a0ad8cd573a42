// Package scepca asks a CA by the Simple Certificate Enrolment Protocol (RFC 8894), as a client or as a registration
// authority.
//
// As a client the connector signs each request with the key that it asks a certificate for, so it must have that key. As a
// registration authority (raCertificate, raKey) it signs with a certificate that the CA knows, and so it may ask for keys
// that devices hold.
//
//	PKCSReq → success            the certificate
//	        → pending            noted; the next attempt sends CertPoll within the same transaction
//	        → badRequest …       refused for good
//	CertPoll → as above
package scepca

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// Options are the settings' options. url of the settings is the SCEP server's, without ?operation=.
type Options struct {
	// Challenge is the challengePassword of every request; empty: none.
	Challenge string `json:"challenge,omitempty"`
	// RACertificate and RAKey (PEM, RSA) sign requests instead of a self-signed certificate of the key that is asked for.
	RACertificate string `json:"raCertificate,omitempty"`
	RAKey         string `json:"raKey,omitempty"`
	// CAIdentifier is the message of GetCACert (RFC 8894 section 4.2): which CA of several is meant.
	CAIdentifier string `json:"caIdentifier,omitempty"`
	// CAFingerprint is the SHA-256 (hex) of a certificate that GetCACert must give: the CA's, or the RA's.
	CAFingerprint string `json:"caFingerprint,omitempty"`
	// Allow3DES encrypts with Triple DES where the CA announces no AES, as NDES does.
	Allow3DES bool `json:"allow3DES,omitempty"`
	// NDESAdminURL is the mscep_admin page of Microsoft's NDES, which shows a challenge for one request; Username and
	// Password are its account, by HTTP Basic. Instead of Challenge.
	NDESAdminURL string `json:"ndesAdminURL,omitempty"`
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty"`
}

type adapter struct {
	settings ca.Settings
	options  Options
	issuers  []*x509.Certificate
	pin      string
	ra       *tls.Certificate
	client   *http.Client
	clock    func() time.Time
	rand     io.Reader
}

// New makes the adapter.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o Options
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	o.Challenge, o.Password = strings.TrimRight(o.Challenge, "\r\n"), strings.TrimRight(o.Password, "\r\n") // files end with a line break
	if err := o.check(s); err != nil {
		return nil, err
	}
	a := &adapter{settings: s, options: o, clock: env.Clock, rand: env.Rand}
	if a.rand == nil {
		a.rand = rand.Reader
	}
	var err error
	if a.ra, err = o.raPair(); err != nil {
		return nil, err
	}
	if a.pin, err = fingerprint(o.CAFingerprint); err != nil {
		return nil, err
	}
	if a.issuers, err = s.IssuerCertificates(); err != nil {
		return nil, err
	}
	a.client, err = s.Client(nil)
	return a, err
}

func (o Options) check(s ca.Settings) error {
	switch {
	case len(s.Templates) > 0:
		return errors.New("templates: SCEP has no word for a template: give each its own address, and so settings of its own")
	case strings.ContainsAny(s.URL, "?#"):
		return fmt.Errorf("url %q: without a question mark and what follows it", s.URL)
	case o.NDESAdminURL != "" && (o.Username == "" || o.Password == ""):
		return errors.New("options: ndesAdminURL needs username and passwordFile of an account that may enrol")
	case o.NDESAdminURL == "" && (o.Username != "" || o.Password != ""):
		return errors.New("options: username and passwordFile are for ndesAdminURL, which is missing; SCEP itself knows the challenge alone")
	case o.NDESAdminURL != "" && o.Challenge != "":
		return errors.New("options: challenge and ndesAdminURL are both given: one of them")
	case o.NDESAdminURL != "":
		return web.RequireHTTPS("options: ndesAdminURL", o.NDESAdminURL)
	}
	return nil
}

// raPair wants RSA: the answer is encrypted to the certificate that signed the request.
func (o Options) raPair() (*tls.Certificate, error) {
	pair, err := web.KeyPair("raCertificate", o.RACertificate, "raKey", o.RAKey)
	if pair == nil || err != nil {
		return nil, err
	}
	if _, ok := pair.PrivateKey.(*rsa.PrivateKey); !ok {
		return nil, errors.New("options: raKey: it is an RSA key, since the CA encrypts its answer to it")
	}
	return pair, nil
}

// fingerprint takes hex with or without colons and spaces.
func fingerprint(text string) (string, error) {
	clean := strings.ToLower(strings.NewReplacer(":", "", " ", "", "\n", "", "\r", "").Replace(text))
	if raw, err := hex.DecodeString(clean); err != nil || len(raw) != 0 && len(raw) != sha256.Size {
		return "", fmt.Errorf("options: caFingerprint %q: it is the SHA-256 of a certificate, 64 hexadecimal digits (openssl x509 -noout -fingerprint -sha256)", text)
	}
	return clean, nil
}

// Revoke cannot: SCEP has no message for it.
func (a *adapter) Revoke(context.Context, *x509.Certificate, int) error { return ca.ErrCannotRevoke }
