package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// peer runs an outside tool in dir and fails the test when it does. A missing tool skips, unless the run is strict.
func peer(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	out, err := try(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, dir, name string, args ...string) ([]byte, error) {
	t.Helper()
	need(t, name)
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out, diagnostics bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	if err := cmd.Run(); err != nil {
		return diagnostics.Bytes(), err
	}
	return out.Bytes(), nil
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// home is a folder with a signer, its CA and the content in files.
func home(t *testing.T, kind testpki.KeyType) (dir string, ca *testpki.CA, id *testpki.Identity) {
	t.Helper()
	dir = t.TempDir()
	ca = testpki.NewCA(t, "Peer CA")
	id = ca.Issue(t, testpki.Options{CN: "Ada", Emails: []string{"ada@example.com"}, KeyType: kind})
	write(t, dir, "ca.pem", ca.CertPEM())
	write(t, dir, "cert.pem", id.CertPEM())
	write(t, dir, "key.pem", id.KeyPEM())
	write(t, dir, "content", longContent())
	return dir, ca, id
}

// longContent is longer than the segments in which peers stream.
func longContent() []byte { return bytes.Repeat([]byte("a line of a longer letter\r\n"), 1000) }

func TestOpenSSLVerifiesWhatWeSign(t *testing.T) {
	for _, kind := range []testpki.KeyType{testpki.RSA2048, testpki.P256, testpki.P384} {
		for _, detached := range []bool{false, true} {
			t.Run(fmt.Sprintf("key %d detached %v", kind, detached), func(t *testing.T) {
				dir, ca, id := home(t, kind)
				der, err := Sign(longContent(), id.Cert, id.Key, SignOptions{
					Detached: detached, Chain: []*x509.Certificate{ca.Cert}, SigningTime: testpki.Now(),
					Capabilities: true, EncryptionKeyPreference: id.Cert,
				})
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, "signed", der)
				args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", "signed", "-CAfile", "ca.pem", "-out", "out"}
				if detached {
					args = append(args, "-content", "content")
				}
				peer(t, dir, "openssl", args...)
				if got, _ := os.ReadFile(filepath.Join(dir, "out")); !bytes.Equal(got, longContent()) {
					t.Error("content differs")
				}
			})
		}
	}
}

func TestWeVerifyWhatOpenSSLSigns(t *testing.T) {
	cases := map[string]struct {
		kind testpki.KeyType
		args []string
	}{
		"attached":        {testpki.RSA2048, []string{"-nodetach"}},
		"streamed":        {testpki.RSA2048, []string{"-nodetach", "-stream"}},
		"key identifier":  {testpki.RSA2048, []string{"-nodetach", "-keyid"}},
		"pss":             {testpki.RSA2048, []string{"-nodetach", "-keyopt", "rsa_padding_mode:pss"}},
		"sha384":          {testpki.RSA2048, []string{"-nodetach", "-md", "sha384"}},
		"ec p384 sha512":  {testpki.P384, []string{"-nodetach", "-md", "sha512"}},
		"ec p256":         {testpki.P256, []string{"-nodetach"}},
		"detached":        {testpki.RSA2048, nil},
		"apple, detached": {testpki.RSA2048, []string{"-stream", "-noattr", "-md", "sha1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, _, id := home(t, c.kind)
			args := append([]string{"cms", "-sign", "-binary", "-in", "content", "-signer", "cert.pem", "-inkey", "key.pem",
				"-outform", "DER", "-out", "signed"}, c.args...)
			peer(t, dir, "openssl", args...)
			der, _ := os.ReadFile(filepath.Join(dir, "signed"))
			signed, err := verifyEither(der, strings.Contains(name, "detached"))
			if err != nil {
				t.Fatal(err)
			}
			if !signed.Signer.Equal(id.Cert) || !bytes.Equal(signed.Content, longContent()) {
				t.Error("signer or content differs")
			}
		})
	}
}

func verifyEither(der []byte, detached bool) (*Signed, error) {
	if detached {
		return VerifyDetached(der, longContent())
	}
	return Verify(der)
}

func TestOpenSSLDecryptsWhatWeEncrypt(t *testing.T) {
	for _, kind := range []testpki.KeyType{testpki.RSA2048, testpki.P256, testpki.P384} {
		for _, opts := range []EncryptOptions{{}, {Cipher: AES128CBC}, {Cipher: TripleDESCBC}, {Cipher: AES256GCM}, {OAEP: true}} {
			if kind != testpki.RSA2048 && opts.Cipher == TripleDESCBC {
				continue
			}
			t.Run(fmt.Sprintf("key %d %+v", kind, opts), func(t *testing.T) {
				dir, ca, id := home(t, kind)
				other := ca.Issue(t, testpki.Options{CN: "Other"})
				der, err := Encrypt(rand.Reader, longContent(), []*x509.Certificate{other.Cert, id.Cert}, opts)
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, "sealed", der)
				got := peer(t, dir, "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "sealed",
					"-recip", "cert.pem", "-inkey", "key.pem")
				if !bytes.Equal(got, longContent()) {
					t.Error("content differs")
				}
			})
		}
	}
}

