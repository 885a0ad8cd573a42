package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/manifest"
)

func TestSettings(t *testing.T) {
	cases := []struct{ name, text, want, fault string }{
		{"plain", "name: corp\nkind: est\n", `{"kind":"est","name":"corp"}`, ""},
		{"files", "name: corp\noptions:\n  passwordFile: pw.txt\n", `{"name":"corp","options":{"password":"s3cret"}}`, ""},
		{"both", "password: a\npasswordFile: pw.txt\n", "", "passwordFile: it must not stand beside password"},
		{"key twice below", "l: [{b: c}, {b: c, d: {e: 1}, b: 2}]\n", "", "b is given twice"},
		{"no such file", "options: {keyFile: none.pem}\n", "", "options.keyFile: \"none.pem\" no such file"},
		{"out of the folder", "keyFile: ../pw.txt\n", "", "must name a file in the folder"},
		{"no file's name", "keyFile: [a]\n", "", "keyFile: it names a file"},
		{"two documents", "a: b\n---\nc: d\n", "", "it holds 2 documents"},
		{"syntax", "a: b\nc: {\n", "", "line "},
		{"key twice", "a: b\na: c\n", "", "a is given twice"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "ca.yaml")
			for name, content := range map[string]string{file: tc.text, filepath.Join(dir, "pw.txt"): "s3cret\r\n"} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := manifest.Settings(file)
			switch {
			case tc.fault == "" && (err != nil || string(got) != tc.want):
				t.Errorf("got %s, %v, want %s", got, err, tc.want)
			case tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault) || strings.Contains(err.Error(), "s3cret")):
				t.Errorf("got %v, want %q", err, tc.fault)
			}
		})
	}
}
