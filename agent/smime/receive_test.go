package smime

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// counted is a key that counts what it is asked for.
type counted struct {
	crypto.Decrypter
	asked int
}

func (c *counted) Decrypt(random io.Reader, text []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	c.asked++
	return c.Decrypter.Decrypt(random, text, opts)
}

// A message that names one recipient again and again, each time with a key that does not open it, costs no more than a
// few private key operations. Only the public certificate is needed to write one.
func TestRecipientNamedAgainAndAgain(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	id := ca.Issue(t, testpki.Options{})
	impostor := ca.Issue(t, testpki.Options{Serial: id.Cert.SerialNumber})
	sealed, err := cms.Encrypt(rand.Reader, []byte("\r\nx"), slices.Repeat([]*x509.Certificate{impostor.Cert}, 50), cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key := &counted{Decrypter: id.RSA()}
	if _, _, err := open(sealed, []Key{{Certificate: id.Cert, Key: key}}); !errors.Is(err, ErrDecrypt) {
		t.Errorf("%v", err)
	}
	if key.asked == 0 || key.asked > 8 {
		t.Errorf("%d private key operations", key.asked)
	}
}
