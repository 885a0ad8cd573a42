package mde

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func TestParseCSR(t *testing.T) {
	cases := []struct {
		name string
		tag  int
		cn   string
	}{
		{"UTF8String", asn1.TagUTF8String, windowsCN},
		{"PrintableString", asn1.TagPrintableString, windowsCN},
		{"PrintableString without NUL", asn1.TagPrintableString, windowsCN[:len(windowsCN)-1]},
		{"plain", asn1.TagPrintableString, "PC 1"},
		{"IA5String", asn1.TagIA5String, windowsCN},
	}
	for _, c := range cases {
		der := windowsCSR(t, c.tag, c.cn)
		before := bytes.Clone(der)
		csr, err := ParseCSR(der)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if csr.Subject.CommonName != c.cn || csr.CheckSignature() != nil {
			t.Errorf("%s: CN %q, signature: %v", c.name, csr.Subject.CommonName, csr.CheckSignature())
		}
		if !bytes.Equal(csr.Raw, before) || !bytes.Equal(der, before) || !bytes.Contains(der, csr.RawTBSCertificateRequest) ||
			!bytes.Contains(csr.RawTBSCertificateRequest, csr.RawSubject) {
			t.Errorf("%s: the raw bytes are not those that came", c.name)
		}
		if !hasMicrosoftExtension(csr) {
			t.Errorf("%s: an extension is lost", c.name)
		}
	}
}

func hasMicrosoftExtension(csr *x509.CertificateRequest) bool {
	for _, e := range csr.Extensions {
		if e.Id.String() == "1.3.6.1.4.1.311.66.1.0" {
			return string(e.Value) == otherHash+"\x00"
		}
	}
	return false
}

// TestTheTrapIsThere fails when crypto/x509 begins to take such names: then ParseCSR can go.
func TestTheTrapIsThere(t *testing.T) {
	if _, err := x509.ParseCertificateRequest(windowsCSR(t, asn1.TagPrintableString, windowsCN)); err == nil {
		t.Error("crypto/x509 takes a PrintableString with an exclamation mark")
	}
}

func TestParseCSRRefuses(t *testing.T) {
	der := windowsCSR(t, asn1.TagPrintableString, windowsCN)
	forged := bytes.Clone(der)
	forged[bytes.Index(forged, []byte(windowsCN))] ^= 1
	if csr, err := ParseCSR(forged); err != nil || csr.CheckSignature() == nil {
		t.Errorf("a forged name: %v", err)
	}
	cases := map[string][]byte{
		"nothing":  nil,
		"not DER":  []byte("M"),
		"cut off":  der[:len(der)-1],
		"trailing": append(bytes.Clone(der), 0),
		"large":    make([]byte, maxCSR+1),
		"Latin-1":  windowsCSR(t, asn1.TagPrintableString, "M\xfcller!"),
	}
	for name, b := range cases {
		if _, err := ParseCSR(b); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func TestOpenSSLVerifiesTheRequests(t *testing.T) {
	for _, tag := range []int{asn1.TagUTF8String, asn1.TagPrintableString} {
		der := windowsCSR(t, tag, windowsCN)
		csr, err := ParseCSR(der)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "csr.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw})
		if err := os.WriteFile(path, block, 0o600); err != nil {
			t.Fatal(err)
		}
		peer(t, "openssl", "req", "-verify", "-noout", "-in", path)
	}
}

func FuzzParseCSR(f *testing.F) {
	for _, tag := range []int{asn1.TagUTF8String, asn1.TagPrintableString} {
		f.Add(windowsCSR(f, tag, windowsCN))
	}
	f.Add(windowsCSR(f, asn1.TagPrintableString, "PC 1"))
	f.Fuzz(func(t *testing.T, der []byte) {
		before := bytes.Clone(der)
		csr, err := ParseCSR(der)
		if !bytes.Equal(der, before) {
			t.Fatal("the input was changed")
		}
		if err == nil && (!bytes.Equal(csr.Raw, der) || !bytes.Contains(der, csr.RawTBSCertificateRequest)) {
			t.Error("the raw bytes are not those that came")
		}
	})
}
