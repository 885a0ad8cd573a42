package profiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
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
