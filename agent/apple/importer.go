package apple

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/cms"
)

// This file holds the rules by which Apple's importers take or refuse a PKCS#12 file, read from Apple's Security
// sources (p12import.c, p12pbegen.c): up to iOS 17 the PKCS#12 PBEs with SHA-1 and a SHA-1 MAC; from iOS 18 also
// PBES2, but only AES-256-CBC with PBKDF2 and HMAC-SHA-256, and MACs of the SHA-2 family. Never PBMAC1. Which importer
// the profile installer of macOS calls is not known, so that a Mac is given the old rules. Which bags an importer looks
// into, and which key it gives to which certificate, is the business of pfx.DecodeTied.

// importError says which rule a file breaks.
type importError struct {
	malformed bool
	text      string
}

func (e *importError) Error() string { return e.text }

func refuse(format string, args ...any) error {
	return &importError{text: fmt.Sprintf(format, args...)}
}

func malformed(what string) error {
	return &importError{malformed: true, text: "malformed PKCS#12 file: " + what}
}

func importCode(err error) int {
	var e *importError
	if errors.As(err, &e) && e.malformed {
		return 9005
	}
	return 9000
}

// PKCS#12 structures (RFC 7292).
type p12File struct {
	Version  int
	AuthSafe p12Content
	MAC      asn1.RawValue `asn1:"optional"`
}

type p12Content struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type p12MAC struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Value     []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

type p12Bag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"explicit,tag:0"`
	Attributes asn1.RawValue `asn1:"set,optional"`
}

type p12Encrypted struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"tag:0,optional"`
	}
}

const (
	oidData         = "1.2.840.113549.1.7.1"
	oidEncrypted    = "1.2.840.113549.1.7.6"
	oidShroudedBag  = "1.2.840.113549.1.12.10.1.2"
	oidPBES2        = "1.2.840.113549.1.5.13"
	oidPBKDF2       = "1.2.840.113549.1.5.12"
	oidAES256CBC    = "2.16.840.1.101.3.4.1.42"
	oidHMACSHA256   = "1.2.840.113549.2.9"
	oidSHA1         = "1.3.14.3.2.26"
	oidPKCS12PBE    = "1.2.840.113549.1.12.1."
	sha2Digests     = " 2.16.840.1.101.3.4.2.1 2.16.840.1.101.3.4.2.2 2.16.840.1.101.3.4.2.3 2.16.840.1.101.3.4.2.4 "
	modernImporter  = 18
	visionImporter  = 2
	maxPKCS12Length = 1 << 20
)

// importable checks a file against the rules of the device's system.
func importable(file []byte, info device.Info) error {
	if len(file) > maxPKCS12Length {
		return malformed("longer than 1 MiB")
	}
	der, err := cms.ToDER(file)
	if err != nil {
		return malformed("not BER")
	}
	var p12 p12File
	if rest, err := asn1.Unmarshal(der, &p12); err != nil || len(rest) > 0 {
		return malformed("no PFX structure")
	}
	rules := importer{modern: modern(info)}
	if err := rules.mac(p12); err != nil {
		return err
	}
	return rules.safes(p12.AuthSafe)
}

// modern reports whether the system has the importer of 2024.
func modern(info device.Info) bool {
	major, _ := strconv.Atoi(strings.SplitN(info.OSVersion, ".", 2)[0]) //nolint:errcheck // what is no number is old
	switch info.Platform {
	case "macos":
		return false
	case "visionos":
		return major >= visionImporter
	}
	return major >= modernImporter
}

type importer struct{ modern bool }

func (r importer) mac(p12 p12File) error {
	if p12.AuthSafe.Type.String() != oidData || len(p12.MAC.FullBytes) == 0 {
		return refuse("the PKCS#12 file has no password MAC")
	}
	var mac p12MAC
	if _, err := asn1.Unmarshal(p12.MAC.FullBytes, &mac); err != nil {
		return malformed("MAC")
	}
	digest := mac.Digest.Algorithm.Algorithm.String()
	switch {
	case digest == oidSHA1:
		return nil
	case !r.modern:
		return refuse("this system takes only a SHA-1 MAC, the PKCS#12 file has %s", digest)
	case !strings.Contains(sha2Digests, " "+digest+" "):
		return refuse("this system does not know the MAC %s of the PKCS#12 file", digest)
	}
	return nil
}

