package stepca

import (
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestSettingsFileOfTheDocs: what the page shows works.
func TestSettingsFileOfTheDocs(t *testing.T) {
	root, key := testpki.NewCA(t, "Corp CA").CertPEM(), []byte(newMaterial(t).encrypted)
	for _, s := range catest.Documented(t, "stepca", map[string][]byte{"root_ca.crt": root, "corp-chain.pem": root,
		"waxseal.jwe": key, "waxseal.txt": []byte("secret\n"), "archive.jwe": key, "archive.txt": []byte("secret\n")}) {
		if _, err := New(s, ca.Env{Clock: testpki.Now, Rand: rand()}); err != nil {
			t.Error(err)
		}
	}
}

// TestTemplateOfTheDocs: the page's template is the one that step-ca issues by in TestRealStepCA.
func TestTemplateOfTheDocs(t *testing.T) {
	if got := catest.Fenced(t, "stepca", "json")[0]; got != mailTemplate {
		t.Errorf("the page has\n%s", got)
	}
}
