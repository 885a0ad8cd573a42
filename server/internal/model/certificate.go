package model

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

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
		Subject: NameString(parsed.Subject), Issuer: NameString(parsed.Issuer), Serial: hex.EncodeToString(parsed.SerialNumber.Bytes()),
	}
	return c, parsed, nil
}

// NameString writes a distinguished name for people. Mail addresses, which RFC 4514 has no short name for, stand at its
// end as E=.
func NameString(n pkix.Name) string {
	email := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1} // PKCS #9
	var addresses []string
	names := slices.DeleteFunc(slices.Clone(n.Names), func(a pkix.AttributeTypeAndValue) bool {
		text, ok := a.Value.(string)
		if ok && a.Type.Equal(email) {
			addresses = append(addresses, "E="+strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`).Replace(text))
			return true
		}
		return false
	})
	n.Names = names
	if rest := n.String(); rest != "" {
		addresses = slices.Insert(addresses, 0, rest)
	}
	return strings.Join(addresses, ",")
}
