package authorities

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/estca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
)

// ofEST are settings of a CA, as the keyring has them.
func ofEST(t *testing.T, issuer *testpki.CA) []byte {
	t.Helper()
	options, err := json.Marshal(estca.Options{Username: "waxseal", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(ca.Settings{Name: "corp", Kind: "est", URL: "https://est.corp.test", Issuers: string(issuer.CertPEM()), Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// opened is a keyring, and a second look at it, as a command beside the running connector has.
func opened(t *testing.T) (running *Book, beside *keyring.Keyring) {
	t.Helper()
	dir, o := filepath.Join(t.TempDir(), "keyring"), keyring.Options{Rand: rand.Reader, Clock: testpki.Now}
	k, err := keyring.Create(dir, keyring.Settings{Name: "first"}, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if beside, err = keyring.Open(dir, o); err != nil {
		t.Fatal(err)
	}
	running, err = Open(k, ca.Env{Clock: testpki.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Close)
	return running, beside
}

// issuerOf is who issues at corp now.
func issuerOf(t *testing.T, b *Book) []byte {
	t.Helper()
	c, err := b.Named("corp")
	if err != nil {
		t.Fatal(err)
	}
	return c.Info().Certificate
}

// TestSettingsCountAtOnce: a running connector goes by what is set, changed and removed beside it.
func TestSettingsCountAtOnce(t *testing.T) {
	b, beside := opened(t)
	first, second := testpki.NewCA(t, "First CA"), testpki.NewCA(t, "Second CA")
	if _, err := b.Named("corp"); !errors.Is(err, ca.ErrUnknown) {
		t.Fatalf("before it is set: %v", err)
	}
	for _, issuer := range []*testpki.CA{first, second, first} {
		if err := beside.SetCASettings("corp", ofEST(t, issuer)); err != nil {
			t.Fatal(err)
		}
		if string(issuerOf(t, b)) != string(issuer.Cert.Raw) {
			t.Errorf("%s does not issue", issuer.Cert.Subject)
		}
	}
	if err := beside.DropCASettings("corp"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Named("corp"); !errors.Is(err, ca.ErrUnknown) {
		t.Errorf("after its end: %v", err)
	}
	if err := beside.SetCASettings("corp", ofEST(t, second)); err != nil {
		t.Fatal(err)
	}
	if string(issuerOf(t, b)) != string(second.Cert.Raw) {
		t.Error("set again, it does not issue")
	}
}

// TestSameSettingsSameCA: nothing is opened anew for each job, so that locks and connections hold.
func TestSameSettingsSameCA(t *testing.T) {
	b, beside := opened(t)
	raw := ofEST(t, testpki.NewCA(t, "Corp CA"))
	var before any
	for range 2 {
		if err := beside.SetCASettings("corp", raw); err != nil {
			t.Fatal(err)
		}
		c, err := b.Named("corp")
		if err != nil || before != nil && before != any(c) {
			t.Errorf("%v: it was opened anew", err)
		}
		before = c
	}
}

// TestNamesFromTheServer: the name in a job is foreign, and leads to no file.
func TestNamesFromTheServer(t *testing.T) {
	b, beside := opened(t)
	if err := beside.SetCASettings("corp", ofEST(t, testpki.NewCA(t, "Corp CA"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../cas/corp", "corp/", "./corp", "Corp", "corp\x00", "../keyring"} {
		if _, err := b.Named(name); !errors.Is(err, ca.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestDamagedSettings are said when somebody asks for the CA; put right, they count.
func TestDamagedSettings(t *testing.T) {
	b, beside := opened(t)
	issuer := testpki.NewCA(t, "Corp CA")
	if err := beside.SetCASettings("corp", []byte(`{"name":"corp","kind":"est"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Named("corp"); err == nil || !strings.Contains(err.Error(), "url") {
		t.Errorf("without an address: %v", err)
	}
	if err := os.WriteFile(beside.Path("cas/corp.json"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Named("corp"); err == nil || !strings.Contains(err.Error(), "corp") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := Open(beside, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), "corp") {
		t.Errorf("at the start: %v", err)
	}
	if err := beside.SetCASettings("corp", ofEST(t, issuer)); err != nil {
		t.Fatal(err)
	}
	if string(issuerOf(t, b)) != string(issuer.Cert.Raw) {
		t.Error("put right, it does not issue")
	}
}
