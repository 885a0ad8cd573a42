package digicert

import (
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFilesOfTheDocs: what the pages show works.
func TestSettingsFilesOfTheDocs(t *testing.T) {
	root := testpki.NewCA(t, "Corp CA")
	ra := root.Issue(t, testpki.Options{CN: "RA"})
	files := map[string][]byte{"digicert-chain.pem": root.CertPEM(), "digicert-key.txt": []byte("key\n"), "ra.pem": ra.CertPEM(), "ra-key.pem": ra.KeyPEM()}
	for page, maker := range map[string]func(ca.Settings, ca.Env) (ledger.Upstream, error){"digicert": New, "digicert-legacy": NewLegacy} {
		for _, s := range catest.Documented(t, page, files) {
			if _, err := maker(s, ca.Env{Clock: testpki.Now}); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
