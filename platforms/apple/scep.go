package apple

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
	"github.com/waxseal/waxseal/profiles"
)

// scepPlan is the content of a com.apple.security.scep payload without its challenge (Apple: SCEP.PayloadContent).
type scepPlan struct {
	Profile  string                            `json:"profile"` // whose challenge it needs
	Request  string                            `json:"request"` // in the revision: another request is another installation
	URL      string                            `json:"url"`
	Name     string                            `json:"name,omitempty"`
	Subject  [][][2]string                     `json:"subject"`
	SANs     []profiles.SubjectAlternativeName `json:"sans,omitempty"`
	KeySize  int                               `json:"keySize"`
	KeyUsage int                               `json:"keyUsage"`
}

// Key Usage of the payload: 1 signing, 4 key encipherment, 5 both.
const (
	usageSign    = 1
	usageEncrypt = 4
	defaultKey   = 2048
)

// keySizes are the values of Keysize; a device answers others with MCSCEPErrorDomain 22004.
// Source: https://developer.apple.com/documentation/devicemanagement/scep/payloadcontent.
func keySizes() []int { return []int{1024, 2048, 4096} }

// addSCEP puts a certificate that the device asks for itself into the document, and gives the UUID of its payload.
func (p *planner) addSCEP(doc *platforms.Document, b *body, name, what string) (string, error) {
	e, ok := p.in.SCEP[name]
	if !ok {
		return "", p.noSCEP(name)
	}
	if e.KeySize == 0 {
		e.KeySize = defaultKey
	}
	if !slices.Contains(keySizes(), e.KeySize) {
		return "", waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: keySize %d: devices of Apple make keys of 2048 or 4096 bits", name, e.KeySize)
	}
	subject, err := scepSubject(e.Subject)
	if err != nil {
		return "", waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: %v", name, err)
	}
	plan := &scepPlan{Profile: name, Request: e.Request, URL: e.URL, Name: e.Name, Subject: subject, SANs: e.SANs, KeySize: e.KeySize, KeyUsage: scepUsage(e.KeyUsage)}
	uuid := p.payloadUUID(doc.ID, "scep."+name, e.Request)
	if slices.Contains(doc.Challenges, name) {
		return uuid, nil
	}
	doc.Challenges = append(doc.Challenges, name)
	if e.Issued.SHA256 != "" {
		doc.Certificates = append(doc.Certificates, e.Issued.SHA256)
	}
	pl := planned{Type: typeSCEP, Identifier: doc.Identifier + ".scep." + name, UUID: uuid, DisplayName: what + " certificate, asked for by the device", SCEP: plan}
	b.Payloads = append(b.Payloads, pl)
	p.addIntermediates(doc, b, e.Intermediates)
	return uuid, nil
}

// addIntermediates brings the CA certificates below the root: mail that the device signs carries them, and nothing else
// would (a PKCS#12 has its own).
func (p *planner) addIntermediates(doc *platforms.Document, b *body, ders [][]byte) {
	for _, der := range ders {
		sum := hexSHA256(der)
		if slices.Contains(doc.Certificates, sum) {
			continue
		}
		doc.Certificates = append(doc.Certificates, sum)
		b.Payloads = append(b.Payloads, planned{Type: typePKCS1, Identifier: doc.Identifier + ".intermediate." + short(sum),
			UUID: p.payloadUUID(doc.ID, "intermediate", sum), DisplayName: "Issuing certificate authority", Certificate: der})
	}
}

// noSCEP says why the device cannot ask.
func (p *planner) noSCEP(name string) error {
	o, _ := p.find(name)
	spec, ok := o.Spec.(*profiles.SCEPCertificate)
	if !ok {
		return waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s is not assigned to this device", name)
	}
	if _, ok := p.in.CAs[spec.CertificateAuthority]; !ok {
		return waits(platforms.ReasonCertificateAuthorityUnknown, "SCEPCertificate %s: no connector offers the certificate authority %q", name, spec.CertificateAuthority)
	}
	if err := p.checkVariables(name, &profiles.PKCSCertificate{CertificateRequest: spec.CertificateRequest}); err != nil {
		return err
	}
	return waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: its subject cannot be written for this device", name)
}

func scepUsage(names []string) int {
	usage := 0
	for _, n := range names {
		switch strings.ToLower(n) {
		case "digitalsignature", "nonrepudiation", "contentcommitment":
			usage |= usageSign
		case "keyencipherment", "dataencipherment":
			usage |= usageEncrypt
		}
	}
	if usage == 0 {
		return usageSign
	}
	return usage
}

// scepSubject writes a name as the payload's Subject: an array of RDNs, each an array of pairs of an OID, or short name, and
// a value.
func scepSubject(der []byte) ([][][2]string, error) {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdns); err != nil {
		return nil, fmt.Errorf("its subject cannot be read: %w", err)
	}
	out := [][][2]string{}
	for _, set := range rdns {
		var rdn [][2]string
		for _, a := range set {
			value, ok := a.Value.(string)
			if !ok {
				return nil, fmt.Errorf("its subject has a value of %s that is no text", a.Type)
			}
			rdn = append(rdn, [2]string{scepAttribute(a.Type), value})
		}
		out = append(out, rdn)
	}
	return out, nil
}

// scepAttribute uses the short names that Apple's documentation lists, and OIDs for all others.
func scepAttribute(oid asn1.ObjectIdentifier) string {
	short := map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}
	if name, ok := short[oid.String()]; ok {
		return name
	}
	return oid.String()
}

// content is the payload's, with the challenge.
func (s *scepPlan) content(challenges map[string]string) (proplist.Dict, error) {
	challenge := challenges[s.Profile]
	if challenge == "" {
		return nil, fmt.Errorf("no SCEP challenge for the profile %s", s.Profile)
	}
	subject := []any{}
	for _, set := range s.Subject {
		rdn := []any{}
		for _, pair := range set {
			rdn = append(rdn, []any{pair[0], pair[1]})
		}
		subject = append(subject, rdn)
	}
	d := proplist.Dict{"URL": s.URL, "Challenge": challenge, "Subject": subject, "Keysize": s.KeySize, "Key Type": "RSA", "Key Usage": s.KeyUsage,
		"Retries": scepRetries, "RetryDelay": scepRetryDelay}
	setString(d, "Name", s.Name)
	if san := s.alternativeNames(); len(san) > 0 {
		d["SubjectAltName"] = san
	}
	return d, nil
}

// A device asks again while the server answers that no connector has issued yet.
const (
	scepRetries    = 5
	scepRetryDelay = 10
)

// alternativeNames is the SubjectAltName dictionary: one name is text, several are an array; Apple has one ntPrincipalName.
func (s *scepPlan) alternativeNames() proplist.Dict {
	keys := map[profiles.SANType]string{profiles.SANEmail: "rfc822Name", profiles.SANDNS: "dNSName", profiles.SANURI: "uniformResourceIdentifier", profiles.SANUPN: "ntPrincipalName"}
	values := map[string][]any{}
	for _, n := range s.SANs {
		values[keys[n.Type]] = append(values[keys[n.Type]], n.Value)
	}
	out := proplist.Dict{}
	for key, list := range values {
		if len(list) == 1 || key == "ntPrincipalName" {
			out[key] = list[0]
		} else {
			out[key] = list
		}
	}
	return out
}
