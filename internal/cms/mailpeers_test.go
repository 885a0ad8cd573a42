package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// nss puts the identity into an NSS database under the nickname "ada" and trusts its CA. NSS reads PKCS #12 that
// OpenSSL wrote.
func nss(t *testing.T, kind testpki.KeyType) (dir string, ca *testpki.CA, id *testpki.Identity) {
	t.Helper()
	need(t, "certutil")
	dir, ca, id = home(t, kind)
	peer(t, dir, "certutil", "-N", "-d", "sql:"+dir, "--empty-password")
	peer(t, dir, "certutil", "-A", "-n", "ca", "-t", "CT,CT,CT", "-i", "ca.pem", "-d", "sql:"+dir)
	peer(t, dir, "openssl", "pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-name", "ada", "-passout", "pass:pw", "-out", "p12")
	peer(t, dir, "pk12util", "-i", "p12", "-W", "pw", "-d", "sql:"+dir)
	return dir, ca, id
}

func TestNSSSignatures(t *testing.T) {
	for _, kind := range []testpki.KeyType{testpki.RSA2048, testpki.P256} {
		t.Run(fmt.Sprintf("key %d", kind), func(t *testing.T) {
			dir, ca, id := nss(t, kind)
			der, err := Sign(longContent(), id.Cert, id.Key, SignOptions{
				Chain: []*x509.Certificate{ca.Cert}, SigningTime: testpki.Now(), Capabilities: true, EncryptionKeyPreference: id.Cert,
			})
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "signed", der)
			if got := peer(t, dir, "cmsutil", "-D", "-d", "sql:"+dir, "-i", "signed"); !bytes.Equal(got, longContent()) {
				t.Error("NSS reads other content")
			}
			for _, extra := range [][]string{nil, {"-T"}} {
				args := append([]string{"-S", "-d", "sql:" + dir, "-N", "ada", "-H", "SHA256", "-G", "-P", "-i", "content"}, extra...)
				checkForeign(t, peer(t, dir, "cmsutil", args...), id, extra != nil)
			}
		})
	}
}

// checkForeign verifies a signature over longContent by id.
func checkForeign(t *testing.T, der []byte, id *testpki.Identity, detached bool) {
	t.Helper()
	signed, err := Verify(der)
	if detached {
		signed, err = VerifyDetached(der, longContent())
	}
	if err != nil {
		t.Fatal(err)
	}
	if !signed.Signer.Equal(id.Cert) || !bytes.Equal(signed.Content, longContent()) {
		t.Error("signer or content differs")
	}
}

func TestNSSEnvelopes(t *testing.T) {
	dir, _, id := nss(t, testpki.RSA2048)
	for _, opts := range []EncryptOptions{{}, {Cipher: AES128CBC}} {
		der, err := Encrypt(rand.Reader, longContent(), []*x509.Certificate{id.Cert}, opts)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "sealed", der)
		if got := peer(t, dir, "cmsutil", "-D", "-d", "sql:"+dir, "-i", "sealed"); !bytes.Equal(got, longContent()) {
			t.Errorf("NSS reads other content (%+v)", opts)
		}
	}
	der := peer(t, dir, "cmsutil", "-E", "-d", "sql:"+dir, "-r", "ada@example.com", "-i", "content")
	if got, err := Decrypt(der, id.Cert, id.Key); err != nil || !bytes.Equal(got, longContent()) {
		t.Errorf("from NSS: %d bytes, %v", len(got), err)
	}
}

// gpg makes a gpgsm home with the identity, whose CA it trusts.
func gpg(t *testing.T) (dir string, ca *testpki.CA, id *testpki.Identity) {
	t.Helper()
	need(t, "gpgsm")
	dir, ca, id = home(t, testpki.RSA2048)
	t.Setenv("GNUPGHOME", dir)
	t.Cleanup(func() { _, _ = try(t, dir, "gpgconf", "--kill", "all") })
	fingerprint := peer(t, dir, "sh", "-c", "openssl x509 -in ca.pem -noout -fingerprint -sha1 | cut -d= -f2")
	write(t, dir, "trustlist.txt", append(bytes.TrimSpace(fingerprint), " S relax\n"...))
	write(t, dir, "gpgsm.conf", []byte("disable-crl-checks\n"))
	// gpgsm misreads one salt in 128 (TestGpgsmImportsLegacyDES), so three are offered.
	for range 3 {
		peer(t, dir, "openssl", "pkcs12", "-export", "-legacy", "-descert", "-in", "cert.pem", "-inkey", "key.pem", "-certfile", "ca.pem",
			"-passout", "pass:pw", "-out", "p12")
		_, err := try(t, dir, "sh", "-c", "echo pw | gpgsm --batch --pinentry-mode loopback --passphrase-fd 0 --import p12")
		if err == nil {
			return dir, ca, id
		}
	}
	t.Fatal("gpgsm takes no PKCS #12 file of OpenSSL")
	return "", nil, nil
}

func TestGpgsm(t *testing.T) {
	dir, ca, id := gpg(t)
	sign := func(detached bool) []byte {
		der, err := Sign(longContent(), id.Cert, id.Key, SignOptions{
			Detached: detached, Chain: []*x509.Certificate{ca.Cert}, SigningTime: testpki.Now(), Capabilities: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	write(t, dir, "signed", sign(true))
	peer(t, dir, "gpgsm", "--batch", "--verify", "signed", "content")
	write(t, dir, "signed", sign(false))
	peer(t, dir, "gpgsm", "--batch", "--verify", "signed")

	der, err := Encrypt(rand.Reader, longContent(), []*x509.Certificate{id.Cert}, EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "sealed", der)
	got := peer(t, dir, "sh", "-c", "echo pw | gpgsm --batch --pinentry-mode loopback --passphrase-fd 0 -d sealed")
	if !bytes.Equal(got, longContent()) {
		t.Error("gpgsm reads other content")
	}
	checkGpgsmWrites(t, dir, id)
}

func checkGpgsmWrites(t *testing.T, dir string, id *testpki.Identity) {
	t.Helper()
	for _, cipher := range []string{"AES256", "3DES"} {
		out := filepath.Join(dir, "sealed."+cipher)
		peer(t, dir, "gpgsm", "--batch", "--cipher-algo", cipher, "-o", out, "-r", "ada@example.com", "-e", "content")
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decrypt(der, id.Cert, id.Key); err != nil || !bytes.Equal(got, longContent()) {
			t.Errorf("%s from gpgsm: %d bytes, %v", cipher, len(got), err)
		}
	}
	for _, flag := range []string{"--sign", "--detach-sign"} {
		der := peer(t, dir, "sh", "-c", "echo pw | gpgsm --batch --pinentry-mode loopback --passphrase-fd 0 "+flag+" content")
		checkForeign(t, der, id, strings.HasPrefix(flag, "--detach"))
	}
}
