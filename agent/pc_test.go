package main

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows/csp"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// newPC makes the state folder of a PC with a mail identity and its root in it, as a server would have put them there.
func newPC(t *testing.T) (string, *testpki.Identity) {
	t.Helper()
	ca := testpki.NewCA(t, "mail CA")
	id := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@example.com"}})
	data, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	add := func(uri, format, value string) syncml.Command {
		return syncml.Command{Verb: syncml.Add, Items: []syncml.Item{{Target: uri, Format: format, Data: value}}}
	}
	const at = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall/ID/"
	sum := sha1.Sum(ca.Cert.Raw)
	commands, _ := syncml.Number(1, []syncml.Command{
		{Verb: syncml.Atomic, Commands: []syncml.Command{
			add(at+"KeyLocation", "int", "3"), add(at+"PFXKeyExportable", "bool", "false"), add(at+"PFXCertPassword", "chr", "x"),
			add(at+"PFXCertBlob", "chr", base64.StdEncoding.EncodeToString(data)),
		}},
		add("./Device/Vendor/MSFT/RootCATrustedCertificates/Root/"+strings.ToUpper(hex.EncodeToString(sum[:]))+"/EncodedCertificate", "b64", base64.StdEncoding.EncodeToString(ca.Cert.Raw)),
	})
	tree := csp.New(csp.Config{})
	answers, _ := tree.Execute("1", commands)
	for _, a := range answers {
		if a.Data != "200" {
			t.Fatalf("%+v", a)
		}
	}
	info, err := device.NewWindowsInfo(nil, "", "")
	if err != nil {
		t.Fatal(err)
	}
	f, err := device.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // end of the preparation
	if err := f.Save(struct {
		device.Info
		PC *csp.PC `json:"pc"`
	}{info, tree}); err != nil {
		t.Fatal(err)
	}
	return f.Dir, id
}

func TestKeychainOfAPC(t *testing.T) {
	dir, id := newPC(t)
	code, out, errs := run(t, "", "keychain", "list", "--json", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	stores := map[string]listedItem{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var item listedItem
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		stores[item.Profile] = item
	}
	own := stores["User/My"]
	if len(stores) != 2 || !own.HasPrivateKey || own.Addresses[0] != "alice@example.com" || stores["Device/Root"].HasPrivateKey {
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
	if _, out, _ := run(t, "", "keychain", "list", "--state", dir); strings.Contains(out, "User/My") {
		t.Errorf("after the deletion: %s", out)
	}
}

func TestCommandsOfAPC(t *testing.T) {
	dir, _ := newPC(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"info"}, `"platform":"windows"`},
		{[]string{"logon", "none"}, ""},
		{[]string{"info"}, `"logon":"none"`},
		{[]string{"tree"}, "PFXCertInstall/ID/KeyLocation\tint\t3\n"},
		{[]string{"tree", "--json"}, `"format":"int"`},
		{[]string{"policies"}, ""},
	}
	for _, tt := range tests {
		code, out, errs := run(t, "", append(tt.args, "--state", dir)...)
		if code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %s%s", tt.args, out, errs)
		}
	}
}

func TestMailOfAPC(t *testing.T) {
	dir, id := newPC(t)
	cert := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(cert, id.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	const message = "From: alice@example.com\nTo: bob@example.com\nSubject: x\n\nHello\n"
	code, signed, errs := run(t, message, "mail", "sign", "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := run(t, signed, "mail", "verify", "--state", dir); code != 0 || !strings.Contains(out, "Hello") {
		t.Errorf("verify: %s%s", out, errs)
	}
	code, sealed, errs := run(t, signed, "mail", "encrypt", "--cert", cert, "--state", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := run(t, sealed, "mail", "decrypt", "--state", dir); code != 0 || out != signed || !strings.Contains(errs, "signed inside by alice@example.com") {
		t.Errorf("decrypt: %d %s\n%s", code, errs, out)
	}
}

func TestBadUseOfAPC(t *testing.T) {
	dir, _ := newPC(t)
	phone, _ := newDevice(t)
	empty := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"sync", "--state", dir}, "hint: waxseal-agent enroll LINK --platform windows"},
		{[]string{"run", "--state", dir}, "not enrolled"},
		{[]string{"unenroll", "--state", dir}, "not enrolled"},
		{[]string{"renew", "--state", dir}, "not enrolled"},
		{[]string{"sync", "--chaos", "notnow", "--state", dir}, "chaos knows no"},
		{[]string{"lock", "--state", dir}, "lock is for iPhones"},
		{[]string{"profiles", "list", "--state", dir}, "profiles is for iPhones"},
		{[]string{"profiles", "export", "--state", dir}, "profiles is for iPhones"},
		{[]string{"profiles", "remove", "x", "--state", dir}, "profiles is for iPhones"},
		{[]string{"logon", "anybody", "--state", dir}, "cannot log on"},
		{[]string{"keychain", "delete", "zz", "--state", dir}, "no store holds"},
		{[]string{"enroll", "nothing", "--state", dir}, "a PC enrols with"},
		{[]string{"enroll", "x", "--platform", "ios", "--state", dir}, "platform windows"},
		{[]string{"enroll", "x", "--apns", "https://x", "--state", dir}, "--apns does not go with"},
		{[]string{"enroll", "x", "--secret-file", empty, "--state", dir}, "nothing on its first line"},
		{[]string{"enroll", "x", "--enrollment-type", "Half", "--state", dir}, "enrolment type"},
		{[]string{"enroll", "x", "--auth-policy", "Certificate", "--state", dir}, "not simulated"},
		{[]string{"enroll", "x", "--platform", "windows", "--state", phone}, "platform ios"},
		{[]string{"enroll", "x", "--user", "ann", "--state", phone}, "--user does not go with"},
		{[]string{"tree", "--state", phone}, "tree is for PCs"},
		{[]string{"policies", "--state", phone}, "policies is for PCs"},
		{[]string{"renew", "--state", phone}, "renew is for PCs"},
		{[]string{"logon", "none", "--state", phone}, "logon is for PCs"},
		{[]string{"keychain", "delete", "x", "--state", phone}, "keychain delete is for PCs"},
	}
	for _, tt := range tests {
		if code, out, errs := run(t, "", tt.args...); code != 1 || out != "" || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: %d %q %q", tt.args, code, out, errs)
		}
	}
}
