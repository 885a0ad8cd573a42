package manifest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/waxseal/waxseal/profiles"
)

const examples = "../../testdata/examples"

func softca() profiles.Known {
	return profiles.Known{CertificateAuthorities: map[string]bool{"softca": true}}
}

func loadExample(t testing.TB, name string) []profiles.Object {
	t.Helper()
	objects, faults := Load(filepath.Join(examples, name))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	return objects
}

// Both example files apply as they stand.
func TestExamplesApply(t *testing.T) {
	tests := []struct {
		file     string
		kinds    []profiles.Kind
		warnings []string
	}{
		{"sales.yaml", []profiles.Kind{"User", "User", "TrustedCertificate", "PKCSCertificate", "PKCSImportedCertificate", "Email", "Assignment"},
			[]string{"sales.yaml:78:7 Assignment sales-mail spec.exclude[0].user: user \"eve@corp.test\" is not known yet"}},
		{"all-kinds.yaml", []profiles.Kind{"TrustedCertificate", "PKCSImportedCertificate", "SCEPCertificate", "Email", "Custom", "Assignment"}, nil},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			objects := loadExample(t, test.file)
			var kinds []profiles.Kind
			for _, o := range objects {
				kinds = append(kinds, o.Kind)
			}
			if !slices.Equal(kinds, test.kinds) {
				t.Errorf("kinds %v, want %v", kinds, test.kinds)
			}
			faults, warnings := profiles.Check(objects, softca())
			if len(faults) > 0 {
				t.Errorf("faults:\n%s", faults)
			}
			if got := lines(warnings); !slices.Equal(got, test.warnings) {
				t.Errorf("warnings %q, want %q", got, test.warnings)
			}
		})
	}
}

// lines are the faults without the folder of the examples.
func lines(faults profiles.Faults) []string {
	var out []string
	for _, f := range faults {
		out = append(out, strings.ReplaceAll(f.String(), examples+"/", ""))
	}
	return out
}

func TestExampleFolderLoadsAllFiles(t *testing.T) {
	objects, faults := Load(examples)
	if len(faults) > 0 || len(objects) != 13 {
		t.Fatalf("%d objects, faults:\n%s", len(objects), faults)
	}
	trusted := objects[0].Spec.(*profiles.TrustedCertificate)
	cert, err := x509.ParseCertificate(trusted.Certificate)
	if err != nil || cert.Subject.CommonName != "Partner Root CA" {
		t.Errorf("the PEM file did not become DER: %v", err)
	}
	custom := objects[4].Spec.(*profiles.Custom)
	want, err := os.ReadFile(filepath.Join(examples, "wifi.mobileconfig"))
	if err != nil || string(custom.Content) != string(want) {
		t.Errorf("the .mobileconfig was not read as it stands: %v", err)
	}
}

