package chain

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

func TestParseAndIssuing(t *testing.T) {
	root := testpki.NewCA(t, "Root")
	issuing := root.Intermediate(t, "Issuing")
	leaf := issuing.Issue(t, testpki.Options{CN: "RA"})
	bag, err := cms.CertsOnly(root.Cert, leaf.Cert, issuing.Cert)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := Parse(bag)
	if err != nil || len(certs) != 3 {
		t.Fatalf("%d, %v", len(certs), err)
	}
	if got := Issuing(certs); !slices.EqualFunc(got, []*x509.Certificate{issuing.Cert}, (*x509.Certificate).Equal) {
		t.Errorf("%d", len(got))
	}
	one, err := Parse(root.Cert.Raw)
	if err != nil || len(Issuing(one)) != 1 {
		t.Errorf("a root alone issues: %v, %v", one, err)
	}
	for name, want := range map[string]bool{"Issuing": true, "Root": false} {
		of := map[string]*x509.Certificate{"Issuing": issuing.Cert, "Root": root.Cert}[name]
		s := ca.Settings{Issuers: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: of.Raw}))}
		if f := Finding(s, certs); f.OK != want || !strings.Contains(f.Detail, "Issuing") {
			t.Errorf("settings with %s: %+v", name, f)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	root := testpki.NewCA(t, "Root").Cert
	many, err := cms.CertsOnly(slices.Repeat([]*x509.Certificate{root}, maxCertificates+1)...)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"nothing": nil, "a page": []byte("<html>"), "too many": many} {
		if certs, err := Parse(der); err == nil {
			t.Errorf("%s: %d certificates", name, len(certs))
		}
	}
	if f := Finding(ca.Settings{}, nil); f.OK {
		t.Errorf("%+v", f)
	}
}

func FuzzParse(f *testing.F) {
	root := testpki.NewCA(f, "Root")
	bag, err := cms.CertsOnly(root.Cert, root.Intermediate(f, "Issuing").Cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root.Cert.Raw)
	f.Add(bag)
	f.Add([]byte("0\x80"))
	f.Fuzz(func(_ *testing.T, der []byte) {
		if certs, err := Parse(der); err == nil {
			Issuing(certs)
		}
	})
}
