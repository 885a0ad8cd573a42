package softca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// Attribute types of RFC 5280 appendix A.1 and ETSI EN 319 412-1 (organizationIdentifier).
const (
	attrCommonName   = "2.5.4.3"
	attrSurname      = "2.5.4.4"
	attrSerialNumber = "2.5.4.5"
	attrCountry      = "2.5.4.6"
	attrLocality     = "2.5.4.7"
	attrState        = "2.5.4.8"
	attrOrganization = "2.5.4.10"
	attrTitle        = "2.5.4.12"
	attrGivenName    = "2.5.4.42"
	attrPseudonym    = "2.5.4.65"
	attrOrgID        = "2.5.4.97"
	attrEmail        = "1.2.840.113549.1.9.1"
)

// registration is an organizationIdentifier of the baseline requirements, appendix A: scheme, country, number.
var registration = regexp.MustCompile(`^(NTR|VAT|PSD|GOV|LEI|INT)([A-Z]{2})(\+[A-Z]{2,3})?-.+$`)

// attributes of a subject by type.
type attributes map[string][]string

func attributesOf(subject pkix.RDNSequence) attributes {
	out := attributes{}
	for _, rdn := range subject {
		for _, a := range rdn {
			out[a.Type.String()] = append(out[a.Type.String()], fmt.Sprint(a.Value))
		}
	}
	return out
}

func (a attributes) only(types ...string) bool {
	for t := range a {
		if !slices.Contains(types, t) {
			return false
		}
	}
	return true
}

func (a attributes) one(t string) string {
	if len(a[t]) != 1 {
		return ""
	}
	return a[t][0]
}

// policies are the reserved policy of the S/MIME baseline requirements (section 7.1.6.1) whose rules for names (section
// 7.1.4.2) the certificate keeps. Where none fits, such as for a person's name without an organization, none is claimed.
func (k template) policies(subject pkix.RDNSequence, sans []profiles.SubjectAlternativeName) ([]x509.OID, error) {
	if !k.allowsNames(sans) {
		return nil, nil
	}
	a, generation := attributesOf(subject), uint64(2)
	if k.strict {
		generation = 3
	}
	var kind uint64
	switch {
	case mailboxValidated(a, sans):
		kind = 1
	case sponsorValidated(a, sans):
		kind = 3
	default:
		return nil, nil
	}
	oid, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 5, kind, generation})
	if err != nil {
		return nil, fmt.Errorf("naming the policy: %w", err)
	}
	return []x509.OID{oid}, nil
}

// allowsNames is section 7.1.4.2.1: addresses, and in the multipurpose generation user principal names.
func (k template) allowsNames(sans []profiles.SubjectAlternativeName) bool {
	return !slices.ContainsFunc(sans, func(n profiles.SubjectAlternativeName) bool {
		return n.Type != profiles.SANEmail && (k.strict || n.Type != profiles.SANUPN)
	})
}

// mailboxValidated is section 7.1.4.2.3: nobody but the mailbox is named.
func mailboxValidated(a attributes, sans []profiles.SubjectAlternativeName) bool {
	return a.only(attrCommonName, attrSerialNumber, attrEmail) && addressesKnown(a, sans) && len(a[attrCommonName]) <= 1 &&
		(len(a[attrCommonName]) == 0 || isMailbox(a.one(attrCommonName), sans))
}

// sponsorValidated is section 7.1.4.2.5: a person of a registered organization.
func sponsorValidated(a attributes, sans []profiles.SubjectAlternativeName) bool {
	if !a.only(attrCommonName, attrSurname, attrSerialNumber, attrCountry, attrLocality, attrState, attrOrganization, attrTitle,
		attrGivenName, attrPseudonym, attrOrgID, attrEmail) || !addressesKnown(a, sans) {
		return false
	}
	scheme := registration.FindStringSubmatch(a.one(attrOrgID))
	if a.one(attrOrganization) == "" || scheme == nil {
		return false
	}
	international := scheme[1] == "LEI" || scheme[1] == "INT"
	if country := a.one(attrCountry); len(a[attrCountry]) > 0 && country != scheme[2] && !international {
		return false
	}
	person := strings.TrimSpace(a.one(attrGivenName) + " " + a.one(attrSurname))
	pseudonym := a.one(attrPseudonym)
	if (person == "") == (pseudonym == "") { // one of the two
		return false
	}
	name := a.one(attrCommonName)
	return len(a[attrCommonName]) == 0 || name != "" && (name == person || name == pseudonym || isMailbox(name, sans))
}

// addressesKnown is section 7.1.4.2.1: an address in the subject stands among the alternative names too.
func addressesKnown(a attributes, sans []profiles.SubjectAlternativeName) bool {
	return !slices.ContainsFunc(a[attrEmail], func(address string) bool { return !isMailbox(address, sans) })
}

func isMailbox(text string, sans []profiles.SubjectAlternativeName) bool {
	return slices.Contains(sans, profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: text})
}
