package windows

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
)

// Forms of the common name in a request (windows.md section 1.6).
const (
	CSRPrintable    = "printable"     // PrintableString, although the type does not allow the exclamation mark
	CSRPrintableNUL = "printable-nul" // the same with a NUL at the end, as some builds send it
	CSRUTF8         = "utf8"          // UTF8String
)

// newCSR makes a request as Windows makes it: the common name is the first 30 characters of the DeviceID, an
// exclamation mark and 32 hexadecimal digits. The standard library cannot write such a name.
func newCSR(random io.Reader, key *rsa.PrivateKey, deviceID, digits, form string) ([]byte, error) {
	subject, err := commonName(deviceID, digits, form)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	extensions, err := requestedExtensions(digits)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	info, err := asn1.Marshal(requestInfo{
		Subject: asn1.RawValue{FullBytes: subject}, PublicKey: asn1.RawValue{FullBytes: public},
		Attributes: []attribute{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, Values: []asn1.RawValue{{FullBytes: extensions}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return signRequest(random, key, info)
}

// nameAttribute is a part of a name whose string type is ours to choose.
type nameAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// nameSET is a relative distinguished name; encoding/asn1 makes a SET of a type with such a name.
type nameSET []nameAttribute

// attribute is a PKCS#10 attribute (RFC 2986).
type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

type requestInfo struct {
	Version    int
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Attributes []attribute `asn1:"tag:0,set"`
}

type request struct {
	Info      asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

func commonName(deviceID, digits, form string) ([]byte, error) {
	cn := deviceID
	if len(cn) > 30 {
		cn = cn[:30]
	}
	cn += "!" + digits
	tag := asn1.TagPrintableString
	switch form {
	case CSRPrintableNUL:
		cn += "\x00"
	case CSRUTF8:
		tag = asn1.TagUTF8String
	}
	return asn1.Marshal([]nameSET{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: tag, Bytes: []byte(cn)}}}})
}

// requestedExtensions are the extended key usage clientAuth and an extension of Microsoft's, which carries the digits of
// the common name again.
func requestedExtensions(digits string) ([]byte, error) {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: usage},
		{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 66, 1, 0}, Value: []byte(digits + "\x00")},
	})
}

func signRequest(random io.Reader, key *rsa.PrivateKey, info []byte) ([]byte, error) {
	digest := sha256.Sum256(info)
	signature, err := rsa.SignPKCS1v15(random, key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing the certificate request: %w", err)
	}
	return asn1.Marshal(request{
		Info:      asn1.RawValue{FullBytes: info},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}
