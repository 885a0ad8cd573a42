package model

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestNameString(t *testing.T) {
	email := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "alice,x@corp.test"}
	cn := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Alice"}
	cases := map[string]pkix.Name{
		`CN=Alice`:                      {CommonName: "Alice", Names: []pkix.AttributeTypeAndValue{cn}},
		`CN=Alice,E=alice\,x@corp.test`: {CommonName: "Alice", Names: []pkix.AttributeTypeAndValue{cn, email}},
		`E=alice\,x@corp.test`:          {Names: []pkix.AttributeTypeAndValue{email}},
		``:                              {},
	}
	for want, name := range cases {
		if got := NameString(name); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNewCertificate(t *testing.T) {
	ca := testpki.NewCA(t, "Corp CA")
	leaf := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"Alice@corp.test"}})
	c, parsed, err := NewCertificate(leaf.Cert.Raw)
	if err != nil || !parsed.Equal(leaf.Cert) {
		t.Fatal(err)
	}
	if c.Subject != "CN=Alice,O=Example" || c.Issuer != "CN=Corp CA,O=Example" || len(c.SHA256) != 64 || len(c.SHA1) != 40 || len(c.Addresses) != 1 || c.Addresses[0] != "Alice@corp.test" {
		t.Errorf("got %+v", c)
	}
	if _, _, err := NewCertificate([]byte("no certificate")); err == nil {
		t.Error("no error")
	}
}
