package softca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// template is what certificates of one kind have: key usages that they must and may have, and the generation of the S/MIME
// baseline requirements (CA/Browser Forum, section 7.1.2.3): strict ones are for mail alone.
type template struct {
	name      string
	must, may x509.KeyUsage
	strict    bool
}

const (
	signs     = x509.KeyUsageDigitalSignature
	commits   = x509.KeyUsageContentCommitment
	enciphers = x509.KeyUsageKeyEncipherment
)

// templates are all there are. A key that mail is encrypted to belongs on all of its user's devices, which profiles see to:
// they let only the signing templates be used for keys of one device.
func templates() []template {
	return []template{
		{name: Template, must: signs, may: commits | enciphers},
		{name: "smime-signing-strict", must: signs, may: commits, strict: true},
		{name: "smime-encryption", must: enciphers},
		{name: "smime-encryption-strict", must: enciphers, strict: true},
		{name: "smime-dual", must: signs | enciphers, may: commits},
		{name: "smime-dual-strict", must: signs | enciphers, may: commits, strict: true},
	}
}

func templateNames() []string {
	var names []string
	for _, t := range templates() {
		names = append(names, t.name)
	}
	return names
}

func templateNamed(name string) (template, error) {
	if name == "" {
		name = Template
	}
	for _, t := range templates() {
		if t.name == name {
			return t, nil
		}
	}
	return template{}, ca.Refuse("template %q is unknown: %s has %s", name, Name, strings.Join(templateNames(), ", "))
}

// template makes the certificate of RFC 8550 section 4 and of the S/MIME baseline requirements, section 7.1.2.3: names as
// they were asked for, key usage critical, no basic constraints.
func (c *CA) template(in ca.Intent, issuer *keyring.Authority) (*x509.Certificate, error) {
	kind, err := templateNamed(in.Template)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{RawSubject: in.Subject}
	if t.NotBefore, t.NotAfter, err = c.validity(in.Validity, issuer.Certificate.NotAfter); err != nil {
		return nil, err
	}
	if t.KeyUsage, err = kind.keyUsage(in.KeyUsage); err != nil {
		return nil, err
	}
	if t.UnknownExtKeyUsage, err = kind.extendedKeyUsages(in.ExtendedKeyUsage); err != nil {
		return nil, err
	}
	if err := kind.names(t, in); err != nil {
		return nil, err
	}
	if base := c.keys.Settings().PKIURL; base != "" {
		t.CRLDistributionPoints = []string{link.CRLURL(base, string(issuer.Name))}
		t.IssuingCertificateURL = []string{link.IssuerURL(base, string(issuer.Name))}
		t.OCSPServer = []string{link.OCSPURL(base, string(issuer.Name))}
	}
	if t.SubjectKeyId, err = keyring.SubjectKeyID(in.PublicKey); err != nil {
		return nil, err
	}
	t.SerialNumber, err = keyring.NewSerial(c.keys.Rand())
	return t, err
}

// names writes the alternative names, and the policy that the names allow.
func (k template) names(t *x509.Certificate, in ca.Intent) error {
	subject, err := parseSubject(in.Subject)
	if err != nil {
		return err
	}
	san, err := ca.SubjectAltName(in.SANs, len(subject) == 0)
	if err != nil {
		return err
	}
	if !ca.HasEmail(in.SANs) {
		return ca.Refuse("template %s needs a subject alternative name of type email", k.name)
	}
	t.ExtraExtensions = []pkix.Extension{san}
	t.Policies, err = k.policies(subject, in.SANs)
	return err
}

// validity ends with the CA's own at the latest (RFC 5280 section 6.1.3 needs both valid).
func (c *CA) validity(asked time.Duration, end time.Time) (from, to time.Time, err error) {
	if asked == 0 {
		asked = defaultValidity
	}
	if asked < time.Hour || asked > MaxValidity {
		return from, to, ca.Refuse("a validity of %s: 1h to %d days are allowed", asked, int(MaxValidity/(24*time.Hour)))
	}
	now := c.keys.Now().UTC().Truncate(time.Second)
	from, to = now.Add(-backdate), now.Add(asked-backdate)
	if !now.Before(end) {
		return from, to, ca.Refuse("its own certificate ended on %s", end.Format(time.DateOnly))
	}
	if to.After(end) {
		to = end
	}
	return from, to, nil
}

func (k template) keyUsage(names []string) (x509.KeyUsage, error) {
	asked, err := ca.KeyUsageBits(names)
	if err != nil {
		return 0, err
	}
	if asked&^(k.must|k.may) != 0 {
		return 0, ca.Refuse("key usage %s: template %s has %s", strings.Join(names, ", "), k.name, usageWords(k.must|k.may))
	}
	return asked | k.must, nil
}

func usageWords(usage x509.KeyUsage) string {
	var words []string
	for _, w := range []struct {
		bit  x509.KeyUsage
		word string
	}{{signs, "digitalSignature"}, {commits, "nonRepudiation"}, {enciphers, "keyEncipherment"}} {
		if usage&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// extendedKeyUsages begins with emailProtection. Of others, clientAuth alone may be asked for: server authentication, code
// signing, time stamping, smart card logon, OCSP signing and "any" are left out, since devices trust this CA, and a mail
// certificate must not vouch for more.
func (k template) extendedKeyUsages(names []string) ([]asn1.ObjectIdentifier, error) {
	email, client := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	asked, err := ca.ExtendedKeyUsageOIDs(names)
	if err != nil {
		return nil, err
	}
	out := []asn1.ObjectIdentifier{email}
	for i, oid := range asked {
		switch {
		case oid.Equal(client) && k.strict:
			return nil, ca.Refuse("extended key usage clientAuth: template %s is for mail alone (emailProtection)", k.name)
		case !oid.Equal(email) && !oid.Equal(client):
			return nil, ca.Refuse("extended key usage %s: emailProtection and clientAuth are possible", names[i])
		case !slices.ContainsFunc(out, oid.Equal):
			out = append(out, oid)
		}
	}
	return out, nil
}

// parseSubject reads the subject; what is no RDNSequence is refused.
func parseSubject(der []byte) (pkix.RDNSequence, error) {
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &rdns)
	if err != nil || len(rest) != 0 {
		return nil, ca.Refuse("the subject is no DER RDNSequence")
	}
	return rdns, nil
}
