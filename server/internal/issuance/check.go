package issuance

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

const (
	defaultKeySize = 2048
	maxKeySize     = 8192
)

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidUPN              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	oidUTF8Mailbox      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9} // RFC 9598
)

// Check holds a request against the order. A name, a use or a length that the order does not give is a fault; what the
// request leaves out, the CA fills in, unless strict says that the CA takes it from the request. The request's own
// signature has been checked. The error is a *Fault.
func Check(csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	for _, check := range []func(*x509.CertificateRequest, link.CertifyJob, bool) error{checkKey, checkSubject, checkNames, checkKeyUsage, checkExtKeyUsage, checkCA} {
		if err := check(csr, order, strict); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(csr *x509.CertificateRequest, order link.CertifyJob, _ bool) error {
	want := order.Request.KeySize
	if want == 0 {
		want = defaultKeySize
	}
	key, ok := csr.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fault(KeyLengthMismatch, "the request has a key of the kind %s; RSA with %d bits is right", csr.PublicKeyAlgorithm, want)
	}
	if bits := key.N.BitLen(); bits != want || bits > maxKeySize {
		return fault(KeyLengthMismatch, "the request has a key of %d bits; %d is right", bits, want)
	}
	return nil
}

func checkSubject(csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	got, err := nameOf(csr.RawSubject)
	if err != nil {
		return fault(CertificateRequestDecodingFailed, "the request's subject cannot be read")
	}
	want, err := nameOf(order.Subject)
	if err != nil {
		return fault(SubjectNameMismatch, "the profile's subject cannot be read")
	}
	switch {
	case got == want:
		return nil
	case got == "" && strict:
		return fault(SubjectNameMissing, "the request has no subject; %q is right", want)
	case got == "":
		return nil
	}
	return fault(SubjectNameMismatch, "the request asks for the subject %q; %q is right", got, want)
}

// nameOf writes a name so that two that say the same are equal: which string type a client chose for a value does not
// matter, nor in which order it wrote the parts, since the certificate has the profile's.
func nameOf(der []byte) (string, error) {
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &rdns)
	if err != nil || len(rest) > 0 {
		return "", asn1.SyntaxError{Msg: "name"}
	}
	var parts []string
	for _, set := range rdns {
		slices.SortFunc(set, func(a, b pkix.AttributeTypeAndValue) int { return strings.Compare(a.Type.String(), b.Type.String()) })
		parts = append(parts, pkix.RDNSequence{set}.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, ","), nil
}

func checkNames(csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	names, present, err := namesOf(csr)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.ContainsFunc(order.SANs, func(w profiles.SubjectAlternativeName) bool { return sameName(w, n) }) {
			return fault(SubjectAltNameMismatch, "the request asks for the %s name %q, which the profile does not give", n.Type, n.Value)
		}
	}
	if !strict || len(order.SANs) == 0 {
		return nil
	}
	if !present {
		return fault(SubjectAltNameMissing, "the request has no subject alternative names")
	}
	for i, w := range order.SANs {
		if canAskName(order, i) && !slices.ContainsFunc(names, func(n profiles.SubjectAlternativeName) bool { return sameName(w, n) }) {
			return fault(SubjectAltNameMismatch, "the request lacks the %s name %q", w.Type, w.Value)
		}
	}
	return nil
}

// sameName compares as the kind of name is compared: only domains know no case.
func sameName(a, b profiles.SubjectAlternativeName) bool {
	if a.Type == profiles.SANDNS {
		return a.Type == b.Type && strings.EqualFold(a.Value, b.Value)
	}
	return a == b
}

// namesOf reads every general name, those that crypto/x509 skips too.
func namesOf(csr *x509.CertificateRequest) (names []profiles.SubjectAlternativeName, present bool, err error) {
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var raw []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &raw); err != nil || len(rest) > 0 {
			return nil, true, fault(CertificateRequestDecodingFailed, "the request's subject alternative names cannot be read")
		}
		present = true
		for _, n := range raw {
			name, err := generalName(n)
			if err != nil {
				return nil, true, err
			}
			names = append(names, name)
		}
	}
	return names, present, nil
}