// A broken file reports all its faults at once, each with its place.
func TestAllFaultsWithPlaces(t *testing.T) {
	const broken = `apiVersion: waxseal/v1
kind: User
name: alice
spec:
  displayname: Alice
  addresses: [alice@corp.test, alice]
---
apiVersion: waxseal/v2
kind: PKCSCertificate
name: signing
spec:
  certificateAuthority: nowhere
  subject: "CN={{Nobody}}"
  keySize: "big"
  keySize: 1024
  validity: 1d
---
kind: Mail
apiVersion: waxseal/v1
name: 12
---
apiVersion: waxseal/v1
kind: TrustedCertificate
name: root
spec: {certificateFile: gone.pem}
`
	objects, faults := LoadFS(fstest.MapFS{"b.yaml": {Data: []byte(broken)}}, "b.yaml")
	more, _ := profiles.Check(objects, softca())
	want := []string{
		"b.yaml:5:3 User alice spec.displayname: unknown field; write it displayName",
		"b.yaml:8:1 PKCSCertificate signing apiVersion: must be waxseal/v1",
		"b.yaml:14:3 PKCSCertificate signing spec.keySize: must be a whole number",
		"b.yaml:14:3 PKCSCertificate signing spec.keySize: is given twice",
		"b.yaml:20:1 Mail number 3 name: must be text (put it in quotes)",
		`b.yaml:18:1 Mail number 3 kind: "Mail" is not known; use one of User, Assignment, TrustedCertificate, PKCSCertificate, PKCSImportedCertificate, SCEPCertificate, Email, Custom`,
		`b.yaml:25:8 TrustedCertificate root spec.certificateFile: "gone.pem": file does not exist`,
		`b.yaml:3:1 User alice name: "alice" is not a UPN; write it like alice@corp.example`,
		`b.yaml:6:32 User alice spec.addresses[1]: "alice" is not a mail address; write it like alice@corp.example`,
		`b.yaml:13:3 PKCSCertificate signing spec.subject: CN: variable {{Nobody}} does not exist; known are ` + strings.Join(profiles.VariableNames(), ", "),
		"b.yaml:16:3 PKCSCertificate signing spec.validity: 1d is not allowed; use 5d to 825d",
		`b.yaml:12:3 PKCSCertificate signing spec.certificateAuthority: no connector offers a CA "nowhere"; known are softca`,
	}
	got := append(lines(faults), lines(more)...)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSyntaxAndBounds(t *testing.T) {
	object := "apiVersion: waxseal/v1\nkind: User\nname: a@b.test\nspec: {addresses: [a@b.test]}\n"
	tests := []struct{ name, file, text, want string }{
		{"broken YAML", "a.yaml", "kind: [User\n", "a.yaml:1:7: reading YAML"},
		{"broken JSON", "a.json", "{\n \"kind\": User}", "a.json:2:"},
		{"anchor", "a.yaml", "a: &x 1\n", "a.yaml:1:4: anchors, aliases and merge keys are not supported"},
		{"alias", "a.yaml", "a: *x\n", "a.yaml:1:4: anchors"},
		{"merge key", "a.yaml", "<<: {a: b}\n", "anchors, aliases and merge keys"},
		{"tag", "a.yaml", "a: !!binary aGk=\n", "a.yaml:1:4: tags"},
		{"deep flow", "a.yaml", strings.Repeat("[", 100_000), "nested deeper than 32"},
		{"deep block sequence", "a.yaml", strings.Repeat("- ", 100_000), "indented further than 256"},
		{"deep block mapping", "a.yaml", deepMapping(400), "indented further than 256"},
		{"explicit keys", "a.yaml", strings.Repeat("? ", 100_000), "indented further than 256"},
		{"scalar", "a.yaml", "hello\n", "a.yaml:1:1 document number 1: must be an object"},
		{"too large", "a.yaml", strings.Repeat("#", maxManifest+1), "larger than 4194304 bytes"},
		{"too many documents", "a.yaml", strings.Repeat("---\na: 1\n", maxDocuments+1), "more than 10000 documents"},
		{"many fields", "a.yaml", strings.Repeat("a: 1\n", maxKeys+1), "more than 1000 fields"},
		{"many fields with lists between", "a.yaml", strings.Repeat("a:\n- b: 1\n", maxKeys+1), "more than 1000 fields"},
		{"many fields in flow style", "a.yaml", "x: {" + strings.Repeat("a: {b: c}, ", maxKeys+1) + "}", "more than 1000 fields"},
		{"too many parts", "a.yaml", "a: [" + strings.Repeat("1,", maxTokens) + "]", "more than 200000 parts"},
		{"not a number", "a.yaml", "a: .nan\n", "a.yaml:1:4: Nan is not supported here"},
		{"no spec", "a.yaml", strings.Split(object, "spec")[0], "User a@b.test spec: is missing"},
		{"list for object", "a.yaml", strings.Replace(object, "{addresses: [a@b.test]}", "[]", 1), "spec: must be an object"},
		{"text for list", "a.yaml", strings.Replace(object, "[a@b.test]", "a@b.test", 1), "spec.addresses: must be a list"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, faults := LoadFS(fstest.MapFS{test.file: {Data: []byte(test.text)}}, test.file)
			if len(faults) == 0 || !strings.Contains(faults.Error(), test.want) {
				t.Errorf("faults %q, want %q", faults.Error(), test.want)
			}
		})
	}
}

