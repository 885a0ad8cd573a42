package keyring

import (
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
)

var testNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// testKeyring has an escrow root, and CAs unless there is something to do before.
func testKeyring(t *testing.T, before func(*Keyring)) *Keyring {
	t.Helper()
	o := Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}
	k, err := Create(filepath.Join(t.TempDir(), "keyring"), Settings{Name: "test", PKIURL: "http://pki.corp.test/pki"}, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	root, err := k.MakeRoot()
	if err == nil {
		err = k.PinRoot(escrow.Fingerprint(root))
	}
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(k)
	}
	if err := k.MakeAuthorities(); err != nil {
		t.Fatal(err)
	}
	return k
}

func family(t *testing.T, k *Keyring) Family {
	t.Helper()
	f, err := k.SMIME()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestIssuingCA is the S/MIME baseline requirements, section 7.1.2.2.
func TestIssuingCA(t *testing.T) {
	f := family(t, testKeyring(t, nil))
	if len(f.Issuing) != 1 || f.Root == nil || f.Root.Certificate.MaxPathLen != 1 {
		t.Fatalf("%d issuing CAs, root %v", len(f.Issuing), f.Root)
	}
	c := f.Current().Certificate
	roots := x509.NewCertPool()
	roots.AddCert(f.Anchor())
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}); err != nil {
		t.Error(err)
	}
	if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("path length %d, key usage %b", c.MaxPathLen, c.KeyUsage)
	}
	if len(c.CRLDistributionPoints) != 1 || c.CRLDistributionPoints[0] != "http://pki.corp.test/pki/crl/softca-root.crl" ||
		len(c.IssuingCertificateURL) != 1 || c.IssuingCertificateURL[0] != "http://pki.corp.test/pki/aia/softca-root.cer" {
		t.Errorf("distribution points %v, issuer %v", c.CRLDistributionPoints, c.IssuingCertificateURL)
	}
	if _, err := f.Root.Sign(&x509.Certificate{IsCA: true}, c.PublicKey); err == nil {
		t.Error("Sign made another CA")
	}
}

func TestRoll(t *testing.T) {
	k := testKeyring(t, nil)
	first := family(t, k).Current()
	next, err := k.RollSMIME()
	if err != nil {
		t.Fatal(err)
	}
	f := family(t, k)
	if next.Name != "softca-2" || f.Current() != next || f.Issuing[0] != first || len(f.All()) != 3 {
		t.Errorf("issuing CA %s, family %v", next.Name, f)
	}
	if f.IssuerOf(next.Certificate) != nil || f.Named("softca-2") != next || f.Named("softca-root") != nil {
		t.Error("the root counts as an issuing CA")
	}
	if next.Certificate.CheckSignatureFrom(f.Anchor()) != nil {
		t.Error("the next issuing CA is not under the root")
	}
}

// TestRollCutShort: a CA counts from when its certificate is there, which is written last. Before, the next try makes it.
func TestRollCutShort(t *testing.T) {
	for name, before := range map[string]func(k *Keyring) error{
		"after the audit entry":     func(k *Keyring) error { return k.Audit(Event{Action: ActionRoll}) },
		"while the key was written": func(k *Keyring) error { return os.WriteFile(k.Path(".softca-2.key.1"), []byte("half"), 0o600) },
		"after the key was written": func(k *Keyring) error { return k.writePrivate("softca-2.key", []byte("another key")) },
		"while its certificate was": func(k *Keyring) error { return os.WriteFile(k.Path(".softca-2.pem.1"), []byte("half"), 0o600) },
	} {
		k := testKeyring(t, nil)
		if err := before(k); err != nil {
			t.Fatal(err)
		}
		if f := family(t, k); len(f.Issuing) != 1 {
			t.Errorf("%s: %d issuing CAs", name, len(f.Issuing))
		}
		next, err := k.RollSMIME()
		if err != nil || next.Name != "softca-2" {
			t.Errorf("%s: got %v, %v", name, next, err)
			continue
		}
		again, err := Open(k.dir, Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }})
		if err != nil {
			t.Fatal(err)
		}
		if f := family(t, again); len(f.Issuing) != 2 || !f.Current().Certificate.Equal(next.Certificate) {
			t.Errorf("%s: opened anew: %d issuing CAs", name, len(f.Issuing))
		}
	}
}

// TestFormerKeyring: an S/MIME CA that was its own root goes on issuing.
func TestFormerKeyring(t *testing.T) {
	k := testKeyring(t, func(k *Keyring) {
		if err := k.makeRoot(SoftCA, "Waxseal S/MIME CA"); err != nil {
			t.Fatal(err)
		}
	})
	f := family(t, k)
	if f.Root != nil || len(f.Issuing) != 1 || f.Anchor() != f.Current().Certificate || len(f.ChainOf(f.Current())) != 1 {
		t.Errorf("family %+v", f)
	}
	if _, err := k.RollSMIME(); err == nil || !strings.Contains(err.Error(), "its own root") {
		t.Errorf("got %v", err)
	}
}

func TestShareAndReceive(t *testing.T) {
	a := testKeyring(t, nil)
	o := Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }}
	b, err := Create(filepath.Join(t.TempDir(), "b"), Settings{Name: "b", EscrowRoot: a.Settings().EscrowRoot}, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	var old []byte
	for round := range 3 {
		sealed, err := a.ShareAuthorities(b.Member())
		if err != nil {
			t.Fatal(err)
		}
		if old == nil {
			old = sealed
		}
		for _, message := range [][]byte{sealed, sealed, old} { // again, and an old one, as a server may
			if err := b.ReceiveAuthorities(message); err != nil {
				t.Fatal(err)
			}
		}
		x, y := family(t, a), family(t, b)
		if len(y.Issuing) != round+1 || !y.Current().Certificate.Equal(x.Current().Certificate) || !y.Anchor().Equal(x.Anchor()) {
			t.Fatalf("round %d: %d issuing CAs arrived", round, len(y.Issuing))
		}
		if _, err := a.RollSMIME(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStrangeSharedNames(t *testing.T) {
	k := testKeyring(t, nil)
	some, err := k.exportAuthority(SoftCA)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []AuthorityName{"softca-1", "softca-100", "../softca", "softca-2/x", "other"} {
		all := map[AuthorityName]sharedCA{DeviceCA: some, SoftCA: some, name: some}
		if err := k.storeShared(all); err == nil || !strings.Contains(err.Error(), "no CA that this connector knows") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := k.storeShared(map[AuthorityName]sharedCA{SoftCA: some}); err == nil {
		t.Error("a message without the device CA was taken")
	}
}
