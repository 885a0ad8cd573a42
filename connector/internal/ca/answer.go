package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// tagIP is the GeneralName of an IP address (RFC 5280 section 4.2.1.6).
const tagIP = 7

// sidPrefix begins the URI by which a certificate names the account it is for, and oidTextSecurity is the extension that does
// the same (Microsoft Learn, "KB5014754").
const (
	sidPrefix         = "tag:microsoft.com,2022-09-14:sid:"
	oidTextSecurity   = "1.3.6.1.4.1.311.25.2"
	oidTextPermanent  = "1.3.6.1.5.5.7.8.3" // permanentIdentifier of RFC 4043, which ACME CAs write
	oidTextAddressUTF = "1.3.6.1.5.5.7.8.9" // SmtpUTF8Mailbox, which is looked at as an address
)

// checkPowers refuses names and uses beyond what was asked for: by a user principal name, a Kerberos name or a SID somebody
// could sign in as another, by a host's name pass for a server. That the CA was told otherwise does not help who gets it.
func checkPowers(in Intent, leaf *x509.Certificate) error {
	for _, e := range leaf.Extensions {
		switch {
		case e.Id.Equal(oidSubjectAltName):
			if err := checkAnsweredNames(in, e.Value); err != nil {
				return err
			}
		case e.Id.String() == oidTextSecurity:
			if !wantsSID(in, e.Value) {
				return Refuse("it issued a certificate with the SID of an account, which nobody asked for")
			}
		}
	}
	return checkAnsweredUses(in, leaf)
}

func wantsSID(in Intent, value []byte) bool {
	return slices.ContainsFunc(in.SANs, func(n profiles.SubjectAlternativeName) bool {
		sid, ok := strings.CutPrefix(n.Value, sidPrefix)
		return ok && n.Type == profiles.SANURI && bytes.Contains(value, []byte(sid))
	})
}

func checkAnsweredNames(in Intent, der []byte) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return Refuse("it issued a certificate whose subject alternative name does not parse")
	}
	for _, n := range names {
		if err := checkAnsweredName(in, n); err != nil {
			return err
		}
	}
	return nil
}

// checkAnsweredName leaves addresses to CheckAnswer, and kinds of names by which nobody is let in.
func checkAnsweredName(in Intent, n asn1.RawValue) error {
	if n.Class != asn1.ClassContextSpecific {
		return Refuse("it issued a certificate with a name that does not parse")
	}
	switch n.Tag {
	case tagOtherName:
		return checkAnsweredOther(in, n)
	case tagDNS, tagURI:
		name, _ := requestedName(n)
		if !mayBe(in, name) {
			return Refuse("it issued a certificate with the %s name %q, which nobody asked for", name.Type, name.Value)
		}
	case tagIP:
		return Refuse("it issued a certificate with the IP address %x, which nobody asked for", n.Bytes)
	}
	return nil
}

func checkAnsweredOther(in Intent, n asn1.RawValue) error {
	var other struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil {
		return Refuse("it issued a certificate with a name that does not parse")
	}
	if name, ok := requestedName(n); ok && name.Type == profiles.SANUPN {
		if !mayBe(in, name) {
			return Refuse("it issued a certificate with the user principal name %q, which nobody asked for", name.Value)
		}
		return nil
	}
	switch other.Type.String() {
	case oidTextAddressUTF, oidTextPermanent:
		return nil
	}
	return Refuse("it issued a certificate with a name of type %s, which nobody asked for", other.Type)
}

// mayBe knows that CAs repeat what they were told in another place: the common name as a host, the address as a user
// principal name.
func mayBe(in Intent, name profiles.SubjectAlternativeName) bool {
	if name.Type == profiles.SANURI {
		return slices.Contains(in.SANs, name)
	}
	told := []string{commonName(in.Subject)}
	for _, san := range in.SANs {
		if san.Type == name.Type || name.Type == profiles.SANUPN {
			told = append(told, san.Value)
		}
	}
	if name.Type == profiles.SANUPN {
		told = append(told, subjectAddresses(in.Subject)...)
	}
	return slices.ContainsFunc(told, func(t string) bool { return strings.EqualFold(t, name.Value) })
}

func commonName(der []byte) string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdns); err != nil {
		return ""
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return name.CommonName
}

// checkAnsweredUses refuses what signs for a CA, and a key that may not be used as its profile wants (RFC 8550 section 4.4).
func checkAnsweredUses(in Intent, leaf *x509.Certificate) error {
	if leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return Refuse("it issued a certificate with the key usage of a CA")
	}
	asked, err := KeyUsageBits(in.KeyUsage)
	if err != nil {
		return err
	}
	const needed = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if leaf.KeyUsage != 0 && asked&needed&^leaf.KeyUsage != 0 {
		return Refuse("it issued a certificate without the key usage that was asked for (%s): its template must give it", strings.Join(in.KeyUsage, ", "))
	}
	return checkExtendedUses(in, leaf)
}

// checkExtendedUses wants the uses that the profile names. Where it names none, they are the template's own.
func checkExtendedUses(in Intent, leaf *x509.Certificate) error {
	asked, err := ExtendedKeyUsageOIDs(in.ExtendedKeyUsage)
	if err != nil {
		return err
	}
	has, anyUse := []asn1.ObjectIdentifier{}, asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &has); err != nil || len(rest) > 0 {
			return Refuse("it issued a certificate whose extended key usage does not parse")
		}
	}
	if len(has) == 0 || slices.ContainsFunc(has, anyUse.Equal) {
		return nil
	}
	for i, oid := range asked {
		if !slices.ContainsFunc(has, oid.Equal) {
			return Refuse("it issued a certificate without the extended key usage %s that was asked for: its template must give it", in.ExtendedKeyUsage[i])
		}
	}
	return nil
}

// sameOrder tells whether the rfc822Names are those that were asked for, in their order and each once: the server compares
// them so, as mail programs compare the first with the account's address.
func sameOrder(in Intent, leaf *x509.Certificate) bool {
	var want []string
	for _, san := range in.SANs {
		if san.Type == profiles.SANEmail && isASCII(san.Value) {
			want = append(want, san.Value)
		}
	}
	return slices.Equal(leaf.EmailAddresses, want)
}
