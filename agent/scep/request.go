package scep

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/bits"
	"strings"
)

// Request is a PKCS#10 request (RFC 2986) with a challengePassword. The standard library cannot put one beside extensions.
type Request struct {
	Subject    []byte // encoded name
	Challenge  string // RFC 2985 section 5.4.1; empty: none
	Extensions []pkix.Extension
}

// attribute is a PKCS#10 attribute (RFC 2986): an identifier and a set of values.
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

type signedRequest struct {
	Info      asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

func raw(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }

// Sign encodes the request for a key and signs it with that key.
func (r Request) Sign(key *rsa.PrivateKey) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	attributes, err := r.attributes()
	if err != nil {
		return nil, err
	}
	info, err := asn1.Marshal(requestInfo{Subject: raw(r.Subject), PublicKey: raw(public), Attributes: attributes})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(info)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(signedRequest{
		Info:      raw(info),
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

func (r Request) attributes() ([]attribute, error) {
	var out []attribute
	if r.Challenge != "" {
		value, err := asn1.MarshalWithParams(r.Challenge, challengeType(r.Challenge))
		if err != nil {
			return nil, err
		}
		out = append(out, attribute{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Values: []asn1.RawValue{raw(value)}})
	}
	if len(r.Extensions) == 0 {
		return out, nil
	}
	value, err := asn1.Marshal(r.Extensions)
	if err != nil {
		return nil, err
	}
	return append(out, attribute{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, Values: []asn1.RawValue{raw(value)}}), nil
}

// challengeType keeps the challenge a PrintableString where that is possible, as devices do.
func challengeType(challenge string) string {
	for _, c := range challenge {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?", c) {
			return "utf8"
		}
	}
	return "printable"
}

// KeyUsage is the extension with the bits of its first octet: 0x80 digitalSignature, 0x40 nonRepudiation, 0x20
// keyEncipherment (RFC 5280 section 4.2.1.3). DER has no zeros behind the last bit that is set (X.690 section 11.2.2).
func KeyUsage(octet byte) (pkix.Extension, error) {
	octet &= 0xe0
	usage := asn1.BitString{BitLength: 8 - bits.TrailingZeros8(octet)}
	if usage.BitLength > 0 {
		usage.Bytes = []byte{octet}
	}
	value, err := asn1.Marshal(usage)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: value}, err
}

// Names is the extension with subject alternative names.
func Names(names []asn1.RawValue) (pkix.Extension, error) {
	value, err := asn1.Marshal(names)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}, err
}

// Tags of general names that are plain text (RFC 5280 section 4.2.1.6).
const (
	TagEmail = 1
	TagDNS   = 2
	TagURI   = 6
)

// TextName is a general name that is plain text.
func TextName(tag int, text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(text)}
}

// UPN is a general name of Microsoft's, the user principal name.
func UPN(name string) (asn1.RawValue, error) {
	der, err := asn1.MarshalWithParams(struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, name}, "tag:0")
	return raw(der), err
}
