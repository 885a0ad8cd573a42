package scepca

import (
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFilesOfTheDocs: what the page shows works.
func TestSettingsFilesOfTheDocs(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA")
	own := root.Issue(t, testpki.Options{CN: "connector"})
	files := catest.Documented(t, "scep", map[string][]byte{"corp-root.pem": root.CertPEM(), "corp-chain.pem": root.CertPEM(), "challenge.txt": []byte("secret\n"),
		"svc-waxseal.txt": []byte("secret\n"), "connector.pem": own.CertPEM(), "connector-key.pem": own.KeyPEM()})
	for _, s := range files {
		if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Error(err)
		}
	}
	if len(files) != 2 {
		t.Errorf("%d settings files", len(files))
	}
}
