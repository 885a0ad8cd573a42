package model

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/waxseal/waxseal/profiles"
)

// NewCertificate reads what a certificate says of itself; owner, kind and status are the caller's to fill in.
func NewCertificate(der []byte) (Certificate, *x509.Certificate, error) {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, nil, fmt.Errorf("parsing the certificate: %w", err)
	}
	sum256, sum1 := sha256.Sum256(parsed.Raw), sha1.Sum(parsed.Raw) // SHA-1 is Windows' thumbprint, a name and no proof
	c := Certificate{
		Certificate: profiles.Certificate{
			SHA256: hex.EncodeToString(sum256[:]), SHA1: hex.EncodeToString(sum1[:]), DER: parsed.Raw,
			Addresses: profiles.CertificateAddresses(parsed), NotBefore: parsed.NotBefore.UTC(), NotAfter: parsed.NotAfter.UTC(),
		},
		Subject: profiles.NameString(parsed.Subject), Issuer: profiles.NameString(parsed.Issuer), Serial: hex.EncodeToString(parsed.SerialNumber.Bytes()),
	}
	return c, parsed, nil
}
