package setup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/linktest"
	"github.com/waxseal/waxseal/internal/escrow"
)

var testNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func options() keyring.Options {
	return keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}
}

func newInit(t *testing.T, s *linktest.Server, name string) Init {
	t.Helper()
	return Init{Dir: filepath.Join(t.TempDir(), name), Server: s.URL, Name: name, Options: options(),
		Token: func() (string, error) { return "token-1", nil }}
}

func mustRun(t *testing.T, i Init) Outcome {
	t.Helper()
	out, err := i.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func syncer(t *testing.T, dir string) Syncer {
	t.Helper()
	k, err := keyring.Open(dir, options())
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Syncer{Keyring: k, Client: client}
}

func TestFirstConnector(t *testing.T) {
	s := linktest.New(t)
	i := newInit(t, s, "first")
	i.RecoveryOut = filepath.Join(t.TempDir(), "recovery")
	out := mustRun(t, i)
	if !out.Changed || out.Further {
		t.Errorf("got %+v", out)
	}
	set, err := s.KeySet.Verify(out.EscrowRoot, 1)
	if err != nil || len(set.Members) != 2 || set.Members[0].ID != out.Member {
		t.Fatalf("the published key set: %+v, %v", set, err)
	}
	pin, err := os.ReadFile(filepath.Join(i.Dir, "escrow-root"))
	if err != nil || strings.TrimSpace(string(pin)) != out.EscrowRoot {
		t.Errorf("escrow-root holds %q, %v", pin, err)
	}
	checkRA(t, s)
	checkModes(t, i.Dir)
	if again := mustRun(t, i); again.Changed || again.EscrowRoot != out.EscrowRoot {
		t.Errorf("repeated: %+v", again)
	}
}

func checkRA(t *testing.T, s *linktest.Server) {
	t.Helper()
	ra, err := x509.ParseCertificate(s.RA)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(s.DeviceCA)
	if err != nil {
		t.Fatal(err)
	}
	if err := ra.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if ra.IsCA || len(ra.ExtKeyUsage) != 0 || len(ra.URIs) != 0 {
		t.Error("the RA certificate could pass for a device's")
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

// TestInitBrokenOffAnywhere lets each request of init fail in turn, before and after its effect, and repeats it.
func TestInitBrokenOffAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for fail := 1; fail <= 4; fail++ {
			s := linktest.New(t)
			n := 0
			s.Fail = func(string) (int, bool) {
				if n++; n == fail {
					return 502, after
				}
				return 0, false
			}
			i := newInit(t, s, "first")
			if _, err := i.Run(t.Context()); err == nil {
				t.Fatalf("request %d failed and init did not say so", fail)
			}
			out := mustRun(t, i)
			set, err := s.KeySet.Verify(out.EscrowRoot, 1)
			if err != nil || set.Members[0].ID != out.Member || s.RA == nil || len(s.Connectors) != 1 {
				t.Errorf("request %d, after %v: %+v, %v", fail, after, set, err)
			}
		}
	}
}

func TestFurtherConnector(t *testing.T) {
	s := linktest.New(t)
	first := newInit(t, s, "first")
	root := mustRun(t, first).EscrowRoot
	second := newInit(t, s, "second")
	out := mustRun(t, second)
	if !out.Further || out.EscrowRoot != root {
		t.Fatalf("got %+v, want the root %s", out, root)
	}
	if _, err := os.Stat(filepath.Join(second.Dir, "escrow-root.key")); err == nil {
		t.Error("a further connector keeps a root of its own")
	}
	b := syncer(t, second.Dir)
	if err := b.Sync(t.Context()); !errors.Is(err, ErrNotApproved) {
		t.Errorf("before approve: %v", err)
	}
	if _, _, err := b.Approve(t.Context(), out.Member); !errors.Is(err, keyring.ErrNoRoot) {
		t.Errorf("it approves itself: %v", err)
	}
	a := syncer(t, first.Dir)
	if _, _, err := a.Approve(t.Context(), strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), out.Member) {
		t.Errorf("an unknown fingerprint: %v", err)
	}
	name, changed, err := a.Approve(t.Context(), "SHA256:"+strings.ToUpper(out.Member))
	if err != nil || name != "second" || !changed {
		t.Fatalf("approve: %q, %v, %v", name, changed, err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatalf("after approve: %v", err)
	}
	sameAuthorities(t, a.Keyring, b.Keyring)
	if set, err := b.Keyring.KeySet(); err != nil || set.Serial != 2 || len(set.Members) != 2 {
		t.Errorf("key set %+v, %v", set, err)
	}
	if _, changed, err := a.Approve(t.Context(), out.Member); err != nil || changed {
		t.Errorf("approve repeated: %v, %v", changed, err)
	}
}

func sameAuthorities(t *testing.T, a, b *keyring.Keyring) {
	t.Helper()
	for _, name := range []keyring.AuthorityName{keyring.DeviceCA, keyring.SoftCA} {
		x, err := a.Authority(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Authority(name)
		if err != nil {
			t.Fatal(err)
		}
		if !x.Certificate.Equal(y.Certificate) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestApproveBrokenOff(t *testing.T) {
	s := linktest.New(t)
	first, second := newInit(t, s, "first"), newInit(t, s, "second")
	mustRun(t, first)
	out := mustRun(t, second)
	a := syncer(t, first.Dir)
	s.Fail = func(path string) (int, bool) {
		if strings.HasSuffix(path, "/publish") {
			return 503, false
		}
		return 0, false
	}
	if _, _, err := a.Approve(t.Context(), out.Member); err == nil {
		t.Fatal("publish failed and approve did not say so")
	}
	s.Fail = nil
	if _, _, err := syncer(t, first.Dir).Approve(t.Context(), out.Member); err != nil {
		t.Fatal(err)
	}
	if err := syncer(t, second.Dir).Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if set, err := a.Keyring.KeySet(); err != nil || set.Serial != 2 {
		t.Errorf("serial %d, %v: approve repeated must not sign again", set.Serial, err)
	}
}

func TestDishonestServer(t *testing.T) {
	s := linktest.New(t)
	first, second := newInit(t, s, "first"), newInit(t, s, "second")
	root := mustRun(t, first).EscrowRoot
	old := *s.KeySet
	second.EscrowRoot = root
	out := mustRun(t, second)
	a, b := syncer(t, first.Dir), syncer(t, second.Dir)
	if _, _, err := a.Approve(t.Context(), out.Member); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := *s.KeySet
	_, evil, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := escrow.GenerateKey(rand.Reader, escrow.SuiteHybrid)
	forged, err := escrow.SignKeySet(escrow.KeySet{Serial: 9, Members: []escrow.Member{key.Member(escrow.MemberConnector, "evil")}}, evil)
	if err != nil {
		t.Fatal(err)
	}
	mixed := escrow.SignedKeySet{KeySet: forged.KeySet, Root: good.Root, Signature: good.Signature}
	for name, set := range map[string]escrow.SignedKeySet{"rolled back": old, "another root": forged, "swapped": mixed} {
		s.KeySet = &set
		if err := b.Sync(t.Context()); err == nil || Passing(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if got, err := b.Keyring.KeySet(); err != nil || got.Serial != 2 {
			t.Errorf("%s: the key set seen is now %+v, %v", name, got, err)
		}
	}
}

// TestPlantedCAs: HPKE does not say who sealed, so a server can seal CA keys of its own to a pending connector.
func TestPlantedCAs(t *testing.T) {
	s, other := linktest.New(t), linktest.New(t)
	root := mustRun(t, newInit(t, s, "first")).EscrowRoot
	second := newInit(t, s, "second")
	second.EscrowRoot = root
	mustRun(t, second)
	b := syncer(t, second.Dir)
	evil := newInit(t, other, "evil")
	mustRun(t, evil)
	sealed, err := syncer(t, evil.Dir).Keyring.ShareAuthorities(b.Keyring.Member())
	if err != nil {
		t.Fatal(err)
	}
	s.Connectors["c2"].SealedCAs, s.Connectors["c2"].Pending = sealed, false
	var wrong *escrow.WrongRootError
	if err := b.Sync(t.Context()); !errors.As(err, &wrong) || b.Keyring.HasAuthorities() {
		t.Errorf("got %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	s := linktest.New(t)
	i := newInit(t, s, "first")
	i.Options.Passphrase = []byte("correct horse")
	mustRun(t, i)
	for _, pass := range []string{"", "wrong"} {
		o := options()
		o.Passphrase = []byte(pass)
		if _, err := keyring.Open(i.Dir, o); !errors.Is(err, keyring.ErrPassphrase) {
			t.Errorf("passphrase %q: %v", pass, err)
		}
	}
	o := options()
	o.Passphrase = []byte("correct horse")
	if _, err := keyring.Open(i.Dir, o); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"escrow.key", "escrow-root.key", "device-ca.key", "softca.key", "credential"} {
		data, err := os.ReadFile(filepath.Join(i.Dir, name))
		if err != nil || !bytes.HasPrefix(data, []byte("waxseal keyring file v1\n")) || bytes.Contains(data, []byte("PRIVATE KEY")) {
			t.Errorf("%s is not encrypted: %v", name, err)
		}
	}
	swap(t, i.Dir)
	if _, err := keyring.Open(i.Dir, o); err == nil || !strings.Contains(err.Error(), "altered") {
		t.Errorf("two private files were swapped: %v", err)
	}
}

func swap(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "softca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "escrow.key"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	s := linktest.New(t)
	i := newInit(t, s, "first")
	mustRun(t, i)
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*Init){
		"belongs to the server": func(i *Init) { i.Server = "https://other.corp.test" },
		"is no URL":             func(i *Init) { i.Server = "waxseal.corp.test" },
		"chmod 700":             func(i *Init) { i.Dir = open },
		"unknown token":         func(i *Init) { i.Dir += "2"; i.Token = func() (string, error) { return "spent", nil } },
		"is pinned":             func(i *Init) { i.EscrowRoot = escrow.Fingerprint(nil) },
	}
	for want, change := range cases {
		changed := i
		change(&changed)
		if _, err := changed.Run(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestLostSettings: init on a keyring without its settings must not put a new escrow key in the old one's place.
func TestLostSettings(t *testing.T) {
	s := linktest.New(t)
	i := newInit(t, s, "first")
	mustRun(t, i)
	before, err := os.ReadFile(filepath.Join(i.Dir, "escrow.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(i.Dir, "keyring.json")); err != nil {
		t.Fatal(err)
	}
	_, runErr := i.Run(t.Context())
	after, err := os.ReadFile(filepath.Join(i.Dir, "escrow.key"))
	if runErr == nil || !strings.Contains(runErr.Error(), "backup") || err != nil || !bytes.Equal(before, after) {
		t.Errorf("got %v; the escrow key changed: %v", runErr, !bytes.Equal(before, after))
	}
}

func TestServerURLNeedsTLS(t *testing.T) {
	for url, ok := range map[string]bool{"http://waxseal.corp.test": false, "http://10.0.0.1:80": false, "ftp://x": false,
		"http://127.0.0.1:1": true, "http://[::1]:1": true, "https://waxseal.corp.test": true} {
		i := Init{Dir: filepath.Join(t.TempDir(), "k"), Server: url, Options: options()}
		if _, err := i.open(); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestPKIURLThatHasNoPlaceInACertificate(t *testing.T) {
	for url, ok := range map[string]bool{"": true, "http://pki.corp.test": true, "http://pki.corp.test/a/": true, "ldap://x": false, "pki": false,
		"http://u:p@x": false, "http://x/?q": false, "http://x/\u00e9": false, "http://" + strings.Repeat("x", 300): false} {
		if err := checkPKIURL(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestTwoSetsOfOneSerial: of two sets that the root signed under one number, a server could show each to somebody.
func TestTwoSetsOfOneSerial(t *testing.T) {
	s := linktest.New(t)
	i := newInit(t, s, "first")
	mustRun(t, i)
	k := syncer(t, i.Dir).Keyring
	set, err := k.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	other, err := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	if err != nil {
		t.Fatal(err)
	}
	set.Members = append(set.Members, other.Member(escrow.MemberConnector, "other"))
	if _, err := k.SignKeySet(set); err == nil || !strings.Contains(err.Error(), "serial 1") {
		t.Errorf("got %v", err)
	}
}

// TestRoll: the first connector alone makes issuing CAs, and the server is told of both.
func TestRoll(t *testing.T) {
	s := linktest.New(t)
	first, second := newInit(t, s, "first"), newInit(t, s, "second")
	mustRun(t, first)
	out := mustRun(t, second)
	a, b := syncer(t, first.Dir), syncer(t, second.Dir)
	if _, _, err := a.Approve(t.Context(), out.Member); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Roll(t.Context()); !errors.Is(err, keyring.ErrNoRoot) {
		t.Errorf("a further connector: %v", err)
	}
	next, err := a.Roll(t.Context())
	if err != nil || next.Name != "softca-2" {
		t.Fatalf("got %v, %v", next, err)
	}
	if !bytes.Contains(s.Seen.Bytes(), []byte(base64.StdEncoding.EncodeToString(next.Certificate.Raw))) {
		t.Error("the server did not hear of the new issuing CA")
	}
	s.Fail = func(string) (int, bool) { return http.StatusServiceUnavailable, false }
	next, err = a.Roll(t.Context())
	if err == nil || next == nil || next.Name != "softca-3" {
		t.Errorf("while the server is away: %v, %v", next, err)
	}
	s.Fail = nil
	for _, c := range s.Connectors {
		if c.Request.Member.ID == b.Keyring.Member().ID {
			err = b.Keyring.ReceiveAuthorities(c.SealedCAs)
		}
	}
	f, _ := b.Keyring.SMIME()
	if err != nil || len(f.Issuing) != 2 || f.Root == nil {
		t.Errorf("the other connector got %d issuing CAs, %v", len(f.Issuing), err)
	}
}
