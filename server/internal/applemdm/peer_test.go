package applemdm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// TestOpenSSLReadsTheFixture keeps the hand-made signature honest: what our verifier is tried with must be CMS to others.
func TestOpenSSLReadsTheFixture(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	dir := t.TempDir()
	body := idle(t, udid)
	id := testpki.NewCA(t, "device CA").Issue(t, testpki.Options{CN: "x"})
	for name, data := range map[string][]byte{"sig": appleSignature(t, id, body), "body": body, "other": append(body, ' ')} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for content, want := range map[string]bool{"body": true, "other": false} {
		cmd := exec.CommandContext(t.Context(), openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", "sig", "-content", content, "-noverify", "-out", os.DevNull)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("%s: %v: %s", content, err, out)
		}
	}
}
