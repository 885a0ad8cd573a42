package adcs

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/profiles"
)

// sidPrefix begins the URI by which a certificate names the account it is for (Microsoft Learn, "KB5014754").
const sidPrefix = "tag:microsoft.com,2022-09-14:sid:"

// sid is a security identifier of a domain ([MS-DTYP] section 2.4.2.1).
var sid = regexp.MustCompile(`^S-1-5-21(-[0-9]{1,10}){3,14}$`)

// extensions are the template's, and the security extension where it is wanted.
func (a *adapter) extensions(in ca.Intent, t template) ([]pkix.Extension, error) {
	first, err := t.extension()
	if err != nil {
		return nil, err
	}
	out := []pkix.Extension{first}
	if !a.options.SIDExtension {
		return out, nil
	}
	for _, name := range in.SANs {
		value, ok := strings.CutPrefix(name.Value, sidPrefix)
		if name.Type != profiles.SANURI || !ok {
			continue
		}
		security, err := securityExtension(value)
		if err != nil {
			return nil, err
		}
		return append(out, security), nil
	}
	return out, nil // a certificate for nobody's account, as one of a function mailbox
}

// extension names the template in a request: by its name where it is of version 1 ([MS-WCCE] section 2.2.2.7.7.1), by its
// OID and version from version 2 on (section 2.2.2.7.7.2).
func (t template) extension() (pkix.Extension, error) {
	if t.schema < 2 || len(t.oid) == 0 {
		value, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: bmp(t.name)})
		if err != nil {
			return pkix.Extension{}, fmt.Errorf("writing the name of template %s: %w", t.name, err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, Value: value}, nil
	}
	value, err := asn1.Marshal(struct {
		ID           asn1.RawValue
		Major, Minor int
	}{asn1.RawValue{FullBytes: t.oid}, t.major, t.minor})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("writing the version of template %s: %w", t.name, err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}, Value: value}, nil
}

// bmp is UCS-2, most significant byte first (X.690 section 8.23.7).
func bmp(text string) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		out = append(out, byte(unit>>8), byte(unit))
	}
	return out
}

// securityExtension is szOID_NTDS_CA_SECURITY_EXT: one otherName whose value is the SID's text in an OCTET STRING
// ([MS-WCCE] section 2.2.2.7.7.4).
func securityExtension(value string) (pkix.Extension, error) {
	if !sid.MatchString(value) {
		return pkix.Extension{}, ca.Refuse("the name %s%s holds no SID of a domain: it looks like S-1-5-21-…", sidPrefix, value)
	}
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
	name, err := asn1.MarshalWithParams(struct {
		ID    asn1.ObjectIdentifier
		Value []byte `asn1:"explicit,tag:0"`
	}{append(oid[:len(oid):len(oid)], 1), []byte(value)}, "tag:0")
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("writing the security extension: %w", err)
	}
	der, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("writing the security extension: %w", err)
	}
	return pkix.Extension{Id: oid, Value: der}, nil
}
