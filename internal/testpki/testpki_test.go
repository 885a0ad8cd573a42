package testpki

import (
	"crypto/x509"
	"testing"
)

func TestIssuedCertificatesChainToTheirAuthority(t *testing.T) {
	root := NewCA(t, "Root")
	middle := root.Intermediate(t, "Middle")
	for _, kind := range []KeyType{RSA2048, P256, P384} {
		leaf := middle.Issue(t, Options{CN: "Ada", Emails: []string{"ada@example.com"}, KeyType: kind})
		roots, inter := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.Cert)
		inter.AddCert(middle.Cert)
		_, err := leaf.Cert.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: inter, CurrentTime: Now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		})
		if err != nil {
			t.Errorf("key type %d: %v", kind, err)
		}
	}
}

func TestOneNameHasOneKey(t *testing.T) {
	if a, b := NewCA(t, "A"), NewCA(t, "A"); !a.RSA().Equal(b.Key) {
		t.Error("two authorities of one name have different keys")
	}
}
