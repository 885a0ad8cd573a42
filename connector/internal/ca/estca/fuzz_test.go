package estca

import (
	"encoding/base64"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// FuzzAnswer has an answer read that may be anything, as certificates and as attributes.
func FuzzAnswer(f *testing.F) {
	root := testpki.NewCA(f, "Corp Issuing CA")
	bag, err := cms.CertsOnly(root.Cert, root.Issue(f, testpki.Options{CN: "Alice Example"}).Cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bag)
	f.Add(root.Cert.Raw)
	f.Add([]byte(base64.StdEncoding.EncodeToString(bag)))
	f.Add([]byte("MIIB\r\n AgME\n"))
	f.Add(attributes(f, example()...))
	f.Add([]byte(base64.StdEncoding.EncodeToString(attributes(f, example()...))))
	f.Add([]byte{0x30, 0x80, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, body []byte) {
		if certs, err := parseBag(body); err == nil && (len(certs) == 0 || len(certs) > 32) {
			t.Errorf("%d certificates", len(certs))
		}
		if oids, err := parseAttributes(body); err == nil && len(oids) > maxAttrs {
			t.Errorf("%d attributes", len(oids))
		}
	})
}
