package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
)

// run runs waxctl without any environment.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, Env{Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Rand: rand.Reader})
	return out.String(), errs.String(), code
}

// server answers one path with a value, everything else with 404.
func server(t *testing.T, path string, value any) []string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path || r.Header.Get("Authorization") != "Bearer secret" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(value)
	}))
	t.Cleanup(s.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--server", s.URL, "--token-file", token}
}

func TestErrorsTeach(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, err, hint string }{
		{"get devices", "which server?", "--server URL"},
		{"get bananas", "there are no bananas", "users, groups"},
		{"import pfx", "requires at least 1 arg", "waxctl import pfx --help"},
		{"enrol", "unknown command", "waxctl --help"},
		{"", "no command given", "waxctl --help"},
		{"get", "accepts 1 arg(s), received 0", "waxctl get --help"},
		{"device retir ID", `unknown command "retir" for "waxctl device": there are retire, sync and wipe`, "waxctl device --help"},
		{"enroll link2 --user alice@corp.test", `unknown command "link2" for "waxctl enroll": there is link`, "waxctl enroll --help"},
		{"partner", `no command given to "waxctl partner"`, "waxctl partner --help"},
		{"--server https://127.0.0.1:1 get users", "which admin token?", "--token-file"},
		{"--server https://127.0.0.1:1 --token-file " + token + " get users", "connection refused", "start waxseal-server"},
	} {
		stdout, stderr, code := run(t, strings.Fields(c.args)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "error: ") || !strings.Contains(stderr, c.err) || !strings.Contains(stderr, "hint: ") || !strings.Contains(stderr, c.hint) {
			t.Errorf("waxctl %s: %d, stdout %q, stderr %q", c.args, code, stdout, stderr)
		}
	}
}

func TestAValueIsAllThatStandsOnStdout(t *testing.T) {
	args := server(t, "/api/v1/enrollment-links", api.Link{URL: "https://mdm.test/enroll/x", Warnings: []api.Warning{{Reason: "NoPushCertificate", Detail: "none"}}})
	stdout, stderr, code := run(t, append(args, "enroll", "link", "--user", "a@b")...)
	if code != 0 || stdout != "https://mdm.test/enroll/x\n" || !strings.Contains(stderr, "NoPushCertificate") || !strings.Contains(stderr, "one iPhone or iPad") {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
}

func TestOutputForms(t *testing.T) {
	args := server(t, "/api/v1/groups", api.Page[api.Group]{Items: []api.Group{{Name: "sales", Users: []string{"a@b", "c@d"}}}})
	for form, want := range map[string]string{
		"table": "GROUP  USERS\nsales  a@b,c@d\n",
		"yaml":  "- name: sales\n  users:\n  - a@b\n  - c@d\n",
	} {
		if stdout, stderr, code := run(t, append(args, "get", "groups", "-o", form)...); code != 0 || stdout != want {
			t.Errorf("%s: %d, %q, %q", form, code, stdout, stderr)
		}
	}
	stdout, _, _ := run(t, append(args, "get", "groups", "-o", "json")...)
	var groups []api.Group
	if err := json.Unmarshal([]byte(stdout), &groups); err != nil || len(groups) != 1 {
		t.Errorf("%v: %q", err, stdout)
	}
}

func TestAllFaultsOfAllFilesAreSaidAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.yaml")
	text := `apiVersion: waxseal/v1
kind: PKCSImportedCertificate
name: x
spec: {intendedPurpos: smimeEncryption}
---
apiVersion: waxseal/v1
kind: PKCSCertificate
name: sign
spec: {certificateAuthority: softca, subject: "CN={{Nobody}}", validity: 9000d}
---
apiVersion: waxseal/v1
kind: Assignment
name: a
spec: {profiles: [ghost], include: [{group: g, user: u}]}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := server(t, "/api/v1/objects", api.Page[any]{Items: []any{}})
	_, stderr, code := run(t, append(args, "apply", "-f", file)...)
	for _, want := range []string{"intendedPurpos", "Nobody", "validity", "ghost", "include[0]"} {
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%d: %q lacks %q", code, stderr, want)
		}
	}
}
