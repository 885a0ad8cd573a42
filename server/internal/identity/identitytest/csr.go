package identitytest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

var (
	oidChallenge  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensions = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSHA256RSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
)

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []any `asn1:"set"`
}

// CSRWithChallenge makes a PKCS#10 request with a challenge password (PKCS #9 section 5.4.1), which crypto/x509 cannot.
func CSRWithChallenge(t testing.TB, id *testpki.Identity, challenge string, extensions ...pkix.Extension) []byte {
	t.Helper()
	attributes := marshal(t, attribute{oidChallenge, []any{asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(challenge)}}})
	if len(extensions) > 0 {
		attributes = append(attributes, marshal(t, attribute{oidExtensions, []any{extensions}})...)
	}
	spki, err := x509.MarshalPKIXPublicKey(id.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs := marshal(t, struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, pkix.Name{CommonName: "ignored"}.ToRDNSequence(), asn1.RawValue{FullBytes: spki},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: attributes}})
	sum := sha256.Sum256(tbs)
	signature, err := id.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: oidSHA256RSA, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatalf("encoding: %v", err)
	}
	return der
}
