package profiles

import (
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Current chooses, among certificates of one purpose, the one that an account with this address shall use: valid ones
// first, then those that carry the address in its exact spelling (Apple compares case-sensitively), then the latest
// notBefore, notAfter and SHA-1 thumbprint. Certificates without the address do not count; without any there is none.
func Current(certs []Certificate, address string, now time.Time) (Certificate, bool) {
	var candidates []Certificate
	for _, c := range certs {
		if slices.ContainsFunc(c.Addresses, func(a string) bool { return strings.EqualFold(a, address) }) {
			candidates = append(candidates, c)
		}
	}
	if len(candidates) == 0 {
		return Certificate{}, false
	}
	return slices.MaxFunc(candidates, func(a, b Certificate) int {
		return cmp.Or(
			compareBool(a.validAt(now), b.validAt(now)),
			compareBool(slices.Contains(a.Addresses, address), slices.Contains(b.Addresses, address)),
			a.NotBefore.Compare(b.NotBefore),
			a.NotAfter.Compare(b.NotAfter),
			strings.Compare(a.SHA1, b.SHA1),
		)
	}), true
}

func (c Certificate) validAt(now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// DerivePurpose says what a certificate is for if nobody said it: one that can encrypt (key or data encipherment, key
// agreement, or no key usage at all) is for encryption even if it can sign too, because losing an encryption key loses
// mail; any other is for signing.
func DerivePurpose(cert *x509.Certificate) Purpose {
	const encrypts = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	if cert.KeyUsage == 0 || cert.KeyUsage&encrypts != 0 {
		return PurposeSMIMEEncryption
	}
	return PurposeSMIMESigning
}

// CertificateAddresses are the mail addresses of a certificate in their exact spelling, each once: rfc822Names in their
// order, then SmtpUTF8Mailbox names (RFC 9598), then emailAddress attributes of the subject (RFC 8550 section 3).
func CertificateAddresses(cert *x509.Certificate) []string {
	all := slices.Concat(cert.EmailAddresses, utf8Mailboxes(cert), subjectAddresses(cert))
	var addresses []string
	for _, a := range all {
		if a != "" && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

func subjectAddresses(cert *x509.Certificate) []string {
	var addresses []string
	for _, name := range cert.Subject.Names {
		if s, ok := name.Value.(string); ok && name.Type.Equal(emailAddressOID()) {
			addresses = append(addresses, s)
		}
	}
	return addresses
}

// utf8Mailboxes reads the otherName id-on-SmtpUTF8Mailbox, which crypto/x509 skips.
func utf8Mailboxes(cert *x509.Certificate) []string {
	var addresses []string
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return nil
		}
		for _, name := range names {
			if a, ok := utf8Mailbox(name); ok {
				addresses = append(addresses, a)
			}
		}
	}
	return addresses
}

func utf8Mailbox(name asn1.RawValue) (string, bool) {
	if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
		return "", false
	}
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(name.Bytes, &oid)
	if err != nil || !oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}) {
		return "", false
	}
	var explicit, value asn1.RawValue
	if _, err := asn1.Unmarshal(rest, &explicit); err != nil || explicit.Tag != 0 {
		return "", false
	}
	if _, err := asn1.Unmarshal(explicit.Bytes, &value); err != nil || value.Tag != asn1.TagUTF8String {
		return "", false
	}
	return string(value.Bytes), utf8.Valid(value.Bytes)
}

// Owns tells whether an address is one of the user's, now or formerly; letter case does not matter.
func (u *User) Owns(address string) (current, former bool) {
	same := func(a string) bool { return strings.EqualFold(a, address) }
	return slices.ContainsFunc(u.Addresses, same), slices.ContainsFunc(u.FormerAddresses, same)
}
