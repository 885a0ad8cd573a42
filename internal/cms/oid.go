package cms

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	// The digests of signatures and key derivations.
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Object identifiers, which would be constants if Go had constant slices. They are never written to.
var (
	oidData              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnvelopedData     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidAuthEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}

	oidContentType       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidCapabilities      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}
	oidEncryptionKeyPref = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 11}
	oidMicrosoftKeyPref  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 16, 4}
	oidRSA               = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidOAEP              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidEC                = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidECDSAWithSHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidSHA1              = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidDES               = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}
	oidTripleDES         = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	oidAES128CBC         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidAES128GCM         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}
	oidAES192GCM         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 26}
	oidAES256GCM         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
	oidAES128Wrap        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 5}
	oidAES192Wrap        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 25}
	oidAES256Wrap        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}
	oidECDHSHA256        = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}
	asn1Null             = asn1.RawValue{Tag: asn1.TagNull, FullBytes: []byte{5, 0}}
)

// hashOf names the digest of a digest algorithm identifier.
func hashOf(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch {
	case oid.Equal(oidSHA1):
		return crypto.SHA1, nil
	case oid.Equal(oidSHA256):
		return crypto.SHA256, nil
	case oid.Equal(oidSHA384):
		return crypto.SHA384, nil
	case oid.Equal(oidSHA512):
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("%w: digest %s", ErrUnsupported, oid)
}

// schemes of signatures.
const (
	schemePKCS1 = iota + 1
	schemePSS
	schemeECDSA
	schemeEd25519
)

// signatureScheme names the scheme of a signature algorithm and the digest that it fixes, 0 when it fixes none.
func signatureScheme(oid asn1.ObjectIdentifier) (scheme int, hash crypto.Hash, err error) {
	switch oid.String() {
	case "1.2.840.113549.1.1.1":
		return schemePKCS1, 0, nil
	case "1.2.840.113549.1.1.5":
		return schemePKCS1, crypto.SHA1, nil
	case "1.2.840.113549.1.1.11":
		return schemePKCS1, crypto.SHA256, nil
	case "1.2.840.113549.1.1.12":
		return schemePKCS1, crypto.SHA384, nil
	case "1.2.840.113549.1.1.13":
		return schemePKCS1, crypto.SHA512, nil
	case "1.2.840.113549.1.1.10":
		return schemePSS, 0, nil
	case "1.2.840.10045.2.1":
		return schemeECDSA, 0, nil
	case "1.2.840.10045.4.1":
		return schemeECDSA, crypto.SHA1, nil
	case "1.2.840.10045.4.3.2":
		return schemeECDSA, crypto.SHA256, nil
	case "1.2.840.10045.4.3.3":
		return schemeECDSA, crypto.SHA384, nil
	case "1.2.840.10045.4.3.4":
		return schemeECDSA, crypto.SHA512, nil
	case "1.3.101.112":
		return schemeEd25519, 0, nil
	}
	return 0, 0, fmt.Errorf("%w: signature %s", ErrUnsupported, oid)
}

// algorithm makes an identifier with the given parameters, none when nil.
func algorithm(oid asn1.ObjectIdentifier, params *asn1.RawValue) pkix.AlgorithmIdentifier {
	id := pkix.AlgorithmIdentifier{Algorithm: oid}
	if params != nil {
		id.Parameters = *params
	}
	return id
}
