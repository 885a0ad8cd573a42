package estca

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/cas/est.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	dir, root := t.TempDir(), testpki.NewCA(t, "Corp CA")
	own := root.Issue(t, testpki.Options{CN: "connector"})
	for name, content := range map[string][]byte{"ca.yaml": []byte(text), "corp-root.pem": root.CertPEM(), "corp-chain.pem": root.CertPEM(),
		"est-password.txt": []byte("secret\n"), "connector.pem": own.CertPEM(), "connector-key.pem": own.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := manifest.Settings(filepath.Join(dir, "ca.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var s ca.Settings
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
		t.Fatal(err)
	}
}
