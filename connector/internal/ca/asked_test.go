package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

func deviceIntent(t testing.TB) Intent {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Alice Example"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return Intent{ID: "device-0000000001", PublicKey: testpki.PoolKey(t, 1).Public(), Subject: subject,
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "Alice@corp.test"}, {Type: profiles.SANUPN, Value: "alice@corp.test"}}}
}

// deviceCSR is what a device asks for: extensions, and attributes of Microsoft's form.
func deviceCSR(t testing.TB, extensions []pkix.Extension, attributes ...pkix.AttributeTypeAndValueSET) []byte {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alice Example"}, ExtraExtensions: extensions}
	template.Attributes = attributes //lint:ignore SA1019 there is no other way to write one
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testpki.PoolKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func extension(oid asn1.ObjectIdentifier, der []byte) pkix.Extension {
	return pkix.Extension{Id: oid, Value: der}
}

func names(t testing.TB, sans ...profiles.SubjectAlternativeName) pkix.Extension {
	t.Helper()
	e, err := SubjectAltName(sans, false)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func uses(t testing.TB, oids ...asn1.ObjectIdentifier) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(oids)
	if err != nil {
		t.Fatal(err)
	}
	return extension(oidExtKeyUsage, der)
}

func TestDeviceRequestIsGivenOn(t *testing.T) {
	in := deviceIntent(t)
	mail := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
	for name, extensions := range map[string][]pkix.Extension{
		"nothing":   nil,
		"its names": {names(t, in.SANs...)},
		"an address and a use": {names(t, in.SANs[0]), uses(t, mail),
			extension(asn1.ObjectIdentifier{2, 5, 29, 14}, []byte{4, 1, 7}), extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 0})},
	} {
		in.CSR = deviceCSR(t, extensions)
		der, err := Request(in, "")
		if err != nil || !bytes.Equal(der, in.CSR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSC09DeviceRequestAsksForMore: a CA of others would obey it.
func TestSC09DeviceRequestAsksForMore(t *testing.T) {
	in := deviceIntent(t)
	san := func(kind profiles.SANType, v string) []pkix.Extension {
		return []pkix.Extension{names(t, profiles.SubjectAlternativeName{Type: kind, Value: v})}
	}
	directory := []byte{0x30, 4, 0xa4, 2, 0x30, 0}
	cases := []struct {
		name       string
		extensions []pkix.Extension
		says       string
	}{
		{"another address", san(profiles.SANEmail, "boss@corp.test"), "boss@corp.test"},
		{"another user", san(profiles.SANUPN, "administrator@corp.test"), "administrator@corp.test"},
		{"a host", san(profiles.SANDNS, "dc1.corp.test"), "dc1.corp.test"},
		{"a directory name", []pkix.Extension{extension(oidSubjectAltName, directory)}, "kind [4]"},
		{"garbage for names", []pkix.Extension{extension(oidSubjectAltName, []byte("x"))}, "does not parse"},
		{"smart card logon", []pkix.Extension{uses(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2})}, "1.3.6.1.4.1.311.20.2.2"},
		{"garbage for uses", []pkix.Extension{extension(oidExtKeyUsage, []byte("x"))}, "does not parse"},
		{"a SID", []pkix.Extension{extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, []byte{5, 0})}, "1.3.6.1.4.1.311.25.2"},
		{"a template", []pkix.Extension{extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, []byte{5, 0})}, "1.3.6.1.4.1.311.20.2"},
		{"to be a CA", []pkix.Extension{extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff})}, "2.5.29.19"},
	}
	for _, tc := range cases {
		in.CSR = deviceCSR(t, tc.extensions)
		var refused *RefusedError
		if _, err := Request(in, ""); !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.says)
		}
	}
}

// TestMicrosoftAttribute: names in an attribute that crypto/x509 knows nothing of.
func TestMicrosoftAttribute(t *testing.T) {
	in := deviceIntent(t)
	in.CSR = deviceCSR(t, nil, pkix.AttributeTypeAndValueSET{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14},
		Value: [][]pkix.AttributeTypeAndValue{{{Type: oidSubjectAltName, Value: []byte("x")}}}})
	var refused *RefusedError
	if _, err := Request(in, ""); !errors.As(err, &refused) || !strings.Contains(err.Error(), "1.3.6.1.4.1.311.2.1.14") {
		t.Errorf("got %v", err)
	}
}

func TestRequestCarriesMoreExtensions(t *testing.T) {
	in := deviceIntent(t)
	in.Signer = testpki.PoolKey(t, 1)
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}
	for _, challenge := range []string{"", "secret"} {
		der, err := Request(in, challenge, extension(oid, []byte{5, 0}))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatalf("%v, %v", err, csr)
		}
		if challenge != "" && !bytes.Contains(der, []byte(challenge)) {
			t.Error("the challenge is missing")
		}
		last := csr.Extensions[len(csr.Extensions)-1]
		if !last.Id.Equal(oid) || len(csr.EmailAddresses) != 1 {
			t.Errorf("extensions %v", csr.Extensions)
		}
	}
}

func FuzzDeviceRequest(f *testing.F) {
	in := deviceIntent(f)
	f.Add(deviceCSR(f, []pkix.Extension{names(f, in.SANs...)}))
	f.Add(deviceCSR(f, nil))
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return
		}
		_ = checkRequested(in, csr)
	})
}
