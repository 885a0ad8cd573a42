package mde

import (
	"bytes"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxCSR is far above the 1 KiB of Windows' requests, and bounds the key in it.
const maxCSR = 16 << 10

// ParseCSR reads a certificate request as Windows makes it. Many builds write a common name with "!" and a NUL as a
// PrintableString, which has neither, and which crypto/x509 refuses for it: such strings of the subject are read as
// UTF8String. Raw, RawTBSCertificateRequest and RawSubject are the bytes as sent, so that CheckSignature, which is the
// caller's to call, looks at what was signed. The subject is for nobody: the server names the certificate.
// Source: windows.md 1.6; RFC 2986 section 4.1; X.680 section 41.4 for PrintableString.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("parse certificate request: larger than %d KiB", maxCSR>>10)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		return csr, nil
	}
	original, ok := split(der)
	lenient := bytes.Clone(der)
	if !ok || !relabel(lenient) {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if csr, err = x509.ParseCertificateRequest(lenient); err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	csr.Raw, csr.RawTBSCertificateRequest, csr.RawSubject = der, original.tbs, original.subject
	return csr, nil
}

// parts are elements of a certificate request with their headers; they share its memory.
type parts struct{ tbs, subject cryptobyte.String }

func split(der []byte) (parts, bool) {
	var p parts
	var request, info cryptobyte.String
	whole := cryptobyte.String(der)
	if !whole.ReadASN1(&request, asn1.SEQUENCE) || !request.ReadASN1Element(&p.tbs, asn1.SEQUENCE) {
		return p, false
	}
	tbs := p.tbs
	ok := tbs.ReadASN1(&info, asn1.SEQUENCE) && info.SkipASN1(asn1.INTEGER) && info.ReadASN1Element(&p.subject, asn1.SEQUENCE)
	return p, ok
}

// relabel makes UTF8Strings of the PrintableStrings in the subject, in place; false if the subject cannot be walked.
func relabel(der []byte) bool {
	p, ok := split(der)
	var names, name cryptobyte.String
	if !ok || !p.subject.ReadASN1(&names, asn1.SEQUENCE) {
		return false
	}
	for !names.Empty() {
		if !names.ReadASN1(&name, asn1.SET) || !relabelName(name) {
			return false
		}
	}
	return true
}

// relabelName does it in one RelativeDistinguishedName.
func relabelName(name cryptobyte.String) bool {
	for !name.Empty() {
		var attribute, value cryptobyte.String
		var tag asn1.Tag
		if !name.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.SkipASN1(asn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadAnyASN1Element(&value, &tag) {
			return false
		}
		if tag == asn1.PrintableString {
			value[0] = byte(asn1.UTF8String)
		}
	}
	return true
}
