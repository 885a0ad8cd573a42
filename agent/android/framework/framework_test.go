package framework

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
)

const (
	manager = "org.example.manager"
	reader  = "org.example.mail"
)

// phone is one on which an app holds delegated scopes, with a key under the alias k.
func phone(t *testing.T, sdk int) (*Phone, KeyPair) {
	t.Helper()
	p := &Phone{SDK: sdk, Mode: ModeCompanion, Manager: manager}
	p.World.Install(manager, "1", "m")
	p.World.Install(reader, "1", "r")
	pair := newPair(t)
	if ok, err := p.InstallKeyPairBefore28(manager, "k", pair, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return p, pair
}

// chainOf parses the chain of a key.
func (p *Phone) chainOf(alias string) []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range p.Work.Keys[alias].Chain {
		cert, _ := x509.ParseCertificate(der)
		out = append(out, cert)
	}
	return out
}

func newPair(t *testing.T) KeyPair {
	t.Helper()
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "x", KeyType: testpki.P256})
	return KeyPair{Key: id.Key, Chain: []*x509.Certificate{id.Cert}}
}

// class is what came of a call in a word.
func class(ok bool, err error) string {
	var x *Exception
	switch {
	case errors.As(err, &x):
		return x.Class
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(ok)
}

// Each call, from the API level that has it on, and without it, without the right, and before the first unlocking.
func TestCalls(t *testing.T) {
	pair := newPair(t)
	tests := []struct {
		name  string
		since int
		scope string
		call  func(*Phone) (bool, error)
	}{
		{"installKeyPair", 28, ScopeCertInstall, func(p *Phone) (bool, error) { return p.InstallKeyPair(manager, "n", pair, FlagRequestAccess) }},
		{"installKeyPair without flags", 24, ScopeCertInstall, func(p *Phone) (bool, error) { return p.InstallKeyPairBefore28(manager, "n", pair, false) }},
		{"generateKeyPair", 28, ScopeCertInstall, func(p *Phone) (bool, error) {
			key, err := p.GenerateKeyPair(manager, "n", func() (*rsa.PrivateKey, error) { return testpki.PoolKey(t, 1), nil })
			return key != nil, err
		}},
		{"setKeyPairCertificate", 28, ScopeCertInstall, func(p *Phone) (bool, error) {
			return p.SetKeyPairCertificate(manager, "k", p.chainOf("k"), true)
		}},
		{"removeKeyPair", 24, ScopeCertInstall, func(p *Phone) (bool, error) { return p.RemoveKeyPair(manager, "k") }},
		{"hasKeyPair", 31, ScopeCertInstall, func(p *Phone) (bool, error) { return p.HasKeyPair(manager, "k") }},
		{"grantKeyPairToApp", 30, ScopeCertSelection, func(p *Phone) (bool, error) { return p.GrantKeyPairToApp(manager, "k", reader) }},
		{"revokeKeyPairFromApp", 30, ScopeCertSelection, func(p *Phone) (bool, error) { return p.RevokeKeyPairFromApp(manager, "k", reader) }},
		{"getKeyPairGrants", 31, ScopeCertSelection, func(p *Phone) (bool, error) {
			who, err := p.KeyPairGrants(manager, "k")
			return len(who) == 1, err
		}},
		{"installCaCert", 24, ScopeCertInstall, func(p *Phone) (bool, error) { return p.InstallCACert(manager, pair.Chain[0].Raw) }},
		{"uninstallCaCert", 24, ScopeCertInstall, func(p *Phone) (bool, error) { return true, p.UninstallCACert(manager, pair.Chain[0].Raw) }},
		{"getInstalledCaCerts", 24, ScopeCertInstall, func(p *Phone) (bool, error) {
			all, err := p.InstalledCACerts(manager)
			return len(all) == 0, err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, sdk := range []int{24, 27, 28, 29, 30, 31, 37} {
				want := "true"
				if sdk < tt.since {
					want = NoSuchMethod
				}
				p, _ := phone(t, sdk)
				if got := class(tt.call(p)); got != want {
					t.Errorf("API %d: %s, want %s", sdk, got, want)
				}
			}
			p, _ := phone(t, 35)
			p.Locked = true
			if got := class(tt.call(p)); got != IllegalState {
				t.Errorf("locked: %s", got)
			}
			for mode, want := range map[Mode]string{ModeNone: Security, ModeCompanion: Security, ModeDeviceOwner: "true", ModeProfileOwner: "true"} {
				p, _ := phone(t, 35)
				p.Mode = mode
				if err := p.World.Delegate(tt.scope, false); err != nil {
					t.Fatal(err)
				}
				if got := class(tt.call(p)); got != want {
					t.Errorf("%s without the scope: %s, want %s", mode, got, want)
				}
			}
		})
	}
}

// A key that is made here can be used by who had it made, has no certificate until it gets its own, and takes the place of
// what was under the alias.
func TestGeneratedKey(t *testing.T) {
	hardware := func() (*rsa.PrivateKey, error) { return testpki.PoolKey(t, 1), nil }
	p, pair := phone(t, 35)
	key, err := p.GenerateKeyPair(manager, "k", hardware)
	if err != nil || key == nil || p.CertificateChain(manager, "k") != nil || p.Work.Keys["k"].Fingerprint() != "" || p.PrivateKey(reader, "k") != nil {
		t.Fatal(key, err)
	}
	if ok, err := p.SetKeyPairCertificate(manager, "k", pair.Chain, true); ok || err != nil {
		t.Error("it took the certificate of another key", err)
	}
	if ok, err := p.SetKeyPairCertificate(manager, "nothing", pair.Chain, true); ok || err != nil {
		t.Error("a key that is not there took a certificate", err)
	}
	cert := testpki.SelfSigned(t, testpki.Options{Key: testpki.PoolKey(t, 1)}).Cert
	if ok, err := p.SetKeyPairCertificate(manager, "k", []*x509.Certificate{cert}, true); !ok || err != nil || p.Work.Keys["k"].Fingerprint() != Fingerprint(cert.Raw) {
		t.Error(ok, err)
	}
	if err := p.Pick(reader, "k"); err != nil {
		t.Error(err)
	}
	if _, err := p.GenerateKeyPair(manager, "", hardware); class(false, err) != IllegalArgument {
		t.Error(err)
	}
	p.StorageFull = true
	if key, err := p.GenerateKeyPair(manager, "full", hardware); key != nil || err != nil {
		t.Error(key, err)
	}
	p.StorageFull = false
	if _, err := p.GenerateKeyPair(manager, "broken", func() (*rsa.PrivateKey, error) { return nil, errors.New("broken") }); err == nil {
		t.Error("broken hardware made a key")
	}
}

func TestInstallAnswers(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		do   func(*Phone, *KeyPair) string // gives the alias
		want string
	}{
		{"as it should be", func(*Phone, *KeyPair) string { return "n" }, "true"},
		{"over another", func(*Phone, *KeyPair) string { return "k" }, "true"},
		{"no alias", func(*Phone, *KeyPair) string { return "" }, IllegalArgument},
		{"no chain", func(_ *Phone, k *KeyPair) string { k.Chain = nil; return "n" }, IllegalArgument},
		{"no key", func(_ *Phone, k *KeyPair) string { k.Key = nil; return "n" }, IllegalArgument},
		{"Ed25519", func(_ *Phone, k *KeyPair) string { k.Key = ed; return "n" }, "false"},
		{"another key", func(_ *Phone, k *KeyPair) string { k.Key = testpki.PoolKey(t, 2); return "n" }, "false"},
		{"no room", func(p *Phone, _ *KeyPair) string { p.StorageFull = true; return "n" }, "false"},
		{"no reason", func(p *Phone, _ *KeyPair) string { p.Refusals = 1; return "n" }, "false"},
		{"no screen lock, encrypted files", func(p *Phone, _ *KeyPair) string { p.World.NoScreenLock = true; return "n" }, "true"},
		{"no screen lock, encrypted disk", func(p *Phone, _ *KeyPair) string { p.World.NoScreenLock, p.DiskEncrypted = true, true; return "n" }, "false"},
	}
	for _, tt := range tests {
		p, _ := phone(t, 35)
		pair := newPair(t)
		alias := tt.do(p, &pair)
		if got := class(p.InstallKeyPair(manager, alias, pair, 0)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	p, _ := phone(t, 35)
	if got := class(p.InstallCACert(manager, []byte("nothing"))); got != "false" {
		t.Errorf("a CA that is none: %s", got)
	}
	if got := class(true, p.needScope(reader, ScopeCertInstall)); got != Security {
		t.Errorf("an app that manages nothing: %s", got)
	}
}

func TestGrants(t *testing.T) {
	p, pair := phone(t, 35)
	if got := class(p.GrantKeyPairToApp(manager, "none", reader)); got != "false" {
		t.Errorf("an alias without a key: %s", got)
	}
	if got := class(p.GrantKeyPairToApp(manager, "k", "org.example.none")); got != IllegalArgument {
		t.Errorf("no such app: %s", got)
	}
	if p.PrivateKey(reader, "k") != nil || p.CertificateChain(reader, "k") != nil {
		t.Error("an app has a key that it was not granted")
	}
	granted := func() bool { return p.PrivateKey(reader, "k") != nil && len(p.CertificateChain(reader, "k")) == 1 }
	grant := func() {
		t.Helper()
		if ok, err := p.GrantKeyPairToApp(manager, "k", reader); !ok || err != nil || !granted() {
			t.Fatal(ok, err)
		}
	}
	grant()
	if who, err := p.KeyPairGrants(manager, "k"); err != nil || !slices.Equal(who, []string{reader, manager}) {
		t.Errorf("%v %v", who, err)
	}
	if _, err := p.KeyPairGrants(manager, "none"); class(true, err) != IllegalArgument {
		t.Errorf("%v", err)
	}
	losses := map[string]func() error{
		"revoking":                        func() error { _, err := p.RevokeKeyPairFromApp(manager, "k", reader); return err },
		"another installation of the app": func() error { return p.World.Reinstall(reader) },
		"removing the app": func() error {
			err := p.World.Remove(reader)
			p.World.Install(reader, "2", "r")
			return err
		},
		"installing over": func() error { _, err := p.InstallKeyPair(manager, "k", pair, 0); return err },
	}
	for name, lose := range losses {
		grant()
		if err := lose(); err != nil || granted() {
			t.Errorf("%s leaves the grant: %v", name, err)
		}
	}
	grant()
	p.World.Install(reader, "3", "r")
	if !granted() {
		t.Error("an update of the app loses the grant")
	}
	if ok, err := p.RemoveKeyPair(manager, "k"); !ok || err != nil || granted() {
		t.Error("the key is removed and granted")
	}
	if ok, err := p.RemoveKeyPair(manager, "k"); ok || err != nil {
		t.Errorf("removed twice: %v %v", ok, err)
	}
}

func TestSelectable(t *testing.T) {
	p, pair := phone(t, 35)
	for alias, flags := range map[string]int{"hidden": 0, "shown": FlagUserSelectable} {
		if ok, err := p.InstallKeyPair(manager, alias, pair, flags); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for alias, want := range map[string]bool{"hidden": false, "shown": true, "k": true, "none": false} {
		if err := p.Pick(reader, alias); (err == nil) != want || (p.PrivateKey(reader, alias) != nil) != want {
			t.Errorf("%s: %v", alias, err)
		}
	}
	if p.PrivateKey(manager, "shown") != nil || p.PrivateKey(manager, "k") == nil {
		t.Error("access goes to those who ask for it, and to no others")
	}
}

func TestCAs(t *testing.T) {
	p, pair := phone(t, 35)
	der := pair.Chain[0].Raw
	for range 2 {
		if ok, err := p.InstallCACert(manager, der); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if all, err := p.InstalledCACerts(manager); err != nil || len(all) != 1 || len(p.Personal.CAs) != 0 {
		t.Errorf("%d %v", len(all), err)
	}
	for range 2 {
		if err := p.UninstallCACert(manager, der); err != nil || len(p.Work.CAs) != 0 {
			t.Error(err)
		}
	}
}

func TestRestrictions(t *testing.T) {
	p, _ := phone(t, 35)
	if err := p.SetApplicationRestrictions(manager, reader, map[string]any{"a": true}); err != nil || p.Restrictions[reader]["a"] != true {
		t.Errorf("%v %v", err, p.Restrictions)
	}
	if err := p.SetApplicationRestrictions(manager, reader, nil); err != nil || len(p.Restrictions) != 0 {
		t.Errorf("%v %v", err, p.Restrictions)
	}
	if err := p.SetApplicationRestrictions(reader, reader, nil); class(true, err) != Security {
		t.Errorf("%v", err)
	}
}

// The two profiles of a phone have nothing to do with each other.
func TestProfiles(t *testing.T) {
	p, _ := phone(t, 35)
	id := testpki.SelfSigned(t, testpki.Options{CN: "x"})
	file, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ImportPKCS12(&p.Personal, file, "x", "private"); err != nil {
		t.Fatal(err)
	}
	if ok, err := p.HasKeyPair(manager, "private"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	p.DeleteWorkProfile()
	if len(p.Work.Keys) != 0 || !slices.Equal(p.Personal.Aliases(), []string{"private"}) {
		t.Errorf("%v %v", p.Work.Aliases(), p.Personal.Aliases())
	}
	if err := p.DeleteKey("k"); err == nil {
		t.Error("a key was deleted that was not there")
	}
}

// android.md section 4: which versions read which files. All that Android says is that the password is wrong.
func TestPKCS12(t *testing.T) {
	id := testpki.SelfSigned(t, testpki.Options{CN: "x"})
	tests := []struct {
		flavour pfx.Flavour
		first   int
	}{{pfx.LegacyDES, 28}, {pfx.Modern2023, 34}}
	for _, tt := range tests {
		file, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", tt.flavour)
		if err != nil {
			t.Fatal(err)
		}
		for sdk := MinSDK; sdk <= MaxSDK; sdk++ {
			p, _ := phone(t, sdk)
			err := p.ImportPKCS12(&p.Work, file, "x", "mine")
			if reads := sdk >= tt.first; reads != (err == nil) || !reads && !errors.Is(err, ErrImport) {
				t.Errorf("%s, API %d: %v", tt.flavour, sdk, err)
			}
			var unknown *UnsupportedProtection
			if err != nil && (!errors.As(err, &unknown) || !strings.Contains(err.Error(), "wrong password")) {
				t.Errorf("%s, API %d: %v", tt.flavour, sdk, err)
			}
		}
		p, _ := phone(t, MaxSDK)
		if err := p.ImportPKCS12(&p.Work, file, "y", "mine"); !errors.Is(err, ErrImport) {
			t.Errorf("%s: %v", tt.flavour, err)
		}
		if err := p.ImportPKCS12(&p.Work, file, "x", ""); err == nil {
			t.Error("no alias is taken")
		}
	}
}

func TestSDKOf(t *testing.T) {
	for release, want := range map[string]int{"9": 28, "10": 29, "11": 30, "12": 31, "12.1": 32, "13": 33, "14": 34, "15": 35, "16": 36, "16.0.1": 36, "17": 37, "8": 0, "18": 0, "": 0, "x": 0} {
		if got, err := SDKOf(release); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d %v", release, got, err)
		}
	}
}

func TestWorld(t *testing.T) {
	p, _ := phone(t, 35)
	for name, err := range map[string]error{"remove": p.World.Remove("x"), "reinstall": p.World.Reinstall("x"), "delegate": p.World.Delegate("everything", true)} {
		if err == nil {
			t.Errorf("%s takes anything", name)
		}
	}
	if !slices.Equal(p.World.Packages(), []string{reader, manager}) || !p.DeviceSecure() || !p.UserUnlocked() {
		t.Errorf("%+v", p.World)
	}
	if p.SDK = 28; p.May(manager, ScopeCertSelection) {
		t.Error("Android 9 has no CERT_SELECTION")
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again Phone
	if err := json.Unmarshal(raw, &again); err != nil || again.Work.Keys["k"].Fingerprint() != p.Work.Keys["k"].Fingerprint() || len(again.World.Apps) != 0 {
		t.Errorf("%v", err)
	}
}
