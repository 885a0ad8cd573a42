package scepca

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

// TestSettingsFilesOfTheDocs: what the page shows works.
func TestSettingsFilesOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/cas/scep.md")
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Split(string(page), "```yaml\n")[1:]
	for _, text := range files {
		text, _, _ = strings.Cut(text, "```")
		s := documented(t, text)
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if _, err := New(s, ca.Env{Clock: testpki.Now}); err != nil {
			t.Error(err)
		}
	}
	if len(files) != 2 {
		t.Errorf("%d settings files", len(files))
	}
}

func documented(t *testing.T, text string) ca.Settings {
	t.Helper()
	dir, root := t.TempDir(), testpki.NewCA(t, "Corp CA")
	own := root.Issue(t, testpki.Options{CN: "connector"})
	for name, content := range map[string][]byte{"ca.yaml": []byte(text), "corp-root.pem": root.CertPEM(), "corp-chain.pem": root.CertPEM(),
		"challenge.txt": []byte("secret\n"), "svc-waxseal.txt": []byte("secret\n"), "connector.pem": own.CertPEM(), "connector-key.pem": own.KeyPEM()} {
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
	return s
}
