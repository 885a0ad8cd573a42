package apple

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

func openssl(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

func TestMDMSignatureWithOpenSSL(t *testing.T) {
	ca := testpki.NewCA(t, "device CA")
	id := ca.Issue(t, testpki.Options{CN: "phone"})
	body := []byte("<plist>body</plist>")
	raw, err := signLikeAnIPhone(body, identity{id.Cert, id.Key})
	if err != nil {
		t.Fatal(err)
	}
	if raw[1] != 0x80 {
		t.Error("not of indefinite length")
	}
	if got, err := cms.VerifyDetached(raw, body); err != nil || !got.Signer.Equal(id.Cert) {
		t.Errorf("our own CMS: %v", err)
	}
	if _, err := cms.VerifyDetached(raw, append(body, '!')); err == nil {
		t.Error("verifies over another body")
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"sig": raw, "body": body, "ca": ca.CertPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := openssl(t, nil, "cms", "-verify", "-inform", "DER", "-binary", "-in", filepath.Join(dir, "sig"), "-content", filepath.Join(dir, "body"),
		"-CAfile", filepath.Join(dir, "ca"), "-purpose", "any", "-no_check_time")
	if !bytes.Equal(got, body) {
		t.Errorf("openssl: %q", got)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signLikeAnIPhone(body, identity{id.Cert, key}); err == nil {
		t.Error("signed with an EC key")
	}
}

// A certificate request is what OpenSSL thinks it is.
func TestCSRWithOpenSSL(t *testing.T) {
	names, err := readNames(dict{"rfc822Name": alice, "dNSName": []any{"x.example.com"}, "ntPrincipalName": "a@corp"})
	if err != nil {
		t.Fatal(err)
	}
	r := &scepRequest{challenge: "a!b", usage: 5, san: names}
	if r.subject, err = readSubject([]any{[]any{[]any{"O", "Ex"}}, []any{[]any{"CN", "phone"}, []any{"2.5.4.5", "77"}}}); err != nil {
		t.Fatal(err)
	}
	der, err := r.csr(testpki.PoolKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	text := string(openssl(t, der, "req", "-inform", "DER", "-text", "-verify", "-noout"))
	for _, want := range []string{"O = Ex, serialNumber = 77 + CN = phone", "challengePassword", ":a!b", "Digital Signature, Key Encipherment", "email:" + alice, "DNS:x.example.com", "othername"} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl does not show %q:\n%s", want, text)
		}
	}
	for _, bad := range []any{"x", []any{"x"}, []any{[]any{"CN"}}, []any{[]any{"FOO", "x"}}, []any{[]any{"CN", 1}}} {
		if _, err := readSubject([]any{bad}); err == nil {
			t.Errorf("%v is a subject", bad)
		}
	}
}