// generalName reads a name of the kinds that profiles have (RFC 5280 section 4.2.1.6).
func generalName(n asn1.RawValue) (profiles.SubjectAlternativeName, error) {
	kinds := map[int]profiles.SANType{1: profiles.SANEmail, 2: profiles.SANDNS, 6: profiles.SANURI}
	if kind, ok := kinds[n.Tag]; ok && n.Class == asn1.ClassContextSpecific {
		return profiles.SubjectAlternativeName{Type: kind, Value: string(n.Bytes)}, nil
	}
	if n.Tag != 0 || n.Class != asn1.ClassContextSpecific {
		return profiles.SubjectAlternativeName{}, fault(SubjectAltNameMismatch, "the request asks for a name of a kind (%d) that profiles do not have", n.Tag)
	}
	var other struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}
	if rest, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil || len(rest) > 0 {
		return profiles.SubjectAlternativeName{}, fault(CertificateRequestDecodingFailed, "the request's subject alternative names cannot be read")
	}
	switch {
	case other.Type.Equal(oidUPN):
		return profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: other.Value}, nil
	case other.Type.Equal(oidUTF8Mailbox):
		return profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: other.Value}, nil
	}
	return profiles.SubjectAlternativeName{}, fault(SubjectAltNameMismatch, "the request asks for a name of the kind %s, which profiles do not have", other.Type)
}

// usageBits are the first bits of KeyUsage (RFC 5280 section 4.2.1.3).
var usageBits = [...]string{"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign"}

func checkKeyUsage(csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	want := order.Request.KeyUsage
	if len(want) == 0 {
		want = []string{"digitalSignature"}
	}
	given := func(name string) bool {
		return slices.ContainsFunc(want, func(w string) bool {
			return strings.EqualFold(w, name) || name == "nonRepudiation" && strings.EqualFold(w, "contentCommitment")
		})
	}
	var bits asn1.BitString
	present := false
	for _, e := range csr.Extensions {
		if e.Id.Equal(oidKeyUsage) {
			present = true
			if rest, err := asn1.Unmarshal(e.Value, &bits); err != nil || len(rest) > 0 {
				return fault(CertificateRequestDecodingFailed, "the request's key usage cannot be read")
			}
		}
	}
	for i := range bits.BitLength {
		if bits.At(i) == 1 && (i >= len(usageBits) || !given(usageBits[i])) {
			return fault(KeyUsageMismatch, "the request asks for more key usages than the profile's %q", want)
		}
	}
	if !strict || len(order.Request.KeyUsage) == 0 {
		return nil
	}
	for i, name := range usageBits {
		if given(name) && canAskUsage(order.Platform, name) && (!present || bits.At(i) == 0) {
			return fault(KeyUsageMismatch, "the request lacks the key usage %s", name)
		}
	}
	return nil
}

func checkExtKeyUsage(csr *x509.CertificateRequest, order link.CertifyJob, strict bool) error {
	given, err := profiles.ExtendedKeyUsageOIDs(order.Request.ExtendedKeyUsage)
	if err != nil {
		return fault(EnhancedKeyUsageMismatch, "the profile's extended key usage: %v", err)
	}
	want := map[string]bool{"1.3.6.1.5.5.7.3.4": true} // a mail certificate is for mail, whether its profile says so or not
	for _, oid := range given {
		want[oid.String()] = true
	}
	var usages []asn1.ObjectIdentifier
	present := false
	for _, e := range csr.Extensions {
		if e.Id.Equal(oidExtKeyUsage) {
			present = true
			if rest, err := asn1.Unmarshal(e.Value, &usages); err != nil || len(rest) > 0 {
				return fault(CertificateRequestDecodingFailed, "the request's extended key usage cannot be read")
			}
		}
	}
	for _, u := range usages {
		if !want[u.String()] {
			return fault(EnhancedKeyUsageMismatch, "the request asks for the extended key usage %s, which the profile does not give", u)
		}
	}
	if !strict || len(order.Request.ExtendedKeyUsage) == 0 || !present && !canAskExtUsage(order.Platform) {
		return nil
	}
	if !present {
		return fault(EnhancedKeyUsageMissing, "the request has no extended key usage")
	}
	for _, oid := range given {
		if !slices.ContainsFunc(usages, func(u asn1.ObjectIdentifier) bool { return u.Equal(oid) }) {
			return fault(EnhancedKeyUsageMismatch, "the request lacks the extended key usage %s", oid)
		}
	}
	return nil
}

func checkCA(csr *x509.CertificateRequest, _ link.CertifyJob, _ bool) error {
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidBasicConstraints) {
			continue
		}
		var bc struct {
			CA      bool `asn1:"optional"`
			PathLen int  `asn1:"optional,default:-1"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &bc); err != nil || len(rest) != 0 || bc.CA {
			return fault(KeyUsageMismatch, "the request asks for a certificate of a CA")
		}
	}
	return nil
}
