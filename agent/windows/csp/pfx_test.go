package csp

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

func certs(ids ...*testpki.Identity) []*x509.Certificate {
	var out []*x509.Certificate
	for _, id := range ids {
		out = append(out, id.Cert)
	}
	return out
}

const allDone = "200, 200, 200, 200, 200, 200"

func TestImport(t *testing.T) {
	for _, flavour := range []pfx.Flavour{pfx.LegacyDES, pfx.Modern2023} {
		t.Run(string(flavour), func(t *testing.T) {
			f := modern(t)
			ann := f.identity("Ann", testpki.Options{Emails: []string{"ann@example.test"}})
			f.want(allDone, atomic(nodes(syncml.Add, "A1", f.sealed("secret", f.mdm), "1", f.pfx(ann, "secret", flavour))...))
			f.wantValue(userPFX+"/A1/Status", "0")
			f.wantValue(userPFX+"/a1/thumbprint", thumbprint(ann.Cert))
			f.wantValue(userPFX+"/A1/PFXCertBlob", "[405 0x86000017]")
			f.wantValue(userPFX+"/A1/PFXCertPassword", "[405 0x86000017]")
			f.wantValue(userPFX+"/A1/PFXKeyExportable", "false")
			wantStore(t, f.PC, "User/My", "A1:Ann:true")
			wantStore(t, f.PC, "Device/My")
			f.want("507 0x800700B7, 418 0x800700B7, 215, 215, 215, 215",
				atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(ann, "secret", flavour))...))
			f.want("200, 404 0x86000002", del(userPFX+"/A1"), del(userPFX+"/A1"))
			wantStore(t, f.PC, "User/My")
		})
	}
}

// TestOrder has the blob first, as Microsoft's sample nearly does.
func TestOrder(t *testing.T) {
	f := modern(t)
	all := nodes(syncml.Add, "A1", "secret", "0", f.pfx(f.identity("Ann", testpki.Options{}), "secret", pfx.LegacyDES))
	f.want(allDone, atomic(all[4], all[0], all[1], all[2], all[3]))
	wantStore(t, f.PC, "User/My", "A1:Ann:true")
}

func TestReplacePFX(t *testing.T) {
	f := modern(t)
	ann, bob := f.identity("Ann", testpki.Options{}), f.identity("Bob", testpki.Options{})
	f.want("507 0x86000002, 404 0x86000002, 215, 215, 215, 215",
		atomic(nodes(syncml.Replace, "A1", "secret", "0", f.pfx(ann, "secret", pfx.LegacyDES))...))
	f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(ann, "secret", pfx.LegacyDES))...))
	f.want(allDone, atomic(nodes(syncml.Replace, "A1", "other", "0", f.pfx(bob, "other", pfx.LegacyDES))...))
	wantStore(t, f.PC, "User/My", "A1:Bob:true")
	f.wantValue(userPFX+"/A1/Thumbprint", thumbprint(bob.Cert))
}

// importCase is a delivery that the PC refuses; change edits its commands.
type importCase struct {
	name           string
	build          string
	rules          Rules
	kind, password string
	blob           string
	change         func([]syncml.Command)
	want, status   string // HRESULT, and the value of the Status node
}

func importCases(f *fixture) []importCase {
	const now, old = "10.0.22631.3007", "10.0.14393.1"
	ann := f.identity("Ann", testpki.Options{})
	blob := f.pfx(ann, "secret", pfx.LegacyDES)
	key := func(location, exportable string) func([]syncml.Command) {
		return func(c []syncml.Command) { c[0].Items[0].Data, c[1].Items[0].Data = location, exportable }
	}
	container := add(userPFX+"/A1/ContainerName", "chr", "x")
	return []importCase{
		{"wrong password", now, Rules{}, "0", "wrong", blob, nil, "0x80070056", "86"},
		{"AES on an old build", old, Rules{}, "0", "secret", f.pfx(ann, "secret", pfx.Modern2023), nil, "0x80070056", "86"},
		{"no PFX", now, Rules{}, "0", "secret", encodeBase64(ann.Cert.Raw), nil, "0x8009310B", "-2146881269"},
		{"type 1 in clear", now, Rules{}, "1", "secret", blob, nil, "0x8007000D", "13"},
		{"encrypted to another", now, Rules{}, "1", f.sealed("secret", ann), blob, nil, "0x80090005", "-2146893819"},
		{"no such store", now, Rules{}, "2", f.sealed("secret", ann), blob, nil, "0x80090005", "-2146893819"},
		{"exportable in the TPM", now, Rules{}, "0", "secret", blob, key("2", "true"), "0x80070057", "87"},
		{"Hello without container", now, Rules{}, "0", "secret", blob, key("4", "false"), "0x80070057", "87"},
		{"no TPM", now, Rules{NoTPM: true}, "0", "secret", blob, key("1", "false"), "0x80090029", "-2146893783"},
		{"no KeyLocation", now, Rules{}, "0", "secret", blob, func(c []syncml.Command) { c[0] = container }, "0x80070057", "87"},
		{"exportable not said", now, Rules{StrictExportable: true}, "0", "secret", blob, func(c []syncml.Command) {
			c[0].Items[0].Data, c[1] = "2", container
		}, "0x80070057", "87"},
	}
}

