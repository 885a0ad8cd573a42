package softca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
)

// crlPath is where the server serves this CA's CRL, below the PKI URL.
const crlPath = "/crl/softca.crl"

// extendedKeyUsage knows the uses that may be asked for, by name and by OID. Server authentication, code signing, time
// stamping, smart card logon, OCSP signing and "any" are left out: devices trust this CA, and a mail certificate must not vouch for more.
func extendedKeyUsage(name string) (asn1.ObjectIdentifier, bool) {
	switch strings.ToLower(name) {
	case "emailprotection", "secureemail", "1.3.6.1.5.5.7.3.4":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}, true
	case "clientauth", "clientauthentication", "1.3.6.1.5.5.7.3.2":
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}, true
	}
	return nil, false
}

// template makes the certificate of RFC 8550 section 4 for a signing key: names as they were asked for, key usage
// critical, no basic constraints.
func (c *CA) template(in ca.Intent) (*x509.Certificate, error) {
	if in.Template != "" && in.Template != Template {
		return nil, ca.Refuse("template %q is unknown: %s has %q", in.Template, Name, Template)
	}
	t := &x509.Certificate{RawSubject: in.Subject}
	var err error
	if t.NotBefore, t.NotAfter, err = c.validity(in.Validity); err != nil {
		return nil, err
	}
	if t.KeyUsage, err = keyUsage(in.KeyUsage); err != nil {
		return nil, err
	}
	if t.UnknownExtKeyUsage, err = extendedKeyUsages(in.ExtendedKeyUsage); err != nil {
		return nil, err
	}
	empty, err := checkSubject(in.Subject)
	if err != nil {
		return nil, err
	}
	san, err := ca.SubjectAltName(in.SANs, empty)
	if err != nil {
		return nil, err
	}
	if !ca.HasEmail(in.SANs) {
		return nil, ca.Refuse("template %s needs a subject alternative name of type email", Template)
	}
	t.ExtraExtensions = []pkix.Extension{san}
	if url := strings.TrimRight(c.pkiURL(), "/"); url != "" {
		t.CRLDistributionPoints = []string{url + crlPath}
	}
	if t.SubjectKeyId, err = keyring.SubjectKeyID(in.PublicKey); err != nil {
		return nil, err
	}
	t.SerialNumber, err = keyring.NewSerial(c.rand)
	return t, err
}

// validity ends with the CA's own at the latest (RFC 5280 section 6.1.3 needs both valid).
func (c *CA) validity(asked time.Duration) (from, to time.Time, err error) {
	if asked == 0 {
		asked = defaultValidity
	}
	if asked < time.Hour || asked > MaxValidity {
		return from, to, ca.Refuse("a validity of %s: 1h to %d days are allowed", asked, int(MaxValidity/(24*time.Hour)))
	}
	now := c.clock().UTC().Truncate(time.Second)
	from, to = now.Add(-backdate), now.Add(asked-backdate)
	end := c.authority.Certificate.NotAfter
	if !now.Before(end) {
		return from, to, ca.Refuse("its own certificate ended on %s", end.Format(time.DateOnly))
	}
	if to.After(end) {
		to = end
	}
	return from, to, nil
}

func keyUsage(names []string) (x509.KeyUsage, error) {
	usage := x509.KeyUsageDigitalSignature
	for _, name := range names {
		switch strings.ToLower(name) {
		case "digitalsignature":
		case "nonrepudiation", "contentcommitment":
			usage |= x509.KeyUsageContentCommitment
		case "keyencipherment":
			usage |= x509.KeyUsageKeyEncipherment
		default:
			return 0, ca.Refuse("key usage %q: digitalSignature, nonRepudiation and keyEncipherment are possible", name)
		}
	}
	return usage, nil
}

func extendedKeyUsages(names []string) ([]asn1.ObjectIdentifier, error) {
	email, _ := extendedKeyUsage("emailProtection")
	out := []asn1.ObjectIdentifier{email}
	for _, name := range names {
		oid, ok := extendedKeyUsage(name)
		if !ok {
			return nil, ca.Refuse("extended key usage %q: emailProtection and clientAuth are possible", name)
		}
		if !oid.Equal(email) {
			out = append(out, oid)
		}
	}
	return out, nil
}

// checkSubject tells whether the subject is empty; what is no RDNSequence is refused.
func checkSubject(der []byte) (empty bool, err error) {
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &rdns)
	if err != nil || len(rest) != 0 {
		return false, ca.Refuse("the subject is no DER RDNSequence")
	}
	return len(rdns) == 0, nil
}
