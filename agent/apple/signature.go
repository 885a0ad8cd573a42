package apple

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
)

// SignatureStyle is how the Mdm-Signature header is made.
type SignatureStyle int

const (
	// SignatureBER is what iPhones send: BER of indefinite length, SHA-1, sha1WithRSAEncryption, no signed attributes.
	SignatureBER SignatureStyle = iota
	// SignatureDER is what a modern library would send: DER, SHA-256, signed attributes.
	SignatureDER
)

// signHeader makes the value of Mdm-Signature: base64, on one line, of a detached CMS signature over the body.
func signHeader(body []byte, id identity, style SignatureStyle) (string, error) {
	var raw []byte
	var err error
	if style == SignatureDER {
		raw, err = cms.Sign(body, id.cert, id.key, cms.SignOptions{Detached: true})
	} else {
		raw, err = signLikeAnIPhone(body, id)
	}
	if err != nil {
		return "", fmt.Errorf("signing a message to the server: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// Elements of the message that never differ. OIDs: signedData, data, SHA-1, sha1WithRSAEncryption.
const (
	derSignedData  = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
	derData        = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	derSHA1        = "\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00"
	derSHA1WithRSA = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00"
	derVersion1    = "\x02\x01\x01"

	openSequence = "\x30\x80"
	openContext0 = "\xa0\x80"
	endOfContent = "\x00\x00"
)

// signLikeAnIPhone writes RFC 5652 SignedData in the shape of captured Mdm-Signature headers. No library writes BER of
// indefinite length, and none should; a server has to read it.
func signLikeAnIPhone(body []byte, id identity) ([]byte, error) {
	key, ok := id.key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the device's identity has no RSA key")
	}
	digest := sha1.Sum(body)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, digest[:])
	if err != nil {
		return nil, err
	}
	signer, err := signerInfo(id.cert, signature)
	if err != nil {
		return nil, err
	}
	out := []byte(openSequence + derSignedData + openContext0 + openSequence + derVersion1)
	out = append(out, tlv(0x31, []byte(derSHA1))...)
	out = append(out, openSequence+derData+endOfContent...)
	out = append(out, openContext0...)
	out = append(out, id.cert.Raw...)
	out = append(out, endOfContent...)
	out = append(out, tlv(0x31, signer)...)
	return append(out, endOfContent+endOfContent+endOfContent...), nil
}

// signerInfo is version 1, by issuer and serial number, without attributes.
func signerInfo(cert *x509.Certificate, signature []byte) ([]byte, error) {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, err
	}
	inner := []byte(derVersion1)
	inner = append(inner, tlv(0x30, slices.Concat(cert.RawIssuer, serial))...)
	inner = append(inner, derSHA1+derSHA1WithRSA...)
	inner = append(inner, tlv(0x04, signature)...)
	return tlv(0x30, inner), nil
}

// tlv writes one element of definite length.
func tlv(tag byte, content []byte) []byte {
	out := []byte{tag}
	n := len(content)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	default:
		out = append(out, 0x82, byte(n>>8), byte(n))
	}
	return append(out, content...)
}