// TestRefusedImport holds the numbers of the Status node against the reasons.
func TestRefusedImport(t *testing.T) {
	for _, tt := range importCases(modern(t)) {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.build, tt.rules)
			commands := nodes(syncml.Add, "A1", tt.password, tt.kind, tt.blob)
			if tt.change != nil {
				tt.change(commands)
			}
			before := frozen(t, f.PC)
			f.want("507 "+tt.want+", 216, 216, 216, 216, 500 "+tt.want, atomic(commands...))
			if frozen(t, f.PC) != before {
				t.Error("the failed import left something behind")
			}
			f.want("200, 200, 200, 200, 500 "+tt.want, commands...)
			f.wantValue(userPFX+"/A1/Status", tt.status)
			f.wantValue(userPFX+"/A1/Thumbprint", "[404 0x86000002]")
			wantStore(t, f.PC, "User/My")
			if s := frozen(t, f.PC); strings.Contains(s, tt.blob) || strings.Contains(s, `"value":"`+tt.password+`"`) {
				t.Error("the state keeps the file or the password")
			}
		})
	}
}

func TestTakenImport(t *testing.T) {
	tests := []struct {
		name, build, location string
		rules                 Rules
		flavour               pfx.Flavour
		opts                  testpki.Options
	}{
		{name: "3DES on an old build", build: "10.0.14393.1", location: "3", flavour: pfx.LegacyDES},
		{name: "the first build with AES", build: "10.0.16299.15", location: "3", flavour: pfx.Modern2023},
		{name: "TPM", build: "10.0.22631.1", location: "1", flavour: pfx.LegacyDES},
		{name: "TPM if there", build: "10.0.22631.1", location: "2", flavour: pfx.LegacyDES, rules: Rules{NoTPM: true}},
		{name: "EC", build: "10.0.22631.1", location: "3", flavour: pfx.Modern2023, opts: testpki.Options{KeyType: testpki.P256}},
		{name: "expired", build: "10.0.22631.1", location: "3", flavour: pfx.Modern2023, opts: testpki.Options{NotAfter: testpki.Now().AddDate(0, -1, 0)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.build, tt.rules)
			commands := nodes(syncml.Add, "A1", "secret", "0", f.pfx(f.identity("Ann", tt.opts), "secret", tt.flavour))
			commands[0].Items[0].Data = tt.location
			f.want(allDone, atomic(commands...))
			wantStore(t, f.PC, "User/My", "A1:Ann:true")
		})
	}
}

// TestPasswordToStore encrypts the password to a certificate that is in the user's store (type 2).
func TestPasswordToStore(t *testing.T) {
	f := modern(t)
	first, second := f.identity("first", testpki.Options{}), f.identity("second", testpki.Options{})
	f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(first, "secret", pfx.LegacyDES))...))
	commands := nodes(syncml.Add, "A2", f.sealed("other", first), "2", f.pfx(second, "other", pfx.LegacyDES))
	commands = append([]syncml.Command{add(userPFX+"/A2/PFXCertPasswordEncryptionStore", "chr", "My")}, commands...)
	f.want(allDone+", 200", atomic(commands...))
	wantStore(t, f.PC, "User/My", "A1:first:true", "A2:second:true")
}

func TestChainComesAlong(t *testing.T) {
	f := modern(t)
	sub := f.ca.Intermediate(t, "Issuing CA")
	ann := sub.Issue(t, testpki.Options{CN: "Ann"})
	raw, err := pfx.Encode(randomReader{}, pfx.Identity{PrivateKey: ann.Key, Certificate: ann.Cert, Chain: []*x509.Certificate{sub.Cert, f.ca.Cert}}, "secret", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", encodeBase64(raw))...))
	wantStore(t, f.PC, "User/CA", thumbprint(sub.Cert)+":Issuing CA:false")
	wantStore(t, f.PC, "User/Root")
	f.do(del(userPFX + "/A1"))
	wantStore(t, f.PC, "User/CA")
}

// randomReader is not random at all.
type randomReader struct{}

func (randomReader) Read(p []byte) (int, error) {
	for n := range p {
		p[n] = byte(n)
	}
	return len(p), nil
}

// TestOpenSSL imports files that OpenSSL wrote, in both flavours, one of them with two keys.
func TestOpenSSL(t *testing.T) {
	for name, args := range map[string][]string{
		"3DES": {"-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"},
		"AES":  nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := modern(t)
			ann := f.identity("Ann", testpki.Options{})
			args := append([]string{"pkcs12", "-export", "-in", "pair.pem", "-passout", "pass:secret", "-name", "Encryption 2019-2022"}, args...)
			raw := openssl(t, map[string][]byte{"pair.pem": append(ann.KeyPEM(), ann.CertPEM()...)}, args...)
			f.want(allDone, atomic(nodes(syncml.Add, "A1", f.sealedByOpenSSL("secret"), "1", encodeBase64(raw))...))
			wantStore(t, f.PC, "User/My", "A1:Ann:true")
			if name := f.Certificates("User/My")[0].FriendlyName; name != "Encryption 2019-2022" {
				t.Errorf("the friendly name is %q", name)
			}
		})
	}
}

