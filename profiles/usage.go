package profiles

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Defaults and limits of a certificate request (Microsoft Learn: PKCS certificate profile; 825 days are the CA/Browser
// Forum's limit for S/MIME certificates and hold 24 months).
const (
	DefaultKeySize          = 2048
	DefaultValidity         = 365 * Day
	DefaultRenewalThreshold = 20
	MinValidity             = 5 * Day
	MaxValidity             = 825 * Day
	// TemplateSMIMESigning is the template of the built-in CA, and its default.
	TemplateSMIMESigning = "smime-signing"
	// TemplateSMIMESigningStrict is for mail alone (strict generation of the S/MIME baseline requirements).
	TemplateSMIMESigningStrict = "smime-signing-strict"
	// CASoft is the name of the built-in CA.
	CASoft = "softca"
)

// KeyBits is the key size with its default.
func (c *CertificateRequest) KeyBits() int {
	if c.KeySize == 0 {
		return DefaultKeySize
	}
	return c.KeySize
}

// Lifetime is the validity with its default.
func (c *CertificateRequest) Lifetime() time.Duration {
	if c.Validity == 0 {
		return DefaultValidity
	}
	return c.Validity.Time()
}

// RenewalThreshold is the percentage of the lifetime that remains when renewal starts, with its default.
func (c *CertificateRequest) RenewalThreshold() int {
	if c.RenewalThresholdPercentage == 0 {
		return DefaultRenewalThreshold
	}
	return c.RenewalThresholdPercentage
}

// jitterPart of the time before or after the threshold, whichever is shorter, is over which renewals are spread.
const jitterPart = 10

// RenewAt is when a certificate of this request is to be renewed: when the remaining part of its lifetime falls to the
// threshold (PK-10), or somewhat earlier, never later. How much earlier, its hash says, so that certificates that were issued
// in one hour, when a profile was assigned to everybody, do not come due in one hour.
func (c *CertificateRequest) RenewAt(cert Certificate) time.Time {
	lifetime := cert.NotAfter.Sub(cert.NotBefore)
	remaining := lifetime / 100 * time.Duration(c.RenewalThreshold())
	span := min(remaining, lifetime-remaining) / jitterPart
	return cert.NotAfter.Add(-remaining - time.Duration(float64(span)*spread(cert.SHA256)))
}

// spread makes a number from 0 to 1 of a hash in hex; of anything else 0.
func spread(hash string) float64 {
	n, err := strconv.ParseUint(hash[:min(8, len(hash))], 16, 32)
	if err != nil {
		return 0
	}
	return float64(n) / (1 << 32)
}

// TemplateName is the template with its default.
func (c *CertificateRequest) TemplateName() string {
	if c.Template == "" {
		return TemplateSMIMESigning
	}
	return c.Template
}

// Revocations are the events after which certificates are revoked. A profile that does not say has those of the device and of
// the assignment; one with an empty list has none (intune-smime.md section 10, made the same for each platform and kind).
func (c *CertificateRequest) Revocations() []Event {
	if c.RevokeOn == nil {
		return []Event{EventUnenroll, EventRetire, EventWipe, EventUnassign}
	}
	return c.RevokeOn
}

// KeyUsageBits turns key usage names into bits; no names mean digitalSignature.
func KeyUsageBits(names []string) (x509.KeyUsage, error) {
	if len(names) == 0 {
		return x509.KeyUsageDigitalSignature, nil
	}
	var bits x509.KeyUsage
	for _, name := range names {
		bit, err := keyUsageBit(name)
		if err != nil {
			return 0, err
		}
		bits |= bit
	}
	return bits, nil
}

func keyUsageBit(name string) (x509.KeyUsage, error) {
	switch name {
	case "digitalSignature":
		return x509.KeyUsageDigitalSignature, nil
	case "nonRepudiation":
		return x509.KeyUsageContentCommitment, nil
	case "keyEncipherment":
		return x509.KeyUsageKeyEncipherment, nil
	}
	return 0, fmt.Errorf("%q is not known; use digitalSignature, nonRepudiation or keyEncipherment", name)
}

// ExtendedKeyUsageOIDs turns names or dotted OIDs into OIDs; no names mean emailProtection.
func ExtendedKeyUsageOIDs(names []string) ([]asn1.ObjectIdentifier, error) {
	if len(names) == 0 {
		names = []string{"emailProtection"}
	}
	oids := make([]asn1.ObjectIdentifier, len(names))
	for i, name := range names {
		oid, err := extendedKeyUsageOID(name)
		if err != nil {
			return nil, err
		}
		oids[i] = oid
	}
	return oids, nil
}

func extendedKeyUsageOID(name string) (asn1.ObjectIdentifier, error) {
	switch name {
	case "emailProtection":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}, nil
	case "clientAuth":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}, nil
	case "serverAuth":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}, nil
	case "codeSigning":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}, nil
	case "smartcardLogon":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}, nil
	case "encryptingFileSystem":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 4}, nil
	case "documentSigning":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}, nil
	}
	oid, err := parseOID(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not known; use emailProtection, clientAuth, serverAuth, codeSigning, smartcardLogon, encryptingFileSystem, documentSigning or a dotted OID", name)
	}
	return oid, nil
}

// parseOID reads a dotted OID with the bounds of X.660 on its first two arcs.
func parseOID(s string) (asn1.ObjectIdentifier, error) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 32 {
		return nil, fmt.Errorf("%q is not an OID", s)
	}
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || len(part) > 1 && part[0] == '0' {
			return nil, fmt.Errorf("%q is not an OID", s)
		}
		oid[i] = int(n)
	}
	if oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an OID", s)
	}
	return oid, nil
}
