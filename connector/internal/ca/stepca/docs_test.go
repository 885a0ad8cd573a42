package stepca

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

// fenced is the first piece of the page in that language.
func fenced(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/cas/stepca.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```"+language+"\n")
	text, _, _ = strings.Cut(text, "\n```")
	return text
}

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	dir, root, key := t.TempDir(), testpki.NewCA(t, "Corp CA").CertPEM(), []byte(newMaterial(t).encrypted)
	for name, content := range map[string][]byte{"ca.yaml": []byte(fenced(t, "yaml")), "root_ca.crt": root, "corp-chain.pem": root,
		"waxseal.jwe": key, "waxseal.txt": []byte("secret\n"), "archive.jwe": key, "archive.txt": []byte("secret\n")} {
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
	if _, err := New(s, ca.Env{Clock: testpki.Now, Rand: rand()}); err != nil {
		t.Fatal(err)
	}
}

// TestTemplateOfTheDocs: the page's template is the one that step-ca issues by in TestRealStepCA.
func TestTemplateOfTheDocs(t *testing.T) {
	if got := fenced(t, "json"); got != mailTemplate {
		t.Errorf("the page has\n%s", got)
	}
}
