package main

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/internal/testpki"
)

const outlook = "com.microsoft.office.outlook"

// newAndroid makes the state folder of an Android device with a mail identity and its root in it, as the companion app
// would have put them there.
func newAndroid(t *testing.T) (string, *testpki.Identity) {
	t.Helper()
	ca := testpki.NewCA(t, "mail CA")
	id := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@example.com"}})
	d, err := android.Open(android.Config{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the preparation
	p := d.Phone()
	if ok, err := p.InstallCACert(android.Package, ca.Cert.Raw); !ok || err != nil {
		t.Fatal(ok, err)
	}
	pair := framework.KeyPair{Key: id.Key, Chain: []*x509.Certificate{id.Cert}}
	if ok, err := p.InstallKeyPair(android.Package, "smime-enc-1", pair, framework.FlagRequestAccess); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := p.GrantKeyPairToApp(android.Package, "smime-enc-1", outlook); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := d.Save(); err != nil {
		t.Fatal(err)
	}
	return d.Folder().Dir, id
}

func TestKeychainOfAndroid(t *testing.T) {
	dir, id := newAndroid(t)
	code, out, errs := run(t, "", "keychain", "list", "--json", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	items := map[string]listedItem{}
	for line := range strings.Lines(out) {
		var item listedItem
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		items[item.Profile] = item
	}
	own, ca := items["work:smime-enc-1"], items["work:ca"]
	if len(items) != 2 || !own.HasPrivateKey || own.Alias != "smime-enc-1" || len(own.Grants) != 1 || own.Grants[0] != outlook || ca.HasPrivateKey || ca.Alias != "" {
		t.Errorf("list: %s", out)
	}
	to := t.TempDir()
	if code, _, errs := run(t, "", "keychain", "export", "--out", to, "--state", dir); code != 0 {
		t.Error(errs)
	}
	if raw, err := os.ReadFile(filepath.Join(to, own.SHA256+".key")); err != nil || string(raw) != string(id.KeyPEM()) {
		t.Errorf("the exported key is another one: %v", err)
	}
	if code, _, errs := run(t, "", "keychain", "delete", own.SHA256[:16], "--state", dir); code != 0 {
		t.Error(errs)
	}
	if _, out, _ := run(t, "", "keychain", "list", "--state", dir); strings.Contains(out, "smime") || !strings.Contains(out, "work:ca") {
		t.Errorf("after the deletion: %s", out)
	}
}

func TestCommandsOfAndroid(t *testing.T) {
	dir, _ := newAndroid(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"info"}, `"platform":"android"`},
		{[]string{"info"}, `"capabilities":["cert_install","ca_install","has_key_pair","generate_key","cert_selection"]`},
		{[]string{"lock"}, ""},
		{[]string{"info"}, `"userUnlocked":false`},
		{[]string{"lock", "--off"}, ""},
		{[]string{"delegation", "revoke", "cert_selection"}, ""},
		{[]string{"info"}, `"capabilities":["cert_install","ca_install","has_key_pair","generate_key"]`},
		{[]string{"delegation", "grant", "cert_selection"}, ""},
		{[]string{"apps", "list"}, "com.google.android.gm\t1"},
		{[]string{"apps", "install", "org.example.mail"}, ""},
		{[]string{"apps", "list"}, "org.example.mail"},
		{[]string{"apps", "remove", "org.example.mail"}, ""},
		{[]string{"apps", "reinstall", outlook}, ""},
		{[]string{"keychain", "list", "--json"}, `"alias":"smime-enc-1"}`}, // without grants
	}
	for _, tt := range tests {
		code, out, errs := run(t, "", append(tt.args, "--state", dir)...)
		if code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %s%s", tt.args, out, errs)
		}
	}
}

