package windows

import (
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// planSCEP has the PC make a key and ask for its certificate. The node is named after the request, so that another
// certificate is another node, and the revision is that name alone: where the PC asks, how often and under which root says
// nothing about the certificate that it has.
func (p *planner) planSCEP(doc platforms.Document, name string, spec *profiles.SCEPCertificate) platforms.Document {
	e, err := p.enrolment(name, spec)
	if err != nil {
		return wait(doc, err)
	}
	root := sha1.Sum(p.in.CAs[spec.CertificateAuthority])
	id := strings.ToUpper(e.Request)
	nodes, err := scepNodes(scepServer{ID: id, URL: e.URL, CAThumbprint: hex.EncodeToString(root[:])}, spec, p.vars)
	if err != nil {
		return wait(doc, waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: %v", name, err))
	}
	doc.Identifier, doc.Proof, doc.Challenges = userSCEP+"/"+id, id, []string{name}
	if e.Issued.SHA256 != "" {
		doc.Certificates = []string{e.Issued.SHA256}
	}
	doc.Body, doc.Revision = encodeBody(body{Atomic: true, Nodes: nodes}), revision(doc.Identifier, nil)
	return doc
}

// enrolment is how the PC gets the certificate of a profile, or why it cannot.
func (p *planner) enrolment(name string, spec *profiles.SCEPCertificate) (platforms.SCEPEnrolment, error) {
	root, offered := p.in.CAs[spec.CertificateAuthority]
	e, ok := p.in.SCEP[name]
	switch {
	case !offered || len(root) == 0:
		return e, waits(platforms.ReasonCertificateAuthorityUnknown,
			"SCEPCertificate %s: no connector offers the certificate authority %q", name, spec.CertificateAuthority)
	case ok:
		return e, nil
	}
	if err := p.checkVariables("SCEPCertificate "+name, &spec.CertificateRequest); err != nil {
		return e, err
	}
	return e, waits(platforms.ReasonNotDeliverable, "SCEPCertificate %s: its subject cannot be written for this device", name)
}

// IsSCEP tells whether the PC makes the key of the document's certificate itself.
func IsSCEP(doc platforms.Document) bool { return len(doc.Challenges) > 0 }

// scepServer is what a SCEP node set needs beside the profile.
type scepServer struct {
	ID           string // UniqueID of the node: no slash, blank, percent sign or brace (trap 3)
	URL          string // the PC adds /pkiclient.exe
	CAThumbprint string // SHA-1
}

// Values of KeyProtection.
const (
	keyInTPMIfPresent = "2"
	keyInSoftware     = "3"
)

// A PC asks again, so often and after so many minutes, while the server answers that no connector has issued yet.
const (
	scepRetryCount = "10"
	scepRetryDelay = "1"
)

// scepNodes let the PC make its own key. The challenge is a secret; Enroll starts the enrolment and is the last node.
// Source: "ClientCertificateInstall CSP"; windows.md 3.2.
func scepNodes(server scepServer, spec *profiles.SCEPCertificate, vars profiles.Vars) ([]node, error) {
	subject, err := scepSubject(spec.Subject, vars)
	if err != nil {
		return nil, err
	}
	names, err := scepNames(spec.SubjectAlternativeNames, vars)
	if err != nil {
		return nil, err
	}
	usage, err := scepKeyUsage(spec.KeyUsage)
	if err != nil {
		return nil, err
	}
	purposes, err := scepPurposes(spec.ExtendedKeyUsage)
	if err != nil {
		return nil, err
	}
	protection, err := scepProtection(spec.KeyBits())
	if err != nil {
		return nil, err
	}
	days := strconv.Itoa(int(spec.Lifetime() / profiles.Day))
	install := userSCEP + "/" + server.ID + "/Install"
	text := func(name, v string) node { return node{LocURI: install + "/" + name, Format: formatText, Data: v} }
	number := func(name, v string) node { return node{LocURI: install + "/" + name, Format: formatInteger, Data: v} }
	nodes := []node{
		text("ServerURL", server.URL),
		{LocURI: install + "/Challenge", Format: formatText, Secret: secretChallenge},
		text("EKUMapping", purposes), number("KeyUsage", usage),
		text("SubjectName", subject), text("SubjectAlternativeNames", names),
		number("KeyLength", strconv.Itoa(spec.KeyBits())), text("HashAlgorithm", "SHA-2"),
		text("CAThumbprint", strings.ToUpper(server.CAThumbprint)), number("KeyProtection", protection),
		text("ValidPeriod", "Days"), number("ValidPeriodUnits", days),
		number("RetryCount", scepRetryCount), number("RetryDelay", scepRetryDelay),
		{LocURI: install + "/Enroll", Format: formatNull, Exec: true},
	}
	return slices.DeleteFunc(nodes, func(n node) bool { return n.Data == "" && n.Secret == "" && !n.Exec }), nil
}

// scepProtection is where a key of that length can live (PK-04), if Windows makes such keys at all.
func scepProtection(bits int) (string, error) {
	switch bits {
	case 1024, 2048:
		return keyInTPMIfPresent, nil
	case 4096:
		return keyInSoftware, nil
	}
	return "", fmt.Errorf("keySize %d: Windows makes keys of 2048 or 4096 bits", bits)
}

// scepSubject writes the subject as CertStrToName of Windows reads it: a value with a special character is quoted as a
// whole, a quotation mark inside is doubled, and a backslash escapes nothing (trap 13, PK-07). The order is that of the
// template, common name first: IX500DistinguishedName encodes from the end unless it is told otherwise (Microsoft Learn,
// "IX500DistinguishedName::Encode method").
func scepSubject(template string, vars profiles.Vars) (string, error) {
	sequence, err := profiles.ParseSubject(template, vars)
	if err != nil {
		return "", err
	}
	var names []string
	for _, set := range slices.Backward(sequence) {
		var parts []string
		for _, a := range set {
			parts = append(parts, attributeName(a.Type)+"="+quote(attributeText(a)))
		}
		names = append(names, strings.Join(parts, "+"))
	}
	return strings.Join(names, ","), nil
}

// attributeName is the name that CertStrToName knows, or the dotted OID. Source: Microsoft Learn, "CertStrToName function".
func attributeName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.4":
		return "SN"
	case "2.5.4.5":
		return "SERIALNUMBER"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "S"
	case "2.5.4.9":
		return "STREET"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	case "2.5.4.12":
		return "T"
	case "2.5.4.42":
		return "G"
	case "1.2.840.113549.1.9.1":
		return "E"
	case "0.9.2342.19200300.100.1.25":
		return "DC"
	}
	return oid.String()
}

