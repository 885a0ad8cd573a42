package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// run carries out a command line and returns exit code and both outputs.
func run(t *testing.T, in string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), args, Streams{In: strings.NewReader(in), Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

// device makes a state folder with a mail identity in it.
func newDevice(t *testing.T) (string, *testpki.Identity) {
	t.Helper()
	ca := testpki.NewCA(t, "mail CA")
	id := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@example.com"}})
	data, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	payload := func(kind, name string, content []byte) map[string]any {
		return map[string]any{"PayloadType": kind, "PayloadVersion": 1, "PayloadIdentifier": "org." + name, "PayloadUUID": name, "PayloadContent": content, "Password": "x"}
	}
	raw, err := proplist.Encode(map[string]any{
		"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": "org.mail", "PayloadUUID": "T",
		"PayloadContent": []any{payload("com.apple.security.root", "root", ca.Cert.Raw), payload("com.apple.security.pkcs12", "id", data)},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, err := apple.Open(apple.Config{State: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the preparation
	if err := d.InstallFile(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func TestKeychainAndProfiles(t *testing.T) {
	dir, id := newDevice(t)
	code, out, errs := run(t, "", "keychain", "list", "--json", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	found := false
	for _, line := range lines {
		var item map[string]any
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"sha256", "subject", "addresses", "notBefore", "notAfter", "hasPrivateKey", "profile"} {
			if _, there := item[key]; !there {
				t.Errorf("%s is missing: %s", key, line)
			}
		}
		found = found || item["hasPrivateKey"] == true && item["profile"] == "org.mail"
	}
	if !found || len(lines) != 2 {
		t.Errorf("list: %s", out)
	}
	to := t.TempDir()
	for _, args := range [][]string{
		{"keychain", "export", "--out", to, "--state", dir}, {"profiles", "export", "--out", to, "--state", dir},
		{"profiles", "list", "--state", dir}, {"keychain", "list", "--state", dir}, {"info", "--state", dir},
		{"lock", "--state", dir}, {"lock", "--off", "--state", dir},
	} {
		if code, _, errs := run(t, "", args...); code != 0 {
			t.Errorf("%v: %s", args, errs)
		}
	}
	keys, err := filepath.Glob(filepath.Join(to, "*.key"))
	if err != nil || len(keys) != 1 {
		t.Errorf("exported keys: %v", keys)
	}
	raw, err := os.ReadFile(keys[0])
	if err != nil || !bytes.Equal(raw, id.KeyPEM()) {
		t.Errorf("the exported key is another one: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "org.mail.mobileconfig")); err != nil {
		t.Error(err)
	}
}

func TestMailCommands(t *testing.T) {
	dir, id := newDevice(t)
	cert := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(cert, id.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	const message = "From: alice@example.com\nTo: bob@example.com\nSubject: x\n\nHello\n"
	code, signed, errs := run(t, message, "mail", "sign", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := run(t, signed, "mail", "verify", "--state", dir); code != 0 || !strings.Contains(out, "Hello") || !strings.Contains(errs, "signed by alice@example.com") {
		t.Errorf("verify: %s%s", out, errs)
	}
	code, sealed, errs := run(t, signed, "mail", "encrypt", "--cert", cert, "--state", dir)
	if code != 0 || strings.Contains(sealed, "Hello") {
		t.Fatal(errs)
	}
	code, out, errs := run(t, sealed, "mail", "decrypt", "--state", dir)
	if code != 0 || out != signed || !strings.Contains(errs, "signed inside by alice@example.com") {
		t.Errorf("decrypt: %d %s\n%s", code, errs, out)
	}
	for _, args := range [][]string{{"mail", "decrypt"}, {"mail", "verify"}, {"mail", "encrypt"}, {"mail", "sign", "--from", "x@example.com"}} {
		code, out, errs := run(t, message, append(args, "--state", dir)...)
		if code != 1 || out != "" || !strings.HasPrefix(errs, "error: ") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}

func TestBadUse(t *testing.T) {
	dir, _ := newDevice(t)
	tests := map[string][]string{
		"use --state DIR":            {"sync"},
		"is not simulated":           {"enroll", "x", "--platform", "symbian", "--state", dir},
		"neither ber nor der":        {"enroll", "x", "--signature", "xml", "--state", dir},
		"the device is not enrolled": {"sync", "--state", dir},
		"hint: waxseal-agent":        {"run", "--state", dir},
		"not enrolled":               {"unenroll", "--state", dir},
		"no state folder of":         {"keychain", "list", "--state", filepath.Join(dir, "nowhere")},
		"chaos knows no":             {"sync", "--chaos", "x", "--state", dir},
		"reading the enrolment":      {"enroll", filepath.Join(dir, "no.mobileconfig"), "--state", dir},
	}
	for want, args := range tests {
		if code, out, errs := run(t, "", args...); code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}

// A script takes 0 as done: the typo in mail verify as a message whose signature is right.
func TestAMistypedCommandFails(t *testing.T) {
	for _, args := range []string{"", "mail", "mail verfy", "profiles lst", "keychain", "apps instal com.example", "enrol x"} {
		if code, out, errs := run(t, "", append(strings.Fields(args), "--state", t.TempDir())...); code != 1 || out != "" || !strings.Contains(errs, "no command given") && !strings.Contains(errs, "unknown command") {
			t.Errorf("waxseal-agent %s: %d %q %q", args, code, out, errs)
		}
	}
}

// Only enrol makes a device: an iPhone in a folder that was mistyped would refuse the PC that is enrolled there later.
func TestAMistypedFolderStaysEmpty(t *testing.T) {
	typo := filepath.Join(t.TempDir(), "typo")
	for _, args := range []string{
		"sync", "run", "unenroll", "profiles list", "profiles remove x", "keychain list", "keychain delete 00", "mail verify", "lock", "info",
		"logon none", "tree", "policies", "renew", "apps list", "apps install com.example", "delegation grant cert_install",
	} {
		code, out, errs := run(t, "", append(strings.Fields(args), "--state", typo)...)
		if code != 1 || out != "" || !strings.Contains(errs, typo) || !strings.Contains(errs, "hint: --state names") {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
	if _, err := os.Stat(typo); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
}

// apns prints its URL and nothing else, and ends when it is told to.
func TestAPNs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &lineWriter{line: make(chan string, 1)}
	done := make(chan int)
	dir := t.TempDir()
	go func() {
		done <- Run(ctx, []string{"apns", "--listen", "127.0.0.1:0", "--out", dir}, Streams{Out: out, Err: &bytes.Buffer{}})
	}()
	url := <-out.line
	cancel()
	if code := <-done; code != 0 || !strings.HasPrefix(url, "https://127.0.0.1:") || strings.Count(url, "\n") != 1 {
		t.Errorf("%d %q", code, url)
	}
	for _, name := range []string{"ca.pem", "push.pem", "push.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// lineWriter hands over what is written.
type lineWriter struct{ line chan string }

func (w *lineWriter) Write(p []byte) (int, error) {
	w.line <- string(p)
	return len(p), nil
}
