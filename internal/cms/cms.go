// Package cms reads and writes the Cryptographic Message Syntax (RFC 5652): signed data for profiles, mail and SCEP,
// and enveloped data towards devices and mail recipients.
//
// It is the one door to go.mozilla.org/pkcs7, of which only the certificate bags are used; everything that takes
// foreign bytes to a verdict is written here, because no library does all of it rightly: strict signed attributes,
// implicit rejection of RSA key transport (RFC 3218), AuthEnvelopedData (RFC 5083), ECDH recipients (RFC 5753).
//
// Whatever comes in may be BER. It is turned into DER first, with limits on size and nesting, and trailing bytes are
// refused, so that nothing behind that point has to care.
//
// Verify and VerifyDetached check signatures, never trust: whether the signer's certificate chains to anything is the
// caller's question.
package cms

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

var (
	// ErrMalformed says that the bytes are not the CMS structure that was expected.
	ErrMalformed = errors.New("malformed CMS message")
	// ErrSignature says that a signature, or the digest under it, does not fit the content.
	ErrSignature = errors.New("CMS signature does not verify")
	// ErrNoSigner says that a message has no signature, or none whose certificate came with it.
	ErrNoSigner = errors.New("CMS message has no signer with a certificate")
	// ErrUnsupported says that a message uses an algorithm that this package does not know.
	ErrUnsupported = errors.New("unsupported CMS algorithm")
	// ErrDecrypt is the one answer for every failure after a recipient was found. Telling a bad key from bad padding
	// would be an oracle (RFC 8551 section 6, RFC 3218).
	ErrDecrypt = errors.New("cannot decrypt CMS message")
	// ErrNoRecipient says that the message is not encrypted to the given certificate.
	ErrNoRecipient = errors.New("CMS message is not encrypted to this certificate")
)

// contentInfo is RFC 5652 section 3. Content holds the [0] wrapper, so Content.Bytes is the inner element.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

// issuerAndSerial is RFC 5652 section 10.2.4.
type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// unmarshal parses one DER element strictly and refuses anything behind it.
func unmarshal(der []byte, into any, params, what string) error {
	rest, err := asn1.UnmarshalWithParams(der, into, params)
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrMalformed, what, err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes behind %s", ErrMalformed, len(rest), what)
	}
	return nil
}

// open converts a message to DER and returns the content of its ContentInfo, which must be of one of the given types.
func open(ber []byte, types ...asn1.ObjectIdentifier) (asn1.ObjectIdentifier, []byte, error) {
	der, err := ToDER(ber)
	if err != nil {
		return nil, nil, err
	}
	var info contentInfo
	if err := unmarshal(der, &info, "", "content info"); err != nil {
		return nil, nil, err
	}
	for _, t := range types {
		if info.Type.Equal(t) {
			return t, info.Content.Bytes, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: content type %s instead of %s", ErrMalformed, info.Type, types[0])
}

// wrap puts an element into a ContentInfo.
func wrap(t asn1.ObjectIdentifier, inner any) ([]byte, error) {
	der, err := asn1.Marshal(inner)
	if err != nil {
		return nil, fmt.Errorf("encoding CMS message: %w", err)
	}
	return asn1.Marshal(contentInfo{Type: t, Content: explicit(0, der)})
}

// explicit wraps an encoded element in a constructed context tag.
func explicit(tag int, der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: der}
}

// retag replaces the identifier octet of an encoded element, as IMPLICIT tagging does.
func retag(der []byte, tag byte) []byte {
	out := bytes.Clone(der)
	out[0] = tag
	return out
}

// parameters reads the parameters of an algorithm identifier into a structure.
func parameters(alg pkix.AlgorithmIdentifier, into any) error {
	if len(alg.Parameters.FullBytes) == 0 {
		return fmt.Errorf("%w: %s without parameters", ErrMalformed, alg.Algorithm)
	}
	return unmarshal(alg.Parameters.FullBytes, into, "", "algorithm parameters")
}

// names reports whether an issuer and serial number are those of a certificate. Some senders write the issuer in
// another string type than the certificate does, so that equal text is enough.
func (id issuerAndSerial) names(cert *x509.Certificate) bool {
	if id.Serial == nil || id.Serial.Cmp(cert.SerialNumber) != 0 {
		return false
	}
	return bytes.Equal(id.Issuer.FullBytes, cert.RawIssuer) || sameName(id.Issuer.FullBytes, cert.RawIssuer)
}

func sameName(a, b []byte) bool {
	var x, y pkix.RDNSequence
	if unmarshal(a, &x, "", "name") != nil || unmarshal(b, &y, "", "name") != nil {
		return false
	}
	return x.String() == y.String()
}

func identify(cert *x509.Certificate) issuerAndSerial {
	return issuerAndSerial{Issuer: asn1.RawValue{FullBytes: cert.RawIssuer}, Serial: cert.SerialNumber}
}

// parseCertificates reads a certificate set. What is not an X.509 certificate (the other choices of RFC 5652 section
// 10.2.2, or one that Go refuses) is left out; a missing signer is noticed where it matters.
func parseCertificates(set []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(set) > 0 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(set, &raw)
		if err != nil {
			return nil, fmt.Errorf("%w: certificates: %v", ErrMalformed, err)
		}
		if cert, err := x509.ParseCertificate(raw.FullBytes); err == nil {
			certs = append(certs, cert)
		}
		set = rest
	}
	return certs, nil
}