func deepMapping(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// No document is lost beside empty ones, and a broken one does not hide the others.
func TestDocumentsAreSplit(t *testing.T) {
	const user = "apiVersion: waxseal/v1\nkind: User\nname: a@b.test\nspec: {addresses: [a@b.test]}\n"
	tests := []struct {
		name, text      string
		objects, faults int
	}{
		{"empty first", "# nothing\n---\n---\n" + user + "---\n", 1, 0},
		{"comment only", user + "---\n# only this\n---\n" + user, 2, 0},
		{"end marker", "---\n" + user + "...\n---\n" + user + "...\n", 2, 0},
		{"windows line ends and mark", "\ufeff" + strings.ReplaceAll("---\n"+user+"---\n"+user, "\n", "\r\n"), 2, 0},
		{"behind the marker", "--- {apiVersion: waxseal/v1, kind: User, name: a@b.test, spec: {}}\n", 1, 0},
		{"marker in a literal", strings.Replace(user, "a@b.test\n", "|-\n  a\n  ---\n", 1), 1, 0},
		{"broken between", user + "---\na: [\n---\n" + user + "---\n- {\n", 2, 2},
		{"long list", strings.Repeat("- "+strings.ReplaceAll(strings.TrimSpace(user), "\n", "\n  ")+"\n", 1500), 1500, 0},
		{"list", "- " + strings.ReplaceAll(strings.TrimSpace(user), "\n", "\n  ") + "\n", 1, 0},
		{"nothing", "", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			objects, faults := LoadFS(fstest.MapFS{"a.yaml": {Data: []byte(test.text)}}, "a.yaml")
			if len(objects) != test.objects || len(faults) != test.faults {
				t.Errorf("%d objects, faults %q", len(objects), faults)
			}
		})
	}
}

func TestJSONForms(t *testing.T) {
	one := "{\n\t\"apiVersion\": \"waxseal/v1\",\n\t\"kind\": \"User\", \"name\": \"a@b.test\",\n\t\"spec\": {\"displayName\": \"A \\ud83d\\ude00 \\/ \\\"B\\\"\", \"addresses\": [\"a@b.test\"]}\n}"
	for name, text := range map[string]string{"object": one, "list": "[" + one + "]"} {
		t.Run(name, func(t *testing.T) {
			objects, faults := LoadFS(fstest.MapFS{"a.json": {Data: []byte(text)}}, "a.json")
			if len(objects) != 1 || len(faults) > 0 {
				t.Fatalf("%d objects, faults %v", len(objects), faults)
			}
			if got := objects[0].Spec.(*profiles.User).DisplayName; got != "A 😀 / \"B\"" {
				t.Errorf("display name %q", got)
			}
		})
	}
}

func trusted(file string) string {
	return "apiVersion: waxseal/v1\nkind: TrustedCertificate\nname: root\nspec:\n  certificateFile: \"" + file + "\"\n"
}

func TestSideFiles(t *testing.T) {
	ca, leaf, key := testCertificates(t)
	fsys := fstest.MapFS{
		"m/ca.der":        {Data: ca},
		"m/sub/ca.pem":    {Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})},
		"m/leaf.pem":      {Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})},
		"m/with-key.pem":  {Data: append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)},
		"m/key.der":       {Data: key},
		"m/store.pfx":     {Data: []byte{0x30, 0x82, 0x01, 0x00, 0x02, 0x01, 0x03, 0x30}},
		"m/store-ber.pfx": {Data: []byte{0x30, 0x80, 0x02, 0x01, 0x03, 0x30, 0x80, 0x06}},
		"m/big.pem":       {Data: make([]byte, maxSide+1)},
		"m/empty.pem":     {},
		"secret.pem":      {Data: ca},
	}
	tests := []struct{ name, file, want string }{
		{"DER", "ca.der", ""},
		{"PEM in a folder below", "sub/ca.pem", ""},
		{"TR-01 key in PEM", "with-key.pem", "holds a private key"},
		{"TR-01 PFX", "store.pfx", "PKCS#12"},
		{"TR-01 PFX in BER", "store-ber.pfx", "PKCS#12"},
		{"TR-01 bare key", "key.der", "is not an X.509 certificate"},
		{"TR-02 leaf", "leaf.pem", "no CA certificate"},
		{"above the folder", "../secret.pem", "without .."},
		{"absolute", "/etc/passwd", "without .."},
		{"backslashes", `..\\secret.pem`, "without .."},
		{"too large", "big.pem", "larger than 1048576 bytes"},
		{"empty", "empty.pem", "is not an X.509 certificate"},
		{"folder", "sub", "is not a regular file"},
		{"missing", "none.pem", "file does not exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fsys["m/a.yaml"] = &fstest.MapFile{Data: []byte(trusted(test.file))}
			objects, faults := LoadFS(fsys, "m/a.yaml")
			spec := objects[0].Spec.(*profiles.TrustedCertificate)
			if test.want == "" {
				if len(faults) > 0 || !reflect.DeepEqual(spec.Certificate, ca) {
					t.Errorf("faults %v", faults)
				}
				return
			}
			if !strings.Contains(faults.Error(), test.want) || !strings.HasPrefix(faults.Error(), "m/a.yaml:5:3 TrustedCertificate root spec.certificateFile: ") {
				t.Errorf("faults %q, want %q", faults, test.want)
			}
			if len(spec.Certificate) > 0 {
				t.Error("the refused content stayed in the object")
			}
			if again, _ := profiles.Check(objects, softca()); len(again) > 0 {
				t.Errorf("the check repeats the fault: %s", again)
			}
		})
	}
}

