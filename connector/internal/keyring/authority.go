package keyring

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// AuthorityName names a CA of a keyring, and its files.
type AuthorityName string

// The CAs. They are apart so that no mail certificate ever counts as a device's. SoftCA is the first issuing CA of the S/MIME
// CA; those that followed it have a number (smime.go).
const (
	DeviceCA   AuthorityName = "device-ca"
	SoftCARoot AuthorityName = "softca-root"
	SoftCA     AuthorityName = "softca"
)

// caLifetime is that of both roots: a device keeps its trust for its whole life.
const caLifetime = 20 * 365 * 24 * time.Hour

// Authority signs certificates and revocation lists with a key that it never shows.
type Authority struct {
	Name        AuthorityName
	Certificate *x509.Certificate
	signer      crypto.Signer
}

// Sign signs a certificate for a public key. It never makes another CA.
func (a *Authority) Sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	if template.IsCA || template.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return nil, errors.New("signing a certificate: it would be another CA")
	}
	template.SignatureAlgorithm = x509.SHA256WithRSA
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, public, a.signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return der, nil
}

// SignCRL signs a revocation list (RFC 5280 section 5).
func (a *Authority) SignCRL(template *x509.RevocationList) ([]byte, error) {
	template.SignatureAlgorithm = x509.SHA256WithRSA
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.signer)
	if err != nil {
		return nil, fmt.Errorf("signing the revocation list of %s: %w", a.Name, err)
	}
	return der, nil
}

// NewSerial makes a random serial number of 126 bits: positive, and at most 16 octets (RFC 5280 section 4.1.2.2).
func NewSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("reading randomness for a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x20 // never zero, never negative
	return new(big.Int).SetBytes(b), nil
}

// SubjectKeyID is method 1 of RFC 7093 section 2: the leftmost 160 bits of the key's SHA-256.
func SubjectKeyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// Authority opens a CA of the keyring; a CA never changes, so it is opened once.
func (k *Keyring) Authority(name AuthorityName) (*Authority, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.authority(name)
}

func (k *Keyring) authority(name AuthorityName) (*Authority, error) {
	if a := k.authorities[name]; a != nil {
		return a, nil
	}
	a, err := k.openAuthority(name)
	if err == nil {
		k.authorities[name] = a
	}
	return a, err
}

func (k *Keyring) openAuthority(name AuthorityName) (*Authority, error) {
	certPEM, err := k.read(string(name) + ".pem")
	if err != nil {
		return nil, err
	}
	key, err := k.readPrivate(string(name) + ".key")
	if err != nil {
		return nil, err
	}
	a, err := parseAuthority(certPEM, key)
	if err != nil {
		return nil, fmt.Errorf("opening %s of the keyring: %w", name, err)
	}
	a.Name = name
	return a, nil
}

// HasAuthorities tells whether the CAs are there: for devices, and one that issues S/MIME certificates.
func (k *Keyring) HasAuthorities() bool {
	return k.has(string(DeviceCA)+".pem") && k.has(string(SoftCA)+".pem")
}

func parseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New("no PEM in the file")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, errors.New("the private key is no PKCS#8 key")
	}
	signer, ok := key.(*rsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(cert.PublicKey) || !cert.IsCA {
		return nil, errors.New("the private key does not belong to an RSA CA certificate")
	}
	return &Authority{Certificate: cert, signer: signer}, nil
}

// MakeAuthorities makes the CAs that are missing. A keyring whose S/MIME CA is its own root keeps it.
func (k *Keyring) MakeAuthorities() error {
	if err := k.makeRoot(DeviceCA, "Waxseal Device CA"); err != nil {
		return err
	}
	if k.has(string(SoftCA) + ".pem") {
		return nil
	}
	if err := k.makeRoot(SoftCARoot, "Waxseal S/MIME Root CA"); err != nil {
		return err
	}
	root, err := k.Authority(SoftCARoot)
	if err != nil {
		return err
	}
	return k.makeIssuing(root, SoftCA)
}

func (k *Keyring) makeRoot(name AuthorityName, title string) error {
	if k.has(string(name) + ".pem") {
		return nil
	}
	key, err := rsa.GenerateKey(k.rand, k.caBits)
	if err != nil {
		return fmt.Errorf("making the %s: %w", title, err)
	}
	cert, err := k.selfSigned(key, title, name)
	if err != nil {
		return fmt.Errorf("making the %s: %w", title, err)
	}
	return k.storeNew(name, cert, key)
}

func (k *Keyring) storeNew(name AuthorityName, cert []byte, key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key of %s: %w", name, err)
	}
	defer clear(der)
	return k.storeAuthority(name, cert, der)
}

// OIDRegistrationAuthority is id-kp-cmcRA (RFC 6402 section 2.10), the use of the server's RA certificate.
func OIDRegistrationAuthority() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}
}

// uses bound what the certificates of a CA may be for; none: anything that they say themselves.
type uses struct {
	known   []x509.ExtKeyUsage
	unknown []asn1.ObjectIdentifier
}

// usesOf narrows the device CA: PCs get it as a trusted root, and it must be good for no programs and no web sites.
func usesOf(name AuthorityName) uses {
	if name != DeviceCA {
		return uses{}
	}
	return uses{[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []asn1.ObjectIdentifier{OIDRegistrationAuthority()}}
}

// selfSigned makes a root. Its name has eight digits of its key, so that two installations' CAs are never mixed up.
func (k *Keyring) selfSigned(key *rsa.PrivateKey, title string, name AuthorityName) ([]byte, error) {
	template, err := k.caTemplate(key, title, caLifetime)
	if err != nil {
		return nil, err
	}
	use := usesOf(name)
	template.ExtKeyUsage, template.UnknownExtKeyUsage = use.known, use.unknown
	template.AuthorityKeyId = template.SubjectKeyId
	if name == SoftCARoot {
		template.MaxPathLen, template.MaxPathLenZero = 1, false
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// caTemplate is what the certificates of all our CAs have alike (RFC 5280 sections 4.2.1.2, 4.2.1.3 and 4.2.1.9).
func (k *Keyring) caTemplate(key *rsa.PrivateKey, title string, life time.Duration) (*x509.Certificate, error) {
	serial, err := NewSerial(k.rand)
	if err != nil {
		return nil, err
	}
	keyID, err := SubjectKeyID(key.Public())
	if err != nil {
		return nil, err
	}
	now := k.clock().UTC()
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: title + " " + hex.EncodeToString(keyID[:4])},
		NotBefore:             now.Add(-time.Hour).Truncate(time.Second),
		NotAfter:              now.Add(life).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          keyID,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}, nil
}

// storeAuthority writes the key first: a certificate without its key would be a CA that cannot sign.
func (k *Keyring) storeAuthority(name AuthorityName, cert, pkcs8 []byte) error {
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	if _, err := parseAuthority(certPEM, keyPEM); err != nil {
		return err
	}
	if existing, err := k.read(string(name) + ".pem"); err == nil {
		if !bytes.Equal(existing, certPEM) {
			return fmt.Errorf("the keyring already has another %s", name)
		}
		return nil
	}
	if err := k.writePrivate(string(name)+".key", keyPEM); err != nil {
		return err
	}
	return k.write(string(name)+".pem", certPEM)
}
