package mail

import (
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/testpki"
)

// desk is a device on which the mail program chooses for itself, as on a PC.
type desk struct {
	keys   *keychain.Keychain
	folder *device.Folder
	roots  *x509.CertPool
	now    time.Time
}

func (d desk) Keychain() *keychain.Keychain   { return d.keys }
func (d desk) Roots() (*x509.CertPool, error) { return d.roots, nil }
func (d desk) Folder() *device.Folder         { return d.folder }
func (d desk) Now() time.Time                 { return d.now }

func newDesk(t *testing.T, ca *testpki.CA, ids ...*testpki.Identity) *Program {
	t.Helper()
	d := desk{keys: &keychain.Keychain{}, folder: &device.Folder{Dir: t.TempDir()}, roots: x509.NewCertPool(), now: testpki.Now()}
	d.roots.AddCert(ca.Cert)
	for _, id := range ids {
		if err := d.keys.Add(keychain.Item{Certificate: id.Cert, Key: id.Key}, keychain.Holder{Profile: "User/My"}); err != nil {
			t.Fatal(err)
		}
	}
	return New(d, rand.Reader)
}

func TestDesk(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	issue := func(years int) *testpki.Identity {
		return ca.Issue(t, testpki.Options{CN: alice, Emails: []string{alice}, NotBefore: testpki.Now().AddDate(years-1, 0, 0), NotAfter: testpki.Now().AddDate(years, 0, 0)})
	}
	old, current := issue(-3), issue(1)
	p := newDesk(t, ca, old, current)
	verdict, err := p.Verify(must2(t, p.Sign, message))
	if err != nil || !verdict.Signer.Equal(current.Cert) {
		t.Fatalf("%v", err)
	}
	sealed, _, err := p.Encrypt([]byte(message), "", []*x509.Certificate{old.Cert})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := newDesk(t, ca, old).Decrypt(sealed); err != nil {
		t.Errorf("an old key: %v", err)
	}
	_, err = newDesk(t, ca, old).Sign([]byte(message), "")
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("signed with an expired certificate: %v", err)
	}
}
