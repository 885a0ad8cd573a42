package catest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/manifest"
)

// Fenced are the pieces of docs/cas/PAGE.md in a language.
func Fenced(t *testing.T, page, language string) (out []string) {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/cas/" + page + ".md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range strings.Split(string(text), "```"+language+"\n")[1:] {
		piece, _, _ := strings.Cut(rest, "\n```")
		out = append(out, piece)
	}
	return out
}

// Documented are the settings files that docs/cas/PAGE.md shows, read and checked as `ca set` does, beside the files that
// they name.
func Documented(t *testing.T, page string, files map[string][]byte) (out []ca.Settings) {
	t.Helper()
	for _, text := range Fenced(t, page, "yaml") {
		if !strings.HasPrefix(text, "name:") {
			continue // a profile
		}
		dir := t.TempDir()
		for name, content := range files {
			write(t, filepath.Join(dir, name), content)
		}
		file := filepath.Join(dir, "ca.yaml")
		write(t, file, []byte(text))
		raw, err := manifest.Settings(file)
		if err != nil {
			t.Fatal(err)
		}
		var s ca.Settings
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("docs/cas/%s.md: %v", page, err)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		t.Fatalf("docs/cas/%s.md shows no settings", page)
	}
	return out
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
