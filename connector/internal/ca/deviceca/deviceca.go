// Package deviceca issues the certificates by which devices are known, and the server's SCEP RA certificate. A key is
// released only to a certificate that this package would have made (Holder).
package deviceca

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms/windows/mde"
)

const (
	backdate = time.Hour // devices fresh out of the box have wrong clocks
	// deviceLifetime is a year, less what it is backdated.
	deviceLifetime = 365 * 24 * time.Hour
	// raLifetime is renewed whenever the connector starts and the server asks.
	raLifetime = 2 * 365 * 24 * time.Hour
	minRSABits = 2048
	maxRSABits = 8192
	maxCSR     = 64 << 10
	// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
	maxCommonName = 64
)

// ErrCannotDecrypt says that a device certificate is not RSA with keyEncipherment: what is encrypted to it in the way of
// Apple and Windows could not be read.
var ErrCannotDecrypt = errors.New("the device's certificate is not RSA with keyEncipherment")

// safeID is what may stand in a SAN URI.
var safeID = regexp.MustCompile(`^[0-9A-Za-z._~-]{1,128}$`)

// Identity is the device certificate that shall exist. Names never come from the CSR.
type Identity struct {
	EnrolmentID string
	UserID      string
}

// ParseCSR checks a request's self-signature and key. Its subject and extensions are ignored.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, ca.Refuse("the certificate request is longer than %d bytes", maxCSR)
	}
	csr, err := mde.ParseCSR(der) // which crypto/x509 cannot, of some Windows builds
	if err != nil {
		return nil, ca.Refuse("the certificate request does not parse: %v", err)
	}
	key, ok := csr.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, ca.Refuse("the certificate request has a %T: devices need an RSA key to decrypt", csr.PublicKey)
	}
	if key.N.BitLen() < minRSABits {
		return nil, ca.Refuse("the certificate request has an RSA key of %d bits: at least %d are needed", key.N.BitLen(), minRSABits)
	}
	if key.N.BitLen() > maxRSABits {
		return nil, ca.Refuse("the certificate request has an RSA key of %d bits: at most %d are possible", key.N.BitLen(), maxRSABits)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, ca.Refuse("the certificate request is not signed by its own key")
	}
	return csr, nil
}

// KeyHash names the key of a request.
func KeyHash(csr *x509.CertificateRequest) string {
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Issue makes a device certificate.
func Issue(a *keyring.Authority, rand io.Reader, now time.Time, csr *x509.CertificateRequest, id Identity) ([]byte, error) {
	if !safeID.MatchString(id.EnrolmentID) || !safeID.MatchString(id.UserID) {
		return nil, ca.Refuse("enrolment %q, user %q: ids are 1 to 128 letters, digits, dots and hyphens", id.EnrolmentID, id.UserID)
	}
	if len(id.EnrolmentID) > maxCommonName {
		return nil, ca.Refuse("the enrolment id has %d characters: a common name has at most %d", len(id.EnrolmentID), maxCommonName)
	}
	t, err := template(rand, now, csr, deviceLifetime)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: id.EnrolmentID}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, urn := range []string{link.EnrolmentURN(id.EnrolmentID), link.UserURN(id.UserID)} {
		u, err := url.Parse(urn)
		if err != nil {
			return nil, fmt.Errorf("writing the name %s: %w", urn, err)
		}
		t.URIs = append(t.URIs, u)
	}
	return a.Sign(t, csr.PublicKey)
}

// IssueRA makes the server's RA certificate. It has neither clientAuth nor a device's names, so no key is ever released
// to it.
func IssueRA(a *keyring.Authority, rand io.Reader, now time.Time, csrDER []byte) ([]byte, error) {
	csr, err := ParseCSR(csrDER)
	if err != nil {
		return nil, err
	}
	t, err := template(rand, now, csr, raLifetime)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: "Waxseal SCEP RA"}
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{keyring.OIDRegistrationAuthority()} // and good for nothing else
	return a.Sign(t, csr.PublicKey)
}

func template(rand io.Reader, now time.Time, csr *x509.CertificateRequest, life time.Duration) (*x509.Certificate, error) {
	serial, err := keyring.NewSerial(rand)
	if err != nil {
		return nil, err
	}
	keyID, err := keyring.SubjectKeyID(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	from := now.UTC().Add(-backdate).Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    from,
		NotAfter:     from.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		SubjectKeyId: keyID,
	}, nil
}

// Holder is who a device certificate stands for.
type Holder struct {
	Enrolment string // urn:waxseal:enrolment:…
	User      string // urn:waxseal:user:…
}

// Owns tells whether records of that owner may be released to the holder.
func (h Holder) Owns(owner string) bool {
	return owner != "" && (owner == h.Enrolment || owner == h.User)
}

// Verify reads the holder from a device certificate of this CA that is valid now and can decrypt.
func Verify(root *x509.Certificate, der []byte, now time.Time) (*x509.Certificate, Holder, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, Holder{}, fmt.Errorf("the recipient is no certificate: %w", err)
	}
	// crypto/x509 checks signature, dates, issuer and use; the root is our own CA and nothing else.
	roots := x509.NewCertPool()
	roots.AddCert(root)
	opts := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := cert.Verify(opts); err != nil {
		return nil, Holder{}, fmt.Errorf("the recipient is no device certificate of this connector's CA: %w", err)
	}
	if cert.IsCA || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		return nil, Holder{}, errors.New("the recipient is no device certificate: its use is not client authentication alone")
	}
	holder, err := holderOf(cert)
	if err != nil {
		return nil, Holder{}, err
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() < minRSABits || cert.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		return nil, Holder{}, ErrCannotDecrypt
	}
	return cert, holder, nil
}

// holderOf wants exactly one enrolment and one user.
func holderOf(cert *x509.Certificate) (Holder, error) {
	var h Holder
	for _, u := range cert.URIs {
		urn := u.String()
		switch {
		case strings.HasPrefix(urn, link.EnrolmentURN("")) && h.Enrolment == "":
			h.Enrolment = urn
		case strings.HasPrefix(urn, link.UserURN("")) && h.User == "":
			h.User = urn
		default:
			return Holder{}, fmt.Errorf("the recipient's certificate has the unexpected name %q", urn)
		}
	}
	if h.Enrolment == "" || h.User == "" {
		return Holder{}, errors.New("the recipient's certificate names no enrolment and user")
	}
	return h, nil
}
