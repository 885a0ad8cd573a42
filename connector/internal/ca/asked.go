package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/waxseal/waxseal/profiles"
)

// What a device's request may hold that says nothing of who it is. Everything else is refused: a CA of others may take a
// name, a SID, a template or a use from an extension or an attribute that nobody here looked at.
const (
	oidTextSubjectKeyID  = "2.5.29.14"
	oidTextBasic         = "2.5.29.19"
	oidTextSMIME         = "1.2.840.113549.1.9.15"
	oidTextExtensions    = "1.2.840.113549.1.9.14"
	oidTextChallenge     = "1.2.840.113549.1.9.7"
	oidTextOSVersion     = "1.3.6.1.4.1.311.13.2.3"
	oidTextProvider      = "1.3.6.1.4.1.311.13.2.2"
	oidTextClient        = "1.3.6.1.4.1.311.21.20"
	oidTextUseMail       = "1.3.6.1.5.5.7.3.4"
	oidTextUseClientAuth = "1.3.6.1.5.5.7.3.2"
)

// checkRequested looks at every attribute and extension of a device's request.
func checkRequested(in Intent, csr *x509.CertificateRequest) error {
	extensions, err := checkAttributes(csr)
	if err != nil {
		return err
	}
	for _, e := range extensions {
		if err := checkExtension(in, e); err != nil {
			return err
		}
	}
	return nil
}

// checkAttributes gives the extensions that are asked for. It knows that Microsoft's CAs read extensions from an attribute of
// their own, too (1.3.6.1.4.1.311.2.1.14), and names and templates from another (1.3.6.1.4.1.311.13.2.1; [MS-WCCE] section
// 2.2.2.7).
func checkAttributes(csr *x509.CertificateRequest) ([]pkix.Extension, error) {
	var tbs struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []struct {
			Type   asn1.ObjectIdentifier
			Values asn1.RawValue
		} `asn1:"tag:0,set,optional"`
	}
	if rest, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &tbs); err != nil || len(rest) > 0 {
		return nil, Refuse("the device's certificate request has attributes that do not parse")
	}
	var extensions []pkix.Extension
	requests := 0
	for _, a := range tbs.Attributes {
		switch a.Type.String() {
		case oidTextExtensions:
			var err error
			if extensions, err = onlyExtensions(a.Values); err != nil {
				return nil, err
			}
			requests++
		case oidTextChallenge, oidTextOSVersion, oidTextProvider, oidTextClient:
		default:
			return nil, Refuse("the device's certificate request has the attribute %s, which this CA might obey", a.Type)
		}
	}
	if requests > 1 { // which of them a CA would read, nobody can know
		return nil, Refuse("the device's certificate request asks for extensions twice")
	}
	return extensions, nil
}

// onlyExtensions reads the one value of an extension request (RFC 2985 section 5.4.2). crypto/x509 reads the first of several,
// and none where it does not understand: what it gives may not be all that a CA sees.
func onlyExtensions(values asn1.RawValue) ([]pkix.Extension, error) {
	var extensions []pkix.Extension
	rest, err := asn1.Unmarshal(values.Bytes, &extensions)
	if err != nil || len(rest) > 0 || values.Class != asn1.ClassUniversal || values.Tag != asn1.TagSet || !values.IsCompound {
		return nil, Refuse("the device's certificate request asks for extensions in a way that CAs may read differently")
	}
	return extensions, nil
}

func checkExtension(in Intent, e pkix.Extension) error {
	switch {
	case e.Id.Equal(oidSubjectAltName):
		return checkNames(in, e.Value)
	case e.Id.Equal(oidExtKeyUsage):
		return checkUses(in, e.Value)
	case e.Id.Equal(oidKeyUsage):
		return nil // the CA's template decides, and what it issues is looked at
	}
	switch e.Id.String() {
	case oidTextSubjectKeyID, oidTextSMIME:
		return nil
	case oidTextBasic:
		var constraints struct {
			IsCA bool `asn1:"optional"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &constraints); err == nil && len(rest) == 0 && !constraints.IsCA {
			return nil
		}
	}
	return Refuse("the device's certificate request asks for the extension %s, which its profile does not give it", e.Id)
}

// checkNames wants every name of the request among the intent's. crypto/x509 skips otherName, and so a UPN.
func checkNames(in Intent, der []byte) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return Refuse("the device's certificate request has a subject alternative name that does not parse")
	}
	for _, n := range names {
		name, ok := requestedName(n)
		if !ok {
			return Refuse("the device's certificate request asks for a name of kind [%d], which its profile does not give it", n.Tag)
		}
		if !slices.Contains(in.SANs, name) {
			return Refuse("the device's certificate request asks for the %s name %q, which its profile does not give it", name.Type, name.Value)
		}
	}
	return nil
}

func requestedName(n asn1.RawValue) (profiles.SubjectAlternativeName, bool) {
	kinds := map[int]profiles.SANType{tagRFC822: profiles.SANEmail, tagDNS: profiles.SANDNS, tagURI: profiles.SANURI}
	if n.Class != asn1.ClassContextSpecific {
		return profiles.SubjectAlternativeName{}, false
	}
	if n.Tag == tagOtherName {
		var other otherName
		if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil {
			return profiles.SubjectAlternativeName{}, false
		}
		if again, err := asn1.MarshalWithParams(other, "tag:0"); err != nil || !bytes.Equal(again, n.FullBytes) {
			return profiles.SubjectAlternativeName{}, false // encoding/asn1 passes over what follows a value
		}
		switch {
		case other.Type.Equal(oidUPN):
			return profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: other.Value}, true
		case other.Type.Equal(oidSmtpUTF8Mailbox):
			return profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: other.Value}, true
		}
		return profiles.SubjectAlternativeName{}, false
	}
	kind, ok := kinds[n.Tag]
	return profiles.SubjectAlternativeName{Type: kind, Value: string(n.Bytes)}, ok
}

// checkUses wants the intent's uses, or where the intent leaves them to the template, those of mail and of signing in.
func checkUses(in Intent, der []byte) error {
	var asked []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(der, &asked); err != nil || len(rest) > 0 {
		return Refuse("the device's certificate request has an extended key usage that does not parse")
	}
	may, err := ExtendedKeyUsageOIDs(in.ExtendedKeyUsage)
	if err != nil {
		return err
	}
	if len(may) == 0 {
		if may, err = ExtendedKeyUsageOIDs([]string{oidTextUseMail, oidTextUseClientAuth}); err != nil {
			return err
		}
	}
	for _, use := range asked {
		if !slices.ContainsFunc(may, use.Equal) {
			return Refuse("the device's certificate request asks for the extended key usage %s, which its profile does not give it", use)
		}
	}
	return nil
}
