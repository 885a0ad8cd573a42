package apple

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"io"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// counted is a key that counts how often it is asked to decrypt.
type counted struct {
	*rsa.PrivateKey
	asked int
}

func (c *counted) Decrypt(random io.Reader, text []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	c.asked++
	return c.PrivateKey.Decrypt(random, text, opts)
}

// A profile that names one identity again and again, each time with a key that does not open it, costs no more than a
// few private key operations.
func TestIdentityNamedAgainAndAgain(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	id := ca.Issue(t, testpki.Options{})
	impostor := ca.Issue(t, testpki.Options{Serial: id.Cert.SerialNumber})
	sealed, err := cms.Encrypt(rand.Reader, []byte("<plist/>"), slices.Repeat([]*x509.Certificate{impostor.Cert}, 50), cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key, keys := &counted{PrivateKey: id.RSA()}, &keychain.Keychain{}
	if err := keys.Add(keychain.Item{Certificate: id.Cert, Key: key}, keychain.Holder{}); err != nil {
		t.Fatal(err)
	}
	if _, err := openWith(keys, sealed); err == nil {
		t.Error("opened")
	}
	if key.asked == 0 || key.asked > 8 {
		t.Errorf("%d private key operations", key.asked)
	}
}
