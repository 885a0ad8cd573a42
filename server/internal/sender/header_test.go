package sender

import (
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestParseCertificateHeader(t *testing.T) {
	cert := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "x"}).Cert
	b64 := base64.StdEncoding.EncodeToString(cert.Raw)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	tests := []struct {
		name, value string
		ok          bool
	}{
		{"RFC 9440", ":" + b64 + ":", true},
		{"escaped PEM", url.PathEscape(text), true},
		{"no second colon", ":" + b64, false},
		{"colon alone", ":", false},
		{"empty between colons", "::", false},
		{"no base64", ":@:", false},
		{"no certificate", ":AAAA:", false},
		{"trailing bytes", ":" + base64.StdEncoding.EncodeToString(append(cert.Raw, 0)) + ":", false},
		{"another PEM", url.PathEscape(key), false},
		{"two certificates", url.PathEscape(text + text), false},
		{"bad escape", "%zz", false},
		{"empty", "", false},
		{"too long", ":" + strings.Repeat("A", maxHeader) + ":", false},
	}
	for _, tt := range tests {
		got, err := parseCertificateHeader(tt.value)
		if (err == nil) != tt.ok || tt.ok && !got.Equal(cert) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzCertificateHeader(f *testing.F) {
	cert := testpki.NewCA(f, "CA").Issue(f, testpki.Options{CN: "x"}).Cert
	f.Add(":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":")
	f.Add(url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))))
	f.Add(":")
	f.Add("%2D%2D%2D%2D%2DBEGIN CERTIFICATE-----%0A")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseCertificateHeader(value)
		if (got == nil) == (err == nil) {
			t.Fatalf("certificate %v with error %v", got, err)
		}
		if err != nil {
			return
		}
		again, err := parseCertificateHeader(":" + base64.StdEncoding.EncodeToString(got.Raw) + ":")
		if err != nil || !again.Equal(got) {
			t.Fatalf("what was parsed does not encode again: %v", err)
		}
	})
}
