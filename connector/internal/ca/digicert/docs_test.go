package digicert

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFilesOfTheDocs: what the pages show works.
func TestSettingsFilesOfTheDocs(t *testing.T) {
	for name, maker := range map[string]func(ca.Settings, ca.Env) (ledger.Upstream, error){"digicert": New, "digicert-legacy": NewLegacy} {
		s := documented(t, name)
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := maker(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func documented(t *testing.T, name string) ca.Settings {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/cas/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	root := testpki.NewCA(t, "Corp CA")
	ra := root.Issue(t, testpki.Options{CN: "RA"})
	dir := t.TempDir()
	for file, content := range map[string][]byte{"ca.yaml": []byte(text), "digicert-chain.pem": root.CertPEM(),
		"digicert-key.txt": []byte("key\n"), "ra.pem": ra.CertPEM(), "ra-key.pem": ra.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
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
	return s
}
