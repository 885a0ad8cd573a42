package digicert

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/profiles"
)

// What may name a seat.
const (
	seatEmail      = "email"
	seatUPN        = "upn"
	seatCommonName = "commonName"
)

// Dotted OIDs of subject attributes (RFC 4519; RFC 2985 for emailAddress).
const (
	attrCommonName   = "2.5.4.3"
	attrSerialNumber = "2.5.4.5"
	attrCountry      = "2.5.4.6"
	attrLocality     = "2.5.4.7"
	attrState        = "2.5.4.8"
	attrStreet       = "2.5.4.9"
	attrOrganisation = "2.5.4.10"
	attrUnit         = "2.5.4.11"
	attrPostalCode   = "2.5.4.17"
	attrComponent    = "0.9.2342.19200300.100.1.25"
	attrEmail        = "1.2.840.113549.1.9.1"
)

type id struct {
	ID string `json:"id"`
}

type seat struct {
	ID string `json:"seat_id"`
}

// enrolment is the body of POST /certificate.
type enrolment struct {
	Profile        id         `json:"profile"`
	Seat           seat       `json:"seat"`
	CSR            string     `json:"csr"`
	DeliveryFormat string     `json:"delivery_format"`
	Validity       *validity  `json:"validity,omitempty"`
	Attributes     attributes `json:"attributes"`
}

type validity struct {
	Unit     string `json:"unit"`
	Duration int    `json:"duration"`
}

type attributes struct {
	Subject    map[string]any `json:"subject"`
	Extensions struct {
		SAN map[string][]string `json:"san,omitempty"`
	} `json:"extensions"`
}

// enrolment says what is asked for twice, in the PKCS #10 and beside it: which of them DigiCert takes is the certificate
// profile's choice.
func (a *adapter) enrolment(in ca.Intent) (enrolment, error) {
	profile, err := profileFor(in.Template, a.options.Profile, a.options.Profiles)
	if err != nil {
		return enrolment{}, err
	}
	csr, err := ca.Request(in, "")
	if err != nil {
		return enrolment{}, err
	}
	names, err := parseSubject(in.Subject)
	if err != nil {
		return enrolment{}, err
	}
	e := enrolment{Profile: id{profile}, CSR: pemRequest(csr), DeliveryFormat: "x509"}
	if e.Attributes.Subject, err = subjectAttributes(names); err != nil {
		return enrolment{}, err
	}
	if e.Seat.ID, err = seatOf(a.options.Seat, in, names); err != nil {
		return enrolment{}, err
	}
	e.Attributes.Extensions.SAN = alternativeNames(in.SANs)
	if a.options.OverrideValidity {
		e.Validity = &validity{Unit: "days", Duration: max(1, int(in.Validity/(24*time.Hour)))}
	}
	return e, nil
}

// name is one attribute of a subject.
type name struct{ oid, value string }

func parseSubject(der []byte) ([]name, error) {
	if len(der) == 0 {
		return nil, nil
	}
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return nil, ca.Refuse("the subject does not parse")
	}
	var out []name
	for _, rdn := range rdns {
		for _, attribute := range rdn {
			value, ok := attribute.Value.(string)
			if !ok {
				return nil, ca.Refuse("the subject's attribute %s is no text", attribute.Type)
			}
			out = append(out, name{attribute.Type.String(), value})
		}
	}
	return out, nil
}

func first(names []name, oid string) string {
	for _, n := range names {
		if n.oid == oid {
			return n.value
		}
	}
	return ""
}

// subjectAttributes are the words of the OpenAPI description's subject; some of them hold a list.
func subjectAttributes(names []name) (map[string]any, error) {
	single := map[string]string{attrCommonName: "common_name", attrEmail: "email", attrOrganisation: "organization_name", attrLocality: "locality",
		attrState: "state", attrCountry: "country", attrSerialNumber: "serial_number", attrPostalCode: "postal_code"}
	several := map[string]string{attrUnit: "organization_units", attrComponent: "domain_component", attrStreet: "street_address"}
	out := map[string]any{}
	for _, n := range names {
		if word, ok := several[n.oid]; ok {
			list, _ := out[word].([]string)
			out[word] = append(list, n.value)
			continue
		}
		word, ok := single[n.oid]
		if !ok || out[word] != nil {
			return nil, ca.Refuse("the subject has the attribute %s (%q), which DigiCert has no word for, or has it twice", n.oid, n.value)
		}
		out[word] = n.value
	}
	return out, nil
}

func alternativeNames(sans []profiles.SubjectAlternativeName) map[string][]string {
	words := map[profiles.SANType]string{profiles.SANEmail: "emails", profiles.SANUPN: "user_principal_names", profiles.SANDNS: "dns_names", profiles.SANURI: "uris"}
	var out map[string][]string
	for _, san := range sans {
		if out == nil {
			out = map[string][]string{}
		}
		out[words[san.Type]] = append(out[words[san.Type]], san.Value)
	}
	return out
}

func firstSAN(sans []profiles.SubjectAlternativeName, kind profiles.SANType) string {
	for _, san := range sans {
		if san.Type == kind {
			return san.Value
		}
	}
	return ""
}

// seatOf names the seat. One without a name would be everybody's.
func seatOf(by string, in ca.Intent, names []name) (string, error) {
	value := map[string]string{
		"":             firstSAN(in.SANs, profiles.SANEmail),
		seatEmail:      firstSAN(in.SANs, profiles.SANEmail),
		seatUPN:        firstSAN(in.SANs, profiles.SANUPN),
		seatCommonName: first(names, attrCommonName),
	}[by]
	if value == "" {
		return "", ca.Refuse("the certificate has no name for DigiCert's seat: the option seat asks for %q", by)
	}
	return value, nil
}

func thumbprint(cert *x509.Certificate) string { return fmt.Sprintf("%X", sha256.Sum256(cert.Raw)) }
