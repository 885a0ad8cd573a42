package partnerca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

// request is what a device asks for; each platform puts in what it can.
type request struct {
	key        *rsa.PrivateKey
	challenge  string
	subject    []byte // DER
	extensions []pkix.Extension
	hash       crypto.Hash
	forged     bool // the signature is another's
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []any `asn1:"set"`
}

// requestFor is the request of a device of the platform that was told of an order.
func requestFor(t testing.TB, platform profiles.Platform, order link.CertifyJob, key *rsa.PrivateKey, challenge string) request {
	t.Helper()
	r := request{key: key, challenge: challenge, subject: order.Subject, hash: crypto.SHA256}
	apple := platform == profiles.IOS || platform == profiles.MacOS
	if len(order.SANs) > 0 {
		r.extensions = append(r.extensions, sanExtension(t, order.SANs))
	}
	r.extensions = append(r.extensions, usageExtension(t, order.Request.KeyUsage, apple))
	if !apple { // Apple's payload has no place for it
		oids, err := profiles.ExtendedKeyUsageOIDs(order.Request.ExtendedKeyUsage)
		if err != nil {
			t.Fatal(err)
		}
		r.extensions = append(r.extensions, extension(t, asn1.ObjectIdentifier{2, 5, 29, 37}, oids))
	}
	return r
}

func sanExtension(t testing.TB, sans []profiles.SubjectAlternativeName) pkix.Extension {
	tags := map[profiles.SANType]int{profiles.SANEmail: 1, profiles.SANDNS: 2, profiles.SANURI: 6}
	var names []asn1.RawValue
	for _, n := range sans {
		if n.Type != profiles.SANUPN {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tags[n.Type], Bytes: []byte(n.Value)})
			continue
		}
		der, err := asn1.MarshalWithParams(struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"explicit,tag:0,utf8"`
		}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, n.Value}, "tag:0")
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, asn1.RawValue{FullBytes: der})
	}
	return extension(t, asn1.ObjectIdentifier{2, 5, 29, 17}, names)
}

func usageExtension(t testing.TB, usage []string, apple bool) pkix.Extension {
	bits := asn1.BitString{Bytes: []byte{0}, BitLength: 8}
	for i, name := range []string{"digitalSignature", "nonRepudiation", "keyEncipherment"} {
		if slices.Contains(usage, name) && !(apple && name == "nonRepudiation") {
			bits.Bytes[0] |= 0x80 >> i
		}
	}
	return extension(t, asn1.ObjectIdentifier{2, 5, 29, 15}, bits)
}

func extension(t testing.TB, id asn1.ObjectIdentifier, v any) pkix.Extension {
	return pkix.Extension{Id: id, Value: marshal(t, v)}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatalf("encoding: %v", err)
	}
	return der
}

func bigint(n int) *big.Int { return big.NewInt(int64(n)) }

// der writes the PKCS #10 with its challenge password, which crypto/x509 cannot.
func (r request) der(t testing.TB) []byte {
	t.Helper()
	var attributes []byte
	if r.challenge != "" {
		attributes = marshal(t, attribute{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []any{asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(r.challenge)}}})
	}
	attributes = append(attributes, marshal(t, attribute{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, []any{r.extensions}})...)
	spki, err := x509.MarshalPKIXPublicKey(&r.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	tbs := marshal(t, struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: r.subject}, asn1.RawValue{FullBytes: spki}, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: attributes}})
	return r.sign(t, tbs)
}

func (r request) sign(t testing.TB, tbs []byte) []byte {
	algorithms := map[crypto.Hash]asn1.ObjectIdentifier{crypto.SHA1: {1, 2, 840, 113549, 1, 1, 5}, crypto.SHA256: {1, 2, 840, 113549, 1, 1, 11}, crypto.SHA512: {1, 2, 840, 113549, 1, 1, 13}}
	h := r.hash.New()
	h.Write(tbs)
	signature, err := rsa.SignPKCS1v15(rand.Reader, r.key, r.hash, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	if r.forged {
		signature[0] ^= 1
	}
	return marshal(t, struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: algorithms[r.hash], Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}})
}

func wrongName() pkix.RDNSequence { return pkix.Name{CommonName: "The Boss"}.ToRDNSequence() }

func sha1Of(der []byte) [20]byte { return sha1.Sum(der) }
