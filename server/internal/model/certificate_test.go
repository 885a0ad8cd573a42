package model

import (
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

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
