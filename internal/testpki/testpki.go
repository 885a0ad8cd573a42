// Package testpki makes certification authorities and certificates for tests, quickly and the same each time: RSA keys
// come from a small pool of files, and validity is counted from a fixed clock.
package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/testdata/keys"
)

// poolSize is how many different RSA keys there are; more certificates than that share keys.
const poolSize = 10

// Now is the clock of tests. Certificates are valid from a year before it until ten years after it unless told
// otherwise, so that outside tools, which look at the real clock, accept them too.
func Now() time.Time { return time.Date(2026, time.March, 2, 9, 30, 0, 0, time.UTC) }

// Identity is a certificate with its key.
type Identity struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// RSA returns the key as an *rsa.PrivateKey; it panics on another kind.
func (id *Identity) RSA() *rsa.PrivateKey { return id.Key.(*rsa.PrivateKey) }

// CertPEM and KeyPEM (PKCS #8) are for outside tools.
func (id *Identity) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Cert.Raw})
}

// KeyPEM is the private key as PKCS #8.
func (id *Identity) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// CA is a certification authority.
type CA struct {
	Identity
	issued atomic.Int64
}

// KeyType chooses the key of a certificate.
type KeyType int

// The kinds of keys. RSA2048 comes from the pool, the others are made when asked for.
const (
	RSA2048 KeyType = iota
	P256
	P384
)

// Options describe a certificate to issue; zero values mean a usual S/MIME certificate.
type Options struct {
	CN        string
	Emails    []string
	URIs      []*url.URL
	DNS       []string
	NotBefore time.Time
	NotAfter  time.Time
	// KeyUsage defaults to digitalSignature with keyEncipherment, or with keyAgreement for EC keys.
	KeyUsage x509.KeyUsage
	// ExtKeyUsage defaults to emailProtection.
	ExtKeyUsage []x509.ExtKeyUsage
	KeyType     KeyType
	// Key is used instead of one from the pool.
	Key crypto.Signer
	// CA makes an intermediate CA.
	CA bool
	// Serial defaults to a counter.
	Serial *big.Int
	// Extensions are added as they stand.
	Extensions []pkix.Extension
}

// PoolKey returns the RSA key with that number; numbers wrap around.
func PoolKey(t testing.TB, n int) *rsa.PrivateKey {
	t.Helper()
	raw, err := keys.FS.ReadFile(fmt.Sprintf("rsa-%d.pem", n%poolSize))
	if err != nil {
		t.Fatalf("reading pool key: %v", err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatalf("parsing pool key: %v", err)
	}
	return key.(*rsa.PrivateKey)
}

// NewCA makes a self-signed RSA authority. The same name has the same key, and different names usually others.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	key := PoolKey(t, poolStart(name))
	template := template(Options{CN: name, CA: true, Serial: big.NewInt(1)}, key)
	ca := &CA{Identity: Identity{Key: key}}
	ca.Cert = sign(t, template, template, key.Public(), key)
	return ca
}

func poolStart(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int(h.Sum32() % poolSize)
}

// Issue makes a certificate under the authority.
func (ca *CA) Issue(t testing.TB, opts Options) *Identity {
	t.Helper()
	n := int(ca.issued.Add(1))
	if opts.Serial == nil {
		opts.Serial = big.NewInt(int64(0x1000 + n))
	}
	key := opts.Key
	if key == nil {
		key = newKey(t, opts.KeyType, poolStart(ca.Cert.Subject.CommonName)+n)
	}
	return &Identity{Cert: sign(t, template(opts, key), ca.Cert, key.Public(), ca.Key), Key: key}
}

// Intermediate makes an authority under this one.
func (ca *CA) Intermediate(t testing.TB, name string) *CA {
	t.Helper()
	return &CA{Identity: *ca.Issue(t, Options{CN: name, CA: true})}
}

// IssueCSR makes a certificate for the key of a request.
func (ca *CA) IssueCSR(t testing.TB, csr *x509.CertificateRequest, opts Options) *x509.Certificate {
	t.Helper()
	if opts.Serial == nil {
		opts.Serial = big.NewInt(0x1000 + ca.issued.Add(1))
	}
	return sign(t, template(opts, publicOnly{csr.PublicKey}), ca.Cert, csr.PublicKey, ca.Key)
}

// publicOnly lets a bare public key stand where template looks for one.
type publicOnly struct{ key crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }

// SelfSigned makes a certificate signed by its own key, as SCEP clients do for their first request.
func SelfSigned(t testing.TB, opts Options) *Identity {
	t.Helper()
	if opts.Serial == nil {
		opts.Serial = big.NewInt(1)
	}
	key := opts.Key
	if key == nil {
		key = newKey(t, opts.KeyType, poolStart(opts.CN))
	}
	template := template(opts, key)
	return &Identity{Cert: sign(t, template, template, key.Public(), key), Key: key}
}

func newKey(t testing.TB, kind KeyType, n int) crypto.Signer {
	t.Helper()
	curve := elliptic.P256()
	switch kind {
	case RSA2048:
		return PoolKey(t, n)
	case P384:
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatalf("making key: %v", err)
	}
	return key
}

func template(opts Options, key interface{ Public() crypto.PublicKey }) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber:          opts.Serial,
		Subject:               pkix.Name{CommonName: opts.CN, Organization: []string{"Example"}},
		EmailAddresses:        opts.Emails,
		URIs:                  opts.URIs,
		DNSNames:              opts.DNS,
		NotBefore:             opts.NotBefore,
		NotAfter:              opts.NotAfter,
		KeyUsage:              opts.KeyUsage,
		ExtKeyUsage:           opts.ExtKeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  opts.CA,
		SubjectKeyId:          keyID(key.Public()),
		ExtraExtensions:       opts.Extensions,
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = Now().AddDate(-1, 0, 0)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = Now().AddDate(10, 0, 0)
	}
	fillUsage(c, key.Public())
	return c
}

func fillUsage(c *x509.Certificate, key crypto.PublicKey) {
	if c.IsCA {
		c.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		return
	}
	if c.KeyUsage == 0 {
		c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		if _, ok := key.(*ecdsa.PublicKey); ok {
			c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
		}
	}
	if c.ExtKeyUsage == nil {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	}
}

func keyID(key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil
	}
	sum := sha1.Sum(der)
	return sum[:]
}

func sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatalf("issuing %q: %v", template.Subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing %q: %v", template.Subject, err)
	}
	return cert
}
