package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// signedRequest is a device's request with attributes as they stand, which crypto/x509 would not write.
func signedRequest(t *testing.T, attributes ...asn1.RawValue) []byte {
	t.Helper()
	var plain struct {
		TBS struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(deviceCSR(t, nil), &plain); err != nil {
		t.Fatal(err)
	}
	plain.TBS.Attributes = attributes
	tbs, err := asn1.Marshal(plain.TBS)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(tbs)
	signature, err := testpki.PoolKey(t, 1).Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	plain.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, plain.Algorithm, plain.Signature})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func marshal(t *testing.T, v any, params string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// attribute has values as they stand, in a SET or, wrongly, in something else.
func attribute(t *testing.T, oid asn1.ObjectIdentifier, tag int, values ...[]byte) asn1.RawValue {
	t.Helper()
	set := asn1.RawValue{Tag: tag, IsCompound: true, Bytes: bytes.Join(values, nil)}
	return asn1.RawValue{FullBytes: marshal(t, struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}{oid, set}, "")}
}

// TestSC09SecondHelping: crypto/x509 looks at the first value of the extension request alone, and at none of one that it
// cannot read; a CA may look at them all.
func TestSC09SecondHelping(t *testing.T) {
	in := deviceIntent(t)
	request := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	mine := marshal(t, []pkix.Extension{names(t, in.SANs...)}, "")
	admin := marshal(t, []pkix.Extension{names(t, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "administrator@corp.test"})}, "")
	cases := map[string]struct {
		attribute asn1.RawValue
		taken     bool
	}{
		"one value":             {attribute(t, request, asn1.TagSet, mine), true},
		"a second value":        {attribute(t, request, asn1.TagSet, mine, admin), false},
		"a SEQUENCE of values":  {attribute(t, request, asn1.TagSequence, admin), false},
		"no value":              {attribute(t, request, asn1.TagSet), false},
		"another's, ordinarily": {attribute(t, request, asn1.TagSet, admin), false},
	}
	for name, tc := range cases {
		in.CSR = signedRequest(t, tc.attribute)
		if csr, err := x509.ParseCertificateRequest(in.CSR); err != nil || csr.CheckSignature() != nil {
			t.Fatalf("%s: crypto/x509 takes it: %v", name, err)
		}
		var refused *RefusedError
		if _, err := Request(in, ""); tc.taken && err != nil || !tc.taken && !errors.As(err, &refused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestSC09NameWithinAName: what stands behind the value that is looked at.
func TestSC09NameWithinAName(t *testing.T) {
	in := deviceIntent(t)
	text := func(v string) []byte { return marshal(t, v, "utf8") }
	other := func(parts ...[]byte) []byte {
		return marshal(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(parts, nil)}, "")
	}
	oid := marshal(t, oidUPN, "")
	for name, value := range map[string][]byte{
		"two texts in the value": other(oid, other(text("alice@corp.test"), text("administrator@corp.test"))),
		"a second value":         other(oid, other(text("alice@corp.test")), other(text("administrator@corp.test"))),
	} {
		san := marshal(t, []asn1.RawValue{{FullBytes: value}}, "")
		in.CSR = deviceCSR(t, []pkix.Extension{extension(oidSubjectAltName, san)})
		var refused *RefusedError
		if _, err := Request(in, ""); !errors.As(err, &refused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	issuer := testpki.NewCA(f, "Corp CA")
	in := deviceIntent(f)
	f.Add(issuer.Issue(f, testpki.Options{CN: "Alice Example", Emails: []string{"Alice@corp.test"}, Key: testpki.PoolKey(f, 1)}).Cert.Raw)
	f.Add(issuer.Issue(f, testpki.Options{CN: "Alice Example", Extensions: []pkix.Extension{names(f, in.SANs...)}, Key: testpki.PoolKey(f, 1)}).Cert.Raw)
	f.Add(issuer.Issue(f, testpki.Options{CN: "pc", DNS: []string{"*.corp.test"}, Extensions: []pkix.Extension{uses(f, oidUPN)}, Key: testpki.PoolKey(f, 1)}).Cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if checkPowers(in, leaf) == nil && len(leaf.IPAddresses) > 0 {
			t.Errorf("addresses %v", leaf.IPAddresses)
		}
		for _, name := range leaf.DNSNames {
			if checkPowers(in, leaf) == nil && name != "" && !strings.EqualFold(name, "Alice Example") {
				t.Errorf("host %q", name)
			}
		}
	})
}