// safes looks at every safe: the algorithm of an encrypted one, the key bags of a plain one.
func (r importer) safes(auth p12Content) error {
	var octets []byte
	if _, err := asn1.Unmarshal(auth.Content.Bytes, &octets); err != nil {
		return malformed("safes")
	}
	octets, err := normal(octets)
	if err != nil {
		return err
	}
	var safes []p12Content
	if _, err := asn1.Unmarshal(octets, &safes); err != nil {
		return malformed("safes")
	}
	for _, safe := range safes {
		if err := r.safe(safe); err != nil {
			return err
		}
	}
	return nil
}

// normal makes DER of what sat inside an octet string, where ToDER does not look.
func normal(ber []byte) ([]byte, error) {
	der, err := cms.ToDER(ber)
	if err != nil {
		return nil, malformed("content is not BER")
	}
	return der, nil
}

func (r importer) safe(safe p12Content) error {
	switch safe.Type.String() {
	case oidEncrypted:
		var encrypted p12Encrypted
		if _, err := asn1.Unmarshal(safe.Content.Bytes, &encrypted); err != nil {
			return malformed("encrypted safe")
		}
		return r.encryption(encrypted.Info.Algorithm)
	case oidData:
		return r.bags(safe)
	}
	return refuse("this system does not open a safe of type %s", safe.Type)
}

func (r importer) bags(safe p12Content) error {
	var octets []byte
	if _, err := asn1.Unmarshal(safe.Content.Bytes, &octets); err != nil {
		return malformed("safe")
	}
	octets, err := normal(octets)
	if err != nil {
		return err
	}
	var bags []p12Bag
	if _, err := asn1.Unmarshal(octets, &bags); err != nil {
		return malformed("bags")
	}
	for _, bag := range bags {
		if bag.ID.String() != oidShroudedBag {
			continue
		}
		var key struct {
			Algorithm pkix.AlgorithmIdentifier
			Data      asn1.RawValue
		}
		if _, err := asn1.Unmarshal(bag.Value.Bytes, &key); err != nil {
			return malformed("key bag")
		}
		if err := r.encryption(key.Algorithm); err != nil {
			return err
		}
	}
	return nil
}

// encryption checks the algorithm of a safe or a key bag.
func (r importer) encryption(alg pkix.AlgorithmIdentifier) error {
	name := alg.Algorithm.String()
	switch {
	case strings.HasPrefix(name, oidPKCS12PBE):
		return nil
	case name != oidPBES2:
		return refuse("this system does not know the encryption %s of the PKCS#12 file", name)
	case !r.modern:
		return refuse("this system does not know PBES2, with which the PKCS#12 file is encrypted")
	}
	return pbes2(alg.Parameters.FullBytes)
}

// pbes2 allows AES-256-CBC with PBKDF2 and HMAC-SHA-256, whose NULL parameter must be there.
func pbes2(parameters []byte) error {
	var p struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if _, err := asn1.Unmarshal(parameters, &p); err != nil {
		return malformed("PBES2 parameters")
	}
	var kdf struct {
		Salt       asn1.RawValue
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if p.KDF.Algorithm.String() != oidPBKDF2 {
		return refuse("this system knows PBKDF2 only, the PKCS#12 file has %s", p.KDF.Algorithm)
	}
	if _, err := asn1.Unmarshal(p.KDF.Parameters.FullBytes, &kdf); err != nil {
		return malformed("PBKDF2 parameters")
	}
	null := bytes.Equal(kdf.PRF.Parameters.FullBytes, asn1.NullBytes)
	if p.Cipher.Algorithm.String() != oidAES256CBC || kdf.PRF.Algorithm.String() != oidHMACSHA256 || !null {
		return refuse("this system takes PBES2 with AES-256-CBC and HMAC-SHA-256 only")
	}
	return nil
}

// importableKey refuses keys that Apple's importers cannot decode.
func importableKey(key crypto.PrivateKey) (crypto.Signer, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	}
	return nil, errors.New("the private key is neither RSA nor EC")
}