// A link out of the manifest's folder is not followed.
func TestLinkOutOfFolder(t *testing.T) {
	dir := t.TempDir()
	ca, _, _ := testCertificates(t)
	inner := filepath.Join(dir, "inner")
	for _, err := range []error{
		os.Mkdir(inner, 0o700),
		os.WriteFile(filepath.Join(dir, "ca.der"), ca, 0o600),
		os.Symlink("../ca.der", filepath.Join(inner, "ca.der")),
		os.WriteFile(filepath.Join(inner, "a.yaml"), []byte(trusted("ca.der")), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{inner, filepath.Join(inner, "a.yaml")} {
		if _, faults := Load(path); !strings.Contains(faults.Error(), "escapes") {
			t.Errorf("%s: faults %q", path, faults)
		}
	}
}

func TestLoadMissingPaths(t *testing.T) {
	dir := t.TempDir()
	_, faults := Load(filepath.Join(dir, "none.yaml"), dir)
	if len(faults) != 2 || !strings.Contains(faults[0].Message, "no such file") || !strings.Contains(faults[1].Message, "holds no .yaml") {
		t.Errorf("faults %v", faults)
	}
}

// What Export writes, Load reads alike.
func TestExportRoundTrip(t *testing.T) {
	objects := slices.Concat(loadExample(t, "sales.yaml"), loadExample(t, "all-kinds.yaml"))
	objects = append(objects, profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindUser, Name: "odd@corp.test",
		Spec: &profiles.User{DisplayName: "true", Addresses: []string{"odd@corp.test"}, Groups: []string{"1e3", "null", "a: #b", "- x", "é\"'", "0x10", "~", "yes", "line\nbreak", "&a", "*a", "!t", " lead", "12:30", "2020-01-01", "{{x}}", ""}}})
	text, err := Export(objects)
	if err != nil {
		t.Fatal(err)
	}
	again, faults := LoadFS(fstest.MapFS{"e.yaml": {Data: text}}, "e.yaml")
	if len(faults) > 0 {
		t.Fatalf("%s\n%s", faults, text)
	}
	if len(again) != len(objects) {
		t.Fatalf("%d objects, want %d", len(again), len(objects))
	}
	for i := range again {
		if again[i].Digest() != objects[i].Digest() {
			t.Errorf("%s %s changed:\n%+v\n%+v", objects[i].Kind, objects[i].Name, again[i].Spec, objects[i].Spec)
		}
	}
}

// testCertificates makes a CA certificate, a leaf and a PKCS#8 key.
func testCertificates(t *testing.T) (ca, leaf, pkcs8 []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make := func(isCA bool) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test"}, BasicConstraintsValid: true, IsCA: isCA,
			NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	return make(true), make(false), pkcs8
}

// FuzzLoad feeds foreign text: no panic, no unbounded growth, and what loads without faults survives Export.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"sales.yaml", "all-kinds.yaml"} {
		data, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, seed := range []string{"a: &x [*x]", "? a\n: b", "- |\n a\n", "{a: [}", "\xff", "--- >\n x\n...\n", "'", "\"\\u", "<<: *a", "!!x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, faults := LoadFS(fstest.MapFS{"a.yaml": {Data: data}}, "a.yaml")
		profiles.Check(objects, softca())
		if len(faults) > 0 {
			return
		}
		if _, err := Export(objects); err != nil {
			t.Errorf("cannot export: %v", err)
		}
	})
}
