package digicert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/profiles"
)

// Keys of LegacyOptions.Names.
const (
	wordCommonName   = "commonName"
	wordSubjectEmail = "subjectEmail"
	wordEmail        = "email"
	wordUPN          = "upn"
	leftOut          = "-"
)

// words fills in the usual words of certificate profiles.
func words(given map[string]string) (map[string]string, error) {
	out := map[string]string{wordCommonName: "common_name", wordSubjectEmail: "emailAddress", wordEmail: "mail_email", wordUPN: "otherNameUPN"}
	for key, word := range given {
		if out[key] == "" {
			return nil, fmt.Errorf("options: names has %q: commonName, subjectEmail, email and upn are possible", key)
		}
		out[key] = word
	}
	return out, nil
}

// request says what is asked for in the words of the certificate profile.
func (l *legacy) request(in ca.Intent) (request, error) {
	profile, err := profileFor(in.Template, l.options.Profile, l.options.Profiles)
	if err != nil {
		return request{}, err
	}
	subject, err := legacySubject(in.Subject)
	if err != nil {
		return request{}, err
	}
	csr, err := ca.Request(in, "")
	if err != nil {
		return request{}, err
	}
	r := request{profile: profile, csr: csr}
	if r.seat, err = seatOf(l.options.Seat, in, subject); err != nil {
		return request{}, err
	}
	r.pairs, err = l.pairs(in.SANs, subject)
	return r, err
}

// legacySubject takes a common name, or a common name with an address, and nothing else: further attributes are fixed values
// of the certificate profile, and what does not match it gets no certificate (DC-01).
func legacySubject(der []byte) ([]name, error) {
	names, err := parseSubject(der)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, n := range names {
		if n.oid != attrCommonName && n.oid != attrEmail || seen[n.oid] {
			return nil, ca.Refuse("the subject has the attribute %s (%q): DigiCert's older service takes CN, or CN with E; the certificate profile there adds the others as fixed values", n.oid, n.value)
		}
		seen[n.oid] = true
	}
	if first(names, attrCommonName) == "" {
		return nil, ca.Refuse("the subject has no common name: DigiCert's older service takes CN, CN with E, or the address as CN")
	}
	return names, nil
}

// pairs are the names as name-value pairs, with the fallbacks of DC-02.
func (l *legacy) pairs(sans []profiles.SubjectAlternativeName, subject []name) ([][2]string, error) {
	for _, san := range sans {
		if san.Type != profiles.SANEmail && san.Type != profiles.SANUPN {
			return nil, ca.Refuse("the %s name %q: DigiCert's older service takes email and upn", san.Type, san.Value)
		}
	}
	values := [][2]string{{wordCommonName, first(subject, attrCommonName)}, {wordSubjectEmail, first(subject, attrEmail)}}
	if l.options.Names[wordEmail] != leftOut {
		email, err := emailFor(sans, subject)
		if err != nil {
			return nil, err
		}
		values = append(values, [2]string{wordEmail, email})
	}
	if l.options.Names[wordUPN] != leftOut {
		values = append(values, [2]string{wordUPN, upnFor(sans, subject)})
	}
	var out [][2]string
	for _, v := range values {
		if word := l.options.Names[v[0]]; word != leftOut && v[1] != "" {
			out = append(out, [2]string{word, v[1]})
		}
	}
	return out, nil
}

// emailFor is the address: the email name, or what may stand for one. The UPN and the common name may only where they are an
// address that was asked for: a certificate with another one would be refused when it comes, and its seat be lost.
func emailFor(sans []profiles.SubjectAlternativeName, subject []name) (string, error) {
	asked := []string{}
	for _, san := range sans {
		if san.Type == profiles.SANEmail {
			asked = append(asked, san.Value)
		}
	}
	if len(asked) > 1 {
		return "", ca.Refuse("%d addresses: DigiCert's older service takes one", len(asked))
	}
	if address := first(subject, attrEmail); address != "" {
		asked = append(asked, address)
	}
	for _, candidate := range []string{firstSAN(sans, profiles.SANEmail), firstSAN(sans, profiles.SANUPN), first(subject, attrEmail), first(subject, attrCommonName)} {
		if slices.Contains(asked, candidate) {
			return candidate, nil
		}
	}
	return "", ca.Refuse("the certificate has no email name: give its profile one, since DigiCert would make one of the UPN or the common name, which nobody asked for")
}

// upnFor is the UPN: the upn name, else the address, else what looks like an address in the subject.
func upnFor(sans []profiles.SubjectAlternativeName, subject []name) string {
	for _, candidate := range []string{firstSAN(sans, profiles.SANUPN), firstSAN(sans, profiles.SANEmail), first(subject, attrEmail), first(subject, attrCommonName)} {
		if strings.Contains(candidate, "@") {
			return candidate
		}
	}
	return ""
}
