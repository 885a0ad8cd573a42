package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	caLife = 10 * 365 * 24 * time.Hour
	// leafLife is Apple's limit for certificates of a CA that the user trusted (825 days), with room for renewal.
	leafLife   = 397 * 24 * time.Hour
	renewLeaf  = 30 * 24 * time.Hour
	backdate   = time.Hour // clocks of devices differ
	serialBits = 126
)

// OwnTLS is the TLS certificate that the server makes for itself, and its CA. It renews the certificate while it runs.
type OwnTLS struct {
	dir   string
	hosts []string
	clock func() time.Time
	rand  io.Reader
	ca    *x509.Certificate
	caKey crypto.Signer

	mu      sync.Mutex
	current *tls.Certificate
	leaf    *x509.Certificate
}

// NewOwnTLS loads or makes the CA and a certificate for the hosts (names and addresses).
func NewOwnTLS(dir string, hosts []string, clock func() time.Time, rand io.Reader) (*OwnTLS, error) {
	t := &OwnTLS{dir: dir, hosts: withLoopback(hosts), clock: clock, rand: rand}
	var err error
	if t.caKey, err = loadOrMake(filepath.Join(dir, CAKeyFile), newECKey(rand)); err != nil {
		return nil, err
	}
	if t.ca, err = t.loadCA(); err != nil {
		return nil, err
	}
	_, err = t.GetCertificate(nil)
	return t, err
}

// withLoopback adds what the machine itself may use, and brings the hosts into one order.
func withLoopback(hosts []string) []string {
	all := append(slices.Clone(hosts), "localhost", "127.0.0.1", "::1")
	all = slices.DeleteFunc(all, func(h string) bool {
		ip := net.ParseIP(h)
		return h == "" || (ip != nil && ip.IsUnspecified())
	})
	slices.Sort(all)
	return slices.Compact(all)
}

func (t *OwnTLS) loadCA() (*x509.Certificate, error) {
	path := filepath.Join(t.dir, CAFile)
	certs, err := loadCertificates(path)
	if err == nil {
		if !samePublicKey(certs[0].PublicKey, t.caKey.Public()) {
			return nil, fmt.Errorf("%s does not belong to %s: restore both from one backup", CAFile, CAKeyFile)
		}
		return certs[0], nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	now := t.clock()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Waxseal server CA"}, NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	ca, err := sign(t.rand, template, nil, t.caKey.Public(), t.caKey)
	if err != nil {
		return nil, err
	}
	return ca, WriteFile(path, encodeCertificates(ca), 0o644)
}

// CA is the certificate that clients must trust.
func (t *OwnTLS) CA() *x509.Certificate { return t.ca }

// GetCertificate gives the current certificate, renewed in time; it is tls.Config's.
func (t *OwnTLS) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && t.clock().Before(t.leaf.NotAfter.Add(-renewLeaf)) {
		return t.current, nil
	}
	key, err := loadOrMake(filepath.Join(t.dir, TLSKeyFile), newECKey(t.rand))
	if err != nil {
		return nil, err
	}
	if t.leaf, err = t.loadLeaf(key); err != nil {
		return nil, err
	}
	t.current = &tls.Certificate{Certificate: [][]byte{t.leaf.Raw, t.ca.Raw}, PrivateKey: key, Leaf: t.leaf}
	return t.current, nil
}

// loadLeaf takes the stored certificate if it fits, else makes one.
func (t *OwnTLS) loadLeaf(key crypto.Signer) (*x509.Certificate, error) {
	path := filepath.Join(t.dir, TLSCertFile)
	if certs, err := loadCertificates(path); err == nil && t.fits(certs[0], key) {
		return certs[0], nil
	}
	now := t.clock()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Waxseal server"}, NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	for _, h := range t.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	leaf, err := sign(t.rand, template, t.ca, key.Public(), t.caKey)
	if err != nil {
		return nil, err
	}
	return leaf, WriteFile(path, encodeCertificates(leaf, t.ca), 0o644)
}

func (t *OwnTLS) fits(c *x509.Certificate, key crypto.Signer) bool {
	if !samePublicKey(c.PublicKey, key.Public()) || c.CheckSignatureFrom(t.ca) != nil || !t.clock().Before(c.NotAfter.Add(-renewLeaf)) {
		return false
	}
	for _, h := range t.hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

// Signer signs profiles.
type Signer struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Key         crypto.Signer
}

// NewSigner reads a configured signing certificate with its chain.
func NewSigner(certFile, keyFile string) (*Signer, error) {
	pair, err := LoadPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	s := &Signer{Certificate: pair.Leaf}
	var ok bool
	if s.Key, ok = pair.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("%s holds a key that cannot sign", keyFile)
	}
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading the chain of %s: %w", certFile, err)
		}
		s.Chain = append(s.Chain, c)
	}
	return s, nil
}

// OwnSigner loads or makes the server's own signing key, certified by its TLS CA if it has one, else by itself.
func OwnSigner(dir string, t *OwnTLS, clock func() time.Time, rand io.Reader) (*Signer, error) {
	key, err := loadOrMake(filepath.Join(dir, SigningKeyFile), func() (crypto.Signer, error) { return rsa.GenerateKey(rand, signerBits) })
	if err != nil {
		return nil, err
	}
	s := &Signer{Key: key}
	issuer, issuerKey := (*x509.Certificate)(nil), key
	if t != nil {
		issuer, issuerKey, s.Chain = t.ca, t.caKey, []*x509.Certificate{t.ca}
	}
	path := filepath.Join(dir, SigningCertFile)
	now := clock()
	if certs, err := loadCertificates(path); err == nil && samePublicKey(certs[0].PublicKey, key.Public()) &&
		now.Before(certs[0].NotAfter.Add(-renewLeaf)) && (issuer == nil || certs[0].CheckSignatureFrom(issuer) == nil) {
		s.Certificate = certs[0]
		return s, nil
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Waxseal profile signing"}, NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if s.Certificate, err = sign(rand, template, issuer, key.Public(), issuerKey); err != nil {
		return nil, err
	}
	return s, WriteFile(path, encodeCertificates(s.Certificate), 0o644)
}

// sign issues a certificate; a nil issuer means self-signed.
func sign(random io.Reader, template, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(random, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	if issuer == nil {
		issuer = template
	}
	der, err := x509.CreateCertificate(random, template, issuer, public, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate %s: %w", template.Subject, err)
	}
	return x509.ParseCertificate(der)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
