package adcs

import (
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA").CertPEM()
	for _, s := range catest.Documented(t, "adcs", map[string][]byte{"corp-root.pem": root, "corp-chain.pem": root, "svc-waxseal.txt": []byte("secret\n")}) {
		if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Error(err)
		}
	}
}