func (f *fixture) sealedByOpenSSL(password string) string {
	f.t.Helper()
	t := f.t.(*testing.T)
	return encodeBase64(openssl(t, map[string][]byte{"to.pem": f.mdm.CertPEM(), "password": []byte(password)},
		"cms", "-encrypt", "-aes256", "-binary", "-outform", "DER", "-in", "password", "to.pem"))
}

// openssl runs OpenSSL beside some files. When it is missing the test is skipped, unless the run is strict.
func openssl(t *testing.T, files map[string][]byte, args ...string) []byte {
	t.Helper()
	if _, err := osexec.LookPath("openssl"); err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := osexec.Command("openssl", args...)
	cmd.Dir = dir
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return out.Bytes()
}

// TestState proves that the JSON form is all that management changed, and that the tree hides secrets.
func TestState(t *testing.T) {
	f := modern(t)
	ann, bob := f.identity("Ann", testpki.Options{}), f.identity("Bob", testpki.Options{KeyType: testpki.P256})
	f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(ann, "secret", pfx.LegacyDES))...))
	f.want(allDone, atomic(nodes(syncml.Add, "B1", "secret", "0", f.pfx(bob, "secret", pfx.Modern2023))...))
	f.AddProvisioned("Device/Root", f.ca.Cert)
	f.SetLogin("others")
	raw, err := json.Marshal(f.PC)
	if err != nil {
		t.Fatal(err)
	}
	again := &PC{}
	if err := json.Unmarshal(raw, again); err != nil {
		t.Fatal(err)
	}
	again.Configure(f.config("10.0.22631.1", Rules{}))
	if frozen(t, again) != string(raw) || again.Login() != "others" {
		t.Error("the state changed on its way to the disk and back")
	}
	wantStore(t, again, "User/My", "A1:Ann:true", "B1:Bob:true")
	wantStore(t, again, "Device/Root", thumbprint(f.ca.Cert)+":Example CA:false")
	again.SetLogin("user")
	(&fixture{PC: again, t: t}).want("200", del(userPFX+"/A1"))
	wantStore(t, again, "User/My", "B1:Bob:true")
	for _, bad := range []string{`[]`, `{"certificates":[{"certificate":"AA=="}]}`} {
		if json.Unmarshal([]byte(bad), &PC{}) == nil {
			t.Errorf("%s is taken for a state", bad)
		}
	}
}

func TestTree(t *testing.T) {
	f := modern(t)
	f.want("200, 200", add(userPFX+"/A1/PFXCertPassword", "chr", "secret"), replace(dmc+"/UPN", "chr", "ann@example.test"))
	shown := map[string]string{}
	for _, n := range f.Tree() {
		shown[n.Path] = n.Format + " " + n.Value
	}
	for path, want := range map[string]string{
		userPFX + "/A1":                            "node ",
		userPFX + "/A1/PFXCertPassword":            "chr ********",
		userPFX + "/A1/PFXKeyExportable":           "bool true",
		dmc + "/UPN":                               "chr ann@example.test",
		dmc + "/Poll/IntervalForFirstSetOfRetries": "int 15",
		"./DevInfo/DmV":                            "chr 1.3",
	} {
		if shown[path] != want {
			t.Errorf("%s is %q, want %q", path, shown[path], want)
		}
	}
}

func TestUnenrolled(t *testing.T) {
	f := modern(t)
	ann := f.identity("Ann", testpki.Options{})
	f.want(allDone, atomic(nodes(syncml.Add, "A1", "secret", "0", f.pfx(ann, "secret", pfx.LegacyDES))...))
	f.AddProvisioned("Device/Root", f.ca.Cert)
	f.Unenrolled()
	if len(f.Stores()) > 0 || frozen(t, f.PC) != `{"login":"user"}` {
		t.Errorf("left behind: %s", frozen(t, f.PC))
	}
}
