package profiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
)

// NameString writes a distinguished name for people. Mail addresses, which RFC 4514 has no short name for, stand at its
// end as E=.
func NameString(n pkix.Name) string {
	email := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1} // PKCS #9
	var addresses []string
	names := slices.DeleteFunc(slices.Clone(n.Names), func(a pkix.AttributeTypeAndValue) bool {
		text, ok := a.Value.(string)
		if ok && a.Type.Equal(email) {
			addresses = append(addresses, "E="+strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`).Replace(text))
			return true
		}
		return false
	})
	n.Names = names
	if rest := n.String(); rest != "" {
		addresses = slices.Insert(addresses, 0, rest)
	}
	return strings.Join(addresses, ",")
}