func TestWeDecryptWhatOpenSSLEncrypts(t *testing.T) {
	cases := map[string]struct {
		kind testpki.KeyType
		args []string
	}{
		"3des":             {testpki.RSA2048, []string{"-des3"}},
		"aes128":           {testpki.RSA2048, []string{"-aes128"}},
		"aes192":           {testpki.RSA2048, []string{"-aes192"}},
		"aes256, streamed": {testpki.RSA2048, []string{"-aes256", "-stream"}},
		"key identifier":   {testpki.RSA2048, []string{"-aes256", "-keyid"}},
		"gcm":              {testpki.RSA2048, []string{"-aes-256-gcm"}},
		"ec key id":        {testpki.P256, []string{"-aes256", "-keyid"}},
		"ec sha1 kdf":      {testpki.P256, []string{"-aes256"}},
		"ec p384":          {testpki.P384, []string{"-aes128"}},
	}
	options := map[string][]string{
		"oaep sha1":        {"rsa_padding_mode:oaep"},
		"oaep sha256":      {"rsa_padding_mode:oaep", "rsa_oaep_md:sha256"},
		"oaep mixed":       {"rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"},
		"ec kdf sha256":    {"ecdh_kdf_md:sha256"},
		"ec kdf sha512":    {"ecdh_kdf_md:sha512"},
		"ec cofactor mode": {"ecdh_cofactor_mode:1"},
	}
	for name, keyopts := range options {
		kind := testpki.RSA2048
		if strings.HasPrefix(name, "ec") {
			kind = testpki.P256
		}
		args := []string{"-aes256"}
		for _, o := range keyopts {
			args = append(args, "-keyopt", o)
		}
		cases[name] = struct {
			kind testpki.KeyType
			args []string
		}{kind, args}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, ca, id := home(t, c.kind)
			args := append([]string{"cms", "-encrypt", "-binary", "-in", "content", "-outform", "DER", "-out", "sealed"}, reorder(c.args)...)
			peer(t, dir, "openssl", args...)
			der, _ := os.ReadFile(filepath.Join(dir, "sealed"))
			got, err := Decrypt(der, id.Cert, id.Key)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, longContent()) {
				t.Error("content differs")
			}
			if _, err := Decrypt(der, ca.Cert, ca.Key); !errors.Is(err, ErrNoRecipient) {
				t.Errorf("for the CA: %v", err)
			}
		})
	}
}

// reorder puts the recipient in front of the options that belong to it, and the cipher in front of both.
func reorder(args []string) []string {
	out := []string{args[0]}
	if len(args) > 1 && args[1] != "-keyopt" {
		return append(args, "-recip", "cert.pem")
	}
	return append(append(out, "-recip", "cert.pem"), args[1:]...)
}

// TestDES: only who asks for it gets single DES opened.
func TestDES(t *testing.T) {
	dir, _, id := home(t, testpki.RSA2048)
	peer(t, dir, "openssl", "cms", "-encrypt", "-provider", "legacy", "-provider", "default", "-binary", "-des-cbc", "-in", "content",
		"-outform", "DER", "-out", "sealed", "cert.pem")
	der, err := os.ReadFile(filepath.Join(dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(der, id.Cert, id.Key); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Decrypt: %v", err)
	}
	if got, err := DecryptEvenDES(der, id.Cert, id.Key); err != nil || !bytes.Equal(got, longContent()) {
		t.Errorf("DecryptEvenDES: %d bytes, %v", len(got), err)
	}
}
