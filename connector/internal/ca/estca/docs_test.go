package estca

import (
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA")
	own := root.Issue(t, testpki.Options{CN: "connector"})
	for _, s := range catest.Documented(t, "est", map[string][]byte{"corp-root.pem": root.CertPEM(), "corp-chain.pem": root.CertPEM(),
		"est-password.txt": []byte("secret\n"), "connector.pem": own.CertPEM(), "connector-key.pem": own.KeyPEM()}) {
		if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Error(err)
		}
	}
}
