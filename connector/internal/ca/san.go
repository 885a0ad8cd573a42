package ca

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/waxseal/waxseal/profiles"
)

// GeneralName tags of RFC 5280 section 4.2.1.6.
const (
	tagOtherName = 0
	tagRFC822    = 1
	tagDNS       = 2
	tagURI       = 6
	maxNames     = 64
	maxName      = 512
)

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN            = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	// oidSmtpUTF8Mailbox is RFC 9598: an address that ASCII cannot write.
	oidSmtpUTF8Mailbox = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}
)

// otherName is RFC 5280's OtherName; its value stands under an explicit tag.
type otherName struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"explicit,tag:0,utf8"`
}

// SubjectAltName writes the names: mail addresses first, each in the spelling it was given, since mail programs compare
// the first one with the account's address. The extension is critical when there is no subject.
func SubjectAltName(sans []profiles.SubjectAlternativeName, critical bool) (pkix.Extension, error) {
	if len(sans) > maxNames {
		return pkix.Extension{}, Refuse("%d subject alternative names: at most %d are possible", len(sans), maxNames)
	}
	var names []asn1.RawValue
	for _, kind := range []profiles.SANType{profiles.SANEmail, profiles.SANUPN, profiles.SANDNS, profiles.SANURI} {
		for _, san := range sans {
			if san.Type != kind {
				continue
			}
			name, err := generalName(san)
			if err != nil {
				return pkix.Extension{}, err
			}
			names = append(names, name)
		}
	}
	if len(names) != len(sans) {
		return pkix.Extension{}, Refuse("a subject alternative name is of an unknown type: email, upn, dns and uri are possible")
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		return pkix.Extension{}, Refuse("the subject alternative names cannot be encoded")
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: critical, Value: value}, nil
}

// HasEmail tells whether a mail address is among the names.
func HasEmail(sans []profiles.SubjectAlternativeName) bool {
	for _, san := range sans {
		if san.Type == profiles.SANEmail {
			return true
		}
	}
	return false
}

func generalName(san profiles.SubjectAlternativeName) (asn1.RawValue, error) {
	v := san.Value
	if v == "" || len(v) > maxName || !utf8.ValidString(v) || strings.ContainsAny(v, "\x00\r\n") {
		return asn1.RawValue{}, Refuse("the %s name %q: 1 to %d bytes without line breaks are possible", san.Type, v, maxName)
	}
	switch san.Type {
	case profiles.SANEmail:
		return emailName(v)
	case profiles.SANUPN:
		return other(oidUPN, v)
	case profiles.SANDNS:
		if !isASCII(v) || strings.ContainsAny(v, " /@:") {
			return asn1.RawValue{}, Refuse("the dns name %q is none", v)
		}
		return primitive(tagDNS, v), nil
	case profiles.SANURI:
		if u, err := url.Parse(v); err != nil || !u.IsAbs() || !isASCII(v) {
			return asn1.RawValue{}, Refuse("the uri name %q is no absolute URI", v)
		}
		if strings.HasPrefix(strings.ToLower(v), "urn:waxseal:") {
			return asn1.RawValue{}, Refuse("the uri name %q is reserved for device certificates", v)
		}
		return primitive(tagURI, v), nil
	}
	return asn1.RawValue{}, Refuse("a name of type %q is unknown", san.Type)
}

func emailName(v string) (asn1.RawValue, error) {
	at := strings.LastIndexByte(v, '@')
	if at < 1 || at == len(v)-1 || strings.ContainsAny(v, " <>") {
		return asn1.RawValue{}, Refuse("the email name %q is no mail address", v)
	}
	if !isASCII(v) {
		return other(oidSmtpUTF8Mailbox, v)
	}
	return primitive(tagRFC822, v), nil
}

func primitive(tag int, v string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(v)}
}

// other writes an OtherName; the SEQUENCE's own tag is replaced by [0] (IMPLICIT).
func other(oid asn1.ObjectIdentifier, v string) (asn1.RawValue, error) {
	der, err := asn1.Marshal(otherName{Type: oid, Value: v})
	if err != nil {
		return asn1.RawValue{}, Refuse("the name %q cannot be encoded", v)
	}
	var seq asn1.RawValue
	if _, err := asn1.Unmarshal(der, &seq); err != nil {
		return asn1.RawValue{}, err
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagOtherName, IsCompound: true, Bytes: seq.Bytes}, nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 126 || r < 32 }) < 0
}
