package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasswordFile(t *testing.T) {
	for content, want := range map[string]string{
		"secret":               "secret",
		"secret\n":             "secret",
		"secret\r\n":           "secret",
		"\ufeffsecret\r\n":     "secret",
		" with spaces \n":      " with spaces ",
		"":                     "",
		"two\nlines\n":         "two\nlines",
		"p\u00e4ssw\u00f6rd\n": "p\u00e4ssw\u00f6rd",
	} {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPassword(file); err != nil || got != want {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
	file := filepath.Join(t.TempDir(), "utf16")
	if err := os.WriteFile(file, []byte("\xff\xfes\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPassword(file); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Errorf("UTF-16: %v", err)
	}
	if _, err := readPassword(t.TempDir()); err == nil {
		t.Error("a folder was read as a password")
	}
}
