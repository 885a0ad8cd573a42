package windows

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

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
	protection := keyInTPMIfPresent
	if spec.KeyBits() > 2048 {
		protection = keyInSoftware // PK-04
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
		{LocURI: install + "/Enroll", Format: formatNull, Exec: true},
	}
	return slices.DeleteFunc(nodes, func(n node) bool { return n.Data == "" && n.Secret == "" && !n.Exec }), nil
}

// scepSubject writes the subject as CertStrToName of Windows reads it, in the order of the template: a value with a special
// character is quoted as a whole, a quotation mark inside is doubled, and a backslash escapes nothing (trap 13, PK-07).
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
