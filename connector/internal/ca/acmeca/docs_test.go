package acmeca

import (
	"encoding/base64"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA").CertPEM()
	for _, s := range catest.Documented(t, "acme", map[string][]byte{"corp-root.pem": root, "corp-chain.pem": root,
		"account-key.pem": []byte(usual(t).AccountKey), "eab.txt": []byte(base64.RawURLEncoding.EncodeToString([]byte(bindingKey)) + "\n")}) {
		if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Error(err)
		}
	}
}
