package profiles

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

func (*TrustedCertificate) kind() Kind { return KindTrustedCertificate }

func (t *TrustedCertificate) check(r *report) {
	byFile, byCA := t.CertificateFile != "" || len(t.Certificate) > 0, t.CertificateAuthority != ""
	switch {
	case byFile == byCA:
		r.fault("spec", "must have exactly one of certificateFile and certificateAuthority")
	case byFile && len(t.Certificate) == 0:
		r.fault("spec.certificateFile", "%q is empty or was not read", t.CertificateFile)
	case byFile:
		field := "spec.certificateFile"
		if t.CertificateFile == "" {
			field = "spec.certificate"
		}
		if _, err := ParseTrustedCertificate(t.Certificate); err != nil {
			r.fault(field, "%s", err)
		}
	}
}

// ParseTrustedCertificate reads one CA certificate, DER or PEM, and gives its DER form. A file with a private key is
// refused (TR-01), and so is a certificate that is no CA (TR-02).
func ParseTrustedCertificate(data []byte) ([]byte, error) {
	der, err := certificateDER(data)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("is not an X.509 certificate in DER or PEM form: %w", err)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return nil, fmt.Errorf("certificate %q is no CA certificate (its basic constraints do not say CA); a TrustedCertificate takes a root or an intermediate", cert.Subject)
	}
	return der, nil
}

// certificateDER finds the one certificate of a PEM file; other input is taken as DER.
func certificateDER(data []byte) ([]byte, error) {
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("holds a private key; a TrustedCertificate takes the certificate alone: take the key out of the file")
	}
	if isPFX(data) {
		return nil, errors.New("is a PKCS#12 (PFX) file, which is for private keys; export the CA certificate alone, without its key")
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		return data, nil
	}
	var der []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block %q; only CERTIFICATE is allowed", block.Type)
		}
		if der != nil {
			return nil, errors.New("holds several certificates; write one TrustedCertificate for each")
		}
		der = block.Bytes
	}
	if der == nil {
		return nil, errors.New("holds no complete PEM block")
	}
	return der, nil
}

// isPFX tells a PKCS#12 file, in DER or BER, by its beginning: a sequence whose first element is the version number 3
// (RFC 7292 section 4). A bare private key (PKCS#1, PKCS#8, SEC1) fails later, as no certificate.
func isPFX(data []byte) bool {
	if len(data) < 8 || data[0] != 0x30 {
		return false
	}
	header := 2
	if data[1] > 0x80 {
		header += int(data[1] & 0x7f)
	}
	return header < 8 && bytes.HasPrefix(data[min(header, len(data)):], []byte{asn1.TagInteger, 1, 3})
}

func (*PKCSCertificate) kind() Kind         { return KindPKCSCertificate }
func (*SCEPCertificate) kind() Kind         { return KindSCEPCertificate }
func (*PKCSImportedCertificate) kind() Kind { return KindPKCSImportedCertificate }

// keySizeOfAndroid is one that neither Apple's nor Microsoft's SCEP knows (Microsoft Learn: SCEP profile, key size).
const keySizeOfAndroid = 3072

func (s *SCEPCertificate) check(r *report) {
	s.CertificateRequest.check(r)
	if s.KeyBits() == keySizeOfAndroid {
		r.warn("spec.keySize", "%d: of the devices that make the key themselves only those with Android can; use 2048 or 4096 for all", s.KeyBits())
	}
}

func (p *PKCSImportedCertificate) check(r *report) {
	oneOf(r, "spec.intendedPurpose", p.IntendedPurpose, PurposeSMIMEEncryption, PurposeSMIMESigning, PurposeUnassigned)
}

// maxNames is the limit of subject alternative names and of extended key usages (Microsoft Learn: PKCS profile).
const maxNames = 500

func (c *CertificateRequest) check(r *report) {
	if c.CertificateAuthority == "" {
		r.fault("spec.certificateAuthority", "is missing; name a CA of the connector, for example %s", CASoft)
	}
	if c.CertificateAuthority == CASoft && c.TemplateName() != TemplateSMIMESigning && c.TemplateName() != TemplateSMIMESigningStrict {
		r.fault("spec.template", "%s has no template %q for keys of one device; use %s or %s", CASoft, c.Template, TemplateSMIMESigning, TemplateSMIMESigningStrict)
	}
	if err := CheckSubject(c.Subject); err != nil {
		r.fault("spec.subject", "%s", err)
	}
	warnNoValue(r, "spec.subject", c.Subject)
	c.checkNames(r)
	c.checkUsage(r)
	c.checkTimes(r)
}

func (c *CertificateRequest) checkNames(r *report) {
	if len(c.SubjectAlternativeNames) > maxNames {
		r.fault("spec.subjectAlternativeNames", "has more than %d names", maxNames)
		return
	}
	for i, name := range c.SubjectAlternativeNames {
		at := fmt.Sprintf("spec.subjectAlternativeNames[%d]", i)
		oneOf(r, at+".type", name.Type, SANEmail, SANUPN, SANDNS, SANURI)
		if name.Value == "" {
			r.fault(at+".value", "is missing; write for example {{EmailAddress}}")
		} else if err := name.check(); err != nil {
			r.fault(at+".value", "%s", err)
		}
		warnNoValue(r, at+".value", name.Value)
	}
}

func (n SubjectAlternativeName) check() error {
	if n.Type == SANEmail && !hasVariables(n.Value) {
		return CheckAddress(n.Value)
	}
	return CheckTemplate(n.Value)
}

func (c *CertificateRequest) checkUsage(r *report) {
	if !slices.Contains([]int{2048, 3072, 4096}, c.KeyBits()) {
		r.fault("spec.keySize", "%d is not allowed; use 2048, 3072 or 4096", c.KeySize)
	}
	for i, name := range c.KeyUsage {
		if _, err := keyUsageBit(name); err != nil {
			r.fault(fmt.Sprintf("spec.keyUsage[%d]", i), "%s", err)
		}
	}
	if len(c.ExtendedKeyUsage) > maxNames {
		r.fault("spec.extendedKeyUsage", "has more than %d usages", maxNames)
		return
	}
	for i, name := range c.ExtendedKeyUsage {
		if _, err := extendedKeyUsageOID(name); err != nil {
			r.fault(fmt.Sprintf("spec.extendedKeyUsage[%d]", i), "%s", err)
		}
	}
}

func (c *CertificateRequest) checkTimes(r *report) {
	if c.Lifetime() < MinValidity || c.Lifetime() > MaxValidity {
		r.fault("spec.validity", "%s is not allowed; use %s to %s", c.Validity, Duration(MinValidity), Duration(MaxValidity))
	}
	if t := c.RenewalThreshold(); t < 1 || t > 99 {
		r.fault("spec.renewalThresholdPercentage", "%d is not allowed; use 1 to 99 (percent of the lifetime that remains)", t)
	}
	for i, e := range c.RevokeOn {
		oneOf(r, fmt.Sprintf("spec.revokeOn[%d]", i), e, EventUnenroll, EventRetire, EventWipe, EventUnassign, EventSupersede)
	}
}