func attributeText(a pkix.AttributeTypeAndValue) string {
	if raw, ok := a.Value.(asn1.RawValue); ok {
		return string(raw.Bytes)
	}
	return fmt.Sprint(a.Value)
}

func quote(value string) string {
	if !strings.ContainsAny(value, ",+;=\"<>#\n\r") && strings.TrimSpace(value) == value && value != "" {
		return value
	}
	return `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
}

// scepNames are the alternative names by the numbers of CertEnroll (windows.md 3.2; that of mail addresses is not
// verified, so the CA should write the address itself as well).
func scepNames(names []profiles.SubjectAlternativeName, vars profiles.Vars) (string, error) {
	expanded, err := profiles.ExpandNames(names, vars)
	if err != nil {
		return "", err
	}
	var out []string
	for _, n := range expanded {
		number, err := scepNameType(n.Type)
		if err != nil {
			return "", err
		}
		if strings.Contains(n.Value, ";") {
			return "", fmt.Errorf("subject alternative name %s: a semicolon has no place in %q, since Windows ends a name there", n.Type, n.Value)
		}
		out = append(out, number+"+"+n.Value)
	}
	return strings.Join(out, ";"), nil
}

func scepNameType(t profiles.SANType) (string, error) {
	switch t {
	case profiles.SANEmail:
		return "2", nil
	case profiles.SANDNS:
		return "3", nil
	case profiles.SANURI:
		return "7", nil
	case profiles.SANUPN:
		return "11", nil
	}
	return "", fmt.Errorf("subject alternative name type %q is not known; use email, dns, uri or upn", t)
}

// scepKeyUsage is the first octet of the extension in decimal: 128 digitalSignature, 64 nonRepudiation, 32 keyEncipherment.
func scepKeyUsage(names []string) (string, error) {
	bits, err := profiles.KeyUsageBits(names)
	if err != nil {
		return "", fmt.Errorf("keyUsage: %w", err)
	}
	n := 0
	for bit, value := range map[x509.KeyUsage]int{x509.KeyUsageDigitalSignature: 128, x509.KeyUsageContentCommitment: 64,
		x509.KeyUsageKeyEncipherment: 32} {
		if bits&bit != 0 {
			n |= value
		}
	}
	if n&(128|32) == 0 {
		return "", errors.New("keyUsage: Windows wants digitalSignature or keyEncipherment among the usages")
	}
	return strconv.Itoa(n), nil
}

// scepPurposes are the OIDs of the extended key usage, joined by a plus sign.
func scepPurposes(names []string) (string, error) {
	oids, err := profiles.ExtendedKeyUsageOIDs(names)
	if err != nil {
		return "", fmt.Errorf("extendedKeyUsage: %w", err)
	}
	var out []string
	for _, oid := range oids {
		out = append(out, oid.String())
	}
	return strings.Join(out, "+"), nil
}
