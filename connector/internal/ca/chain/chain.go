// Package chain reads the certificates that a CA hands out of itself: SCEP's GetCACert and EST's cacerts give either one
// certificate or a SignedData without signers, in any order.
package chain

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/link"
)

// maxCertificates bounds the signatures that are reckoned for one answer.
const maxCertificates = 32

// Parse reads one certificate or a bag.
func Parse(der []byte) ([]*x509.Certificate, error) {
	if cert, err := x509.ParseCertificate(der); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	certs, err := cms.ParseCertsOnly(der)
	switch {
	case err != nil || len(certs) == 0:
		return nil, errors.New("the CA's answer is neither a certificate nor a PKCS #7 with certificates: look at the address")
	case len(certs) > maxCertificates:
		return nil, fmt.Errorf("the CA's answer has %d certificates: at most %d are read", len(certs), maxCertificates)
	}
	return certs, nil
}

// Issuing are the CAs among the certificates that issued no other CA among them: those that sign for people and devices.
func Issuing(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if c.IsCA && !issuesAnother(c, certs) {
			out = append(out, c)
		}
	}
	return out
}

func issuesAnother(issuer *x509.Certificate, certs []*x509.Certificate) bool {
	for _, c := range certs {
		// one with the same key is the issuer again: self-signed, cross-signed, or the new beside the old
		if c.IsCA && !sameKey(c, issuer) && c.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

func sameKey(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}

// Finding looks whether a CA that issues is among the issuers of the settings.
func Finding(s ca.Settings, certs []*x509.Certificate) link.CAFinding {
	found := web.Wrong("issuer", "the CA shows no certificate of a CA")
	for _, c := range Issuing(certs) {
		if found = web.Issuer(s, c); found.OK {
			return found
		}
	}
	return found
}
