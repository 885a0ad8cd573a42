package pfx

import (
	"crypto/x509/pkix"
	"encoding/asn1"
)

const (
	oidData          = "1.2.840.113549.1.7.1"
	oidSignedData    = "1.2.840.113549.1.7.2"
	oidEnvelopedData = "1.2.840.113549.1.7.3"
	oidEncryptedData = "1.2.840.113549.1.7.6"

	oidKeyBag          = "1.2.840.113549.1.12.10.1.1"
	oidShroudedKeyBag  = "1.2.840.113549.1.12.10.1.2"
	oidCertBag         = "1.2.840.113549.1.12.10.1.3"
	oidSafeContentsBag = "1.2.840.113549.1.12.10.1.6"

	oidX509Certificate = "1.2.840.113549.1.9.22.1"
	oidFriendlyName    = "1.2.840.113549.1.9.20"
	oidLocalKeyID      = "1.2.840.113549.1.9.21"
	oidPBMAC1          = "1.2.840.113549.1.5.14"
)

const (
	// maxNesting bounds safe contents inside safe contents.
	maxNesting = 4
	// maxKeys and maxCerts bound the pairing, which compares all with all. A mail user's history has some dozens.
	maxKeys  = 100
	maxCerts = 300
)

// pfxFile is PFX of RFC 7292 section 4.
type pfxFile struct {
	Version  int
	AuthSafe contentInfo
	MAC      macData `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type macData struct {
	MAC struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// pbmac1Parameters is RFC 8018 appendix A.5.
type pbmac1Parameters struct {
	KDF pkix.AlgorithmIdentifier
	MAC pkix.AlgorithmIdentifier
}

// encryptedData is RFC 5652 section 8.
type encryptedData struct {
	Version int
	Content struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"optional,tag:0"`
	}
	Unprotected asn1.RawValue `asn1:"optional,tag:1"`
}

type safeBag struct {
	Type       asn1.ObjectIdentifier
	Value      asn1.RawValue   `asn1:"explicit,tag:0"`
	Attributes []bagAttributes `asn1:"set,optional"`
}

type bagAttributes struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type certBag struct {
	Type asn1.ObjectIdentifier
	Cert asn1.RawValue `asn1:"explicit,tag:0"`
}
