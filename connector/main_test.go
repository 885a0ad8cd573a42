package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/linktest"
	"github.com/waxseal/waxseal/internal/escrow"
)

// call runs one command line.
func call(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := command(&out, &errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func tokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("token-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommands(t *testing.T) {
	s := linktest.New(t)
	token, first, second := tokenFile(t), filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	initArgs := func(dir string) []string {
		return []string{"init", "--keyring", dir, "--server", s.URL, "--token-file", token, "--name", filepath.Base(dir), "--ca-key-bits", "2048"}
	}
	root, words, err := call(t, initArgs(first)...)
	if err != nil {
		t.Fatal(err, words)
	}
	pin, err := os.ReadFile(filepath.Join(first, "escrow-root"))
	if err != nil || root != string(pin) {
		t.Errorf("stdout %q, escrow-root %q, %v", root, pin, err)
	}
	if again, words, err := call(t, initArgs(first)...); err != nil || again != root || !strings.Contains(words, "nothing was changed") {
		t.Errorf("repeated: %q, %q, %v", again, words, err)
	}
	if _, words, err := call(t, "run", "--keyring", first, "--once"); err != nil {
		t.Errorf("run: %v, %s", err, words)
	}
	joined, words, err := call(t, append(initArgs(second), "--escrow-root", strings.TrimSpace(root))...)
	if err != nil || joined != root {
		t.Fatalf("further: %q, %q, %v", joined, words, err)
	}
	if _, _, err := call(t, "run", "--keyring", second, "--once"); err == nil || !strings.Contains(err.Error(), "waits for approval") {
		t.Errorf("run before approve: %v", err)
	}
	_, fingerprint, _ := strings.Cut(words, "approve --keyring DIR ")
	fingerprint, _, _ = strings.Cut(fingerprint, "\n")
	if out, words, err := call(t, "approve", "--keyring", first, fingerprint); err != nil || out != "" || !strings.Contains(words, "is approved") {
		t.Errorf("approve: %q, %q, %v", out, words, err)
	}
	if _, words, err := call(t, "run", "--keyring", second, "--once"); err != nil {
		t.Errorf("run after approve: %v, %s", err, words)
	}
}

func TestBadCommandLines(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "k")
	cases := []struct {
		want string
		args []string
	}{
		{"no command given", nil},
		{`unknown command "rum"`, []string{"rum"}},
		{`no command given to "waxseal-connector ca"`, []string{"ca"}},
		{`unknown command "sett" for "waxseal-connector ca": there are list, remove, roll, set and test`, []string{"ca", "sett", "--keyring", dir, "-f", "x"}},
		{`"keyring"`, []string{"run"}},
		{"is not a keyring", []string{"run", "--keyring", dir}},
		{"is not a keyring", []string{"approve", "--keyring", dir, "abc"}},
		{"accepts 1 arg", []string{"approve", "--keyring", dir}},
		{"is no URL", []string{"init", "--keyring", dir, "--server", "nonsense"}},
		{"not a fingerprint", []string{"init", "--keyring", dir, "--server", "https://x.test", "--escrow-root", "abc"}},
		{"is empty", []string{"run", "--keyring", dir, "--passphrase-file", empty}},
		{"no such file", []string{"init", "--keyring", dir, "--server", "https://x.test", "--ca", "/nonexistent/ca.pem"}},
		{"--token-file is missing", []string{"init", "--keyring", dir, "--server", "https://x.test"}},
	}
	for _, c := range cases {
		if out, _, err := call(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestErrorsTeach(t *testing.T) {
	var b bytes.Buffer
	printError(&b, &escrow.WrongRootError{Pinned: "sha256:aa", Got: "sha256:bb"})
	if got := b.String(); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "\nhint: ") || !strings.Contains(got, "sha256:bb") {
		t.Errorf("got %q", got)
	}
}
