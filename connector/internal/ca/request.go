package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

var (
	oidExtKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
)

// Request is the PKCS#10 (DER) by which a CA of others is asked for the intent: made with the connector's key, or the
// device's own, which must then ask for exactly the names of the intent, since such a CA takes the names from it.
// challenge becomes the challengePassword (PKCS #9 section 5.4.1) of a request that is made here, and more are extensions
// that it asks for beside the intent's. Nothing can be added to a device's own request: it is signed.
func Request(in Intent, challenge string, more ...pkix.Extension) ([]byte, error) {
	if in.Signer == nil {
		return checkedCSR(in)
	}
	extensions, err := wanted(in)
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{RawSubject: in.Subject, ExtraExtensions: append(extensions, more...)}
	if _, ok := in.Signer.Public().(*rsa.PublicKey); !ok {
		return nil, Refuse("the key is a %T: only RSA keys are certified, since every mail program can use them", in.Signer.Public())
	}
	template.SignatureAlgorithm = x509.SHA256WithRSA
	if challenge != "" {
		return signedWithChallenge(template, in, challenge)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, in.Signer)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return der, nil
}

// wanted are the extensions that a request asks for.
func wanted(in Intent) ([]pkix.Extension, error) {
	var out []pkix.Extension
	if len(in.SANs) > 0 {
		san, err := SubjectAltName(in.SANs, emptyName(in.Subject))
		if err != nil {
			return nil, err
		}
		out = append(out, san)
	}
	if usage, err := KeyUsageBits(in.KeyUsage); err != nil {
		return nil, err
	} else if usage != 0 {
		value, err := asn1.Marshal(usageBitString(usage))
		if err != nil {
			return nil, fmt.Errorf("encoding the key usage: %w", err)
		}
		out = append(out, pkix.Extension{Id: oidKeyUsage, Critical: true, Value: value})
	}
	oids, err := ExtendedKeyUsageOIDs(in.ExtendedKeyUsage)
	if err != nil || len(oids) == 0 {
		return out, err
	}
	value, err := asn1.Marshal(oids)
	if err != nil {
		return nil, fmt.Errorf("encoding the extended key usage: %w", err)
	}
	return append(out, pkix.Extension{Id: oidExtKeyUsage, Value: value}), nil
}

func emptyName(der []byte) bool { return bytes.Equal(der, []byte{0x30, 0x00}) || len(der) == 0 }

// KeyUsageBits turns names into bits (RFC 5280 section 4.2.1.3); none: 0.
func KeyUsageBits(names []string) (x509.KeyUsage, error) {
	var usage x509.KeyUsage
	for _, name := range names {
		switch strings.ToLower(name) {
		case "digitalsignature":
			usage |= x509.KeyUsageDigitalSignature
		case "nonrepudiation", "contentcommitment":
			usage |= x509.KeyUsageContentCommitment
		case "keyencipherment":
			usage |= x509.KeyUsageKeyEncipherment
		case "dataencipherment":
			usage |= x509.KeyUsageDataEncipherment
		default:
			return 0, Refuse("key usage %q: digitalSignature, nonRepudiation, keyEncipherment and dataEncipherment are possible", name)
		}
	}
	return usage, nil
}

// usageBitString writes the bits of the first octet, most significant first, without trailing zeros (X.690 section 11.2.2).
func usageBitString(usage x509.KeyUsage) asn1.BitString {
	var octet byte
	length := 0
	for i := range 8 {
		if usage&(1<<i) != 0 {
			octet |= 0x80 >> i
			length = i + 1
		}
	}
	return asn1.BitString{Bytes: []byte{octet}, BitLength: length}
}

// ExtendedKeyUsageOIDs turns the names of profiles, and dotted OIDs, into OIDs; none: none.
func ExtendedKeyUsageOIDs(names []string) ([]asn1.ObjectIdentifier, error) {
	if len(names) == 0 {
		return nil, nil
	}
	oids, err := profiles.ExtendedKeyUsageOIDs(names)
	if err != nil {
		return nil, Refuse("extended key usage: %v", err)
	}
	return oids, nil
}

// signedWithChallenge makes a request with a challengePassword, which crypto/x509 writes only as a deprecated attribute of
// another shape.
func signedWithChallenge(template *x509.CertificateRequest, in Intent, challenge string) ([]byte, error) {
	unsigned, err := x509.CreateCertificateRequest(rand.Reader, template, in.Signer)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	var csr struct {
		TBS struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(unsigned, &csr); err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	attribute, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{oidChallengePassword, []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(challenge)}}})
	if err != nil {
		return nil, fmt.Errorf("encoding the challenge: %w", err)
	}
	csr.TBS.Attributes = append(csr.TBS.Attributes, asn1.RawValue{FullBytes: attribute})
	slices.SortFunc(csr.TBS.Attributes, func(a, b asn1.RawValue) int { return bytes.Compare(a.FullBytes, b.FullBytes) }) // DER: SET OF
	tbs, err := asn1.Marshal(csr.TBS)
	if err != nil {
		return nil, fmt.Errorf("encoding the certificate request: %w", err)
	}
	signature, err := signSHA256(in.Signer, tbs)
	if err != nil {
		return nil, err
	}
	csr.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, csr.Algorithm, csr.Signature})
}