func TestMailOfAndroid(t *testing.T) {
	dir, id := newAndroid(t)
	cert := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(cert, id.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	const message = "From: alice@example.com\nTo: bob@example.com\nSubject: x\n\nHello\n"
	code, signed, errs := run(t, message, "mail", "sign", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := run(t, signed, "mail", "verify", "--app", "com.google.android.gm", "--state", dir); code != 0 || !strings.Contains(out, "Hello") {
		t.Errorf("verify: %s%s", out, errs)
	}
	code, sealed, errs := run(t, signed, "mail", "encrypt", "--cert", cert, "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := run(t, sealed, "mail", "decrypt", "--app", outlook, "--state", dir); code != 0 || out != signed {
		t.Errorf("decrypt: %d %s\n%s", code, errs, out)
	}
	if code, out, _ := run(t, sealed, "mail", "decrypt", "--app", "com.google.android.gm", "--state", dir); code != 1 || out != "" {
		t.Error("an app opens mail by a key that it was not granted")
	}
}

func TestBadUseOfAndroid(t *testing.T) {
	dir, _ := newAndroid(t)
	phone, _ := newDevice(t)
	computer, _ := newPC(t)
	fresh := t.TempDir()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"sync", "--state", dir}, "hint: waxseal-agent enroll LINK --platform android"},
		{[]string{"run", "--state", dir}, "not enrolled"},
		{[]string{"unenroll", "--state", dir}, "not enrolled"},
		{[]string{"sync", "--chaos", "notnow", "--state", dir}, "chaos knows no"},
		{[]string{"renew", "--state", dir}, "not enrolled"},
		{[]string{"tree", "--state", dir}, "tree is for PCs"},
		{[]string{"policies", "--state", dir}, "policies is for PCs"},
		{[]string{"logon", "none", "--state", dir}, "logon is for PCs"},
		{[]string{"profiles", "list", "--state", dir}, "this device runs Android"},
		{[]string{"profiles", "export", "--state", dir}, "this device runs Android"},
		{[]string{"profiles", "remove", "x", "--state", dir}, "this device runs Android"},
		{[]string{"keychain", "delete", "zz", "--state", dir}, "no key with the alias"},
		{[]string{"apps", "remove", "org.example.none", "--state", dir}, "not installed"},
		{[]string{"apps", "install", "none", "--state", dir}, "package"},
		{[]string{"apps", "list", "--state", phone}, "apps is for Android devices"},
		{[]string{"apps", "install", outlook, "--state", computer}, "apps is for Android devices"},
		{[]string{"delegation", "grant", "cert_install", "--state", phone}, "delegation is for Android devices"},
		{[]string{"delegation", "grant", "everything", "--state", dir}, `"everything" is not simulated`},
		{[]string{"delegation", "keep", "cert_install", "--state", dir}, "use grant or revoke"},
		{[]string{"mail", "verify", "--app", "org.example.none", "--state", dir}, "not installed"},
		{[]string{"mail", "verify", "--app", outlook, "--state", phone}, "--app is for Android devices"},
		{[]string{"enroll", "nothing", "--state", dir}, "enrols with a link"},
		{[]string{"enroll", "x", "--platform", "ios", "--state", dir}, "platform android"},
		{[]string{"enroll", "x", "--user", "ann", "--state", dir}, "--user does not go with"},
		{[]string{"enroll", "x", "--apns", "y", "--state", dir}, "--apns does not go with"},
		{[]string{"enroll", "x", "--management-mode", "NONE", "--state", phone}, "--management-mode does not go with"},
		{[]string{"enroll", "x", "--platform", "android", "--management-mode", "BOSS", "--state", fresh}, "COMPANION"},
		{[]string{"enroll", "x", "--platform", "android", "--os-version", "8", "--state", fresh}, "is not simulated"},
		{[]string{"enroll", "x", "--platform", "android", "--ca", filepath.Join(fresh, "none"), "--state", fresh}, "no such file"},
	}
	for _, tt := range tests {
		if code, out, errs := run(t, "", tt.args...); code != 1 || out != "" || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: %d %q %q", tt.args, code, out, errs)
		}
	}
}
