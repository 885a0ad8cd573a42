package apple

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	groob "github.com/groob/plist"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
	"github.com/waxseal/waxseal/profiles"
)

// peer gives the path of a program that others wrote.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatalf("peer program %s is missing", name)
		}
		t.Skipf("peer program %s is missing", name)
	}
	return path
}

// fromPlistlib reads property lists with Python and gives them as JSON with marks for data, one process for all files.
const fromPlistlib = `
import sys, plistlib, json, base64
def plain(v):
    if isinstance(v, bytes): return {"data": base64.b64encode(v).decode()}
    if isinstance(v, dict): return {"dict": {k: plain(x) for k, x in v.items()}}
    if isinstance(v, list): return [plain(x) for x in v]
    return v
json.dump({n: plain(plistlib.load(open(n, "rb"), fmt=plistlib.FMT_XML)) for n in sys.argv[1:]}, sys.stdout)
`

// marked gives a decoded tree the form that fromPlistlib prints.
func marked(v any) any {
	switch t := v.(type) {
	case []byte:
		return map[string]any{"data": t}
	case map[string]any:
		d := map[string]any{}
		for key, inner := range t {
			d[key] = marked(inner)
		}
		return map[string]any{"dict": d}
	case []any:
		a := []any{}
		for _, inner := range t {
			a = append(a, marked(inner))
		}
		return a
	}
	return v
}

// normal brings a tree to what encoding/json reads back.
func normal(t *testing.T, v any) any {
	t.Helper()
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(encoded, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// goldens are all golden files of this package and of mdm.
func goldens(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, pattern := range []string{"testdata/golden/*", "mdm/testdata/golden/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no golden files %s: %v", pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = data
		}
	}
	return files
}

func TestPythonReadsAlike(t *testing.T) {
	files := goldens(t)
	args := []string{"-c", fromPlistlib}
	for name := range files {
		args = append(args, name)
	}
	out, err := exec.Command(peer(t, "python3"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var theirs map[string]any
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		ours, err := proplist.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if want := normal(t, marked(ours)); !reflect.DeepEqual(theirs[name], want) {
			t.Errorf("%s: plistlib reads\n%v\nwe read\n%v", name, theirs[name], want)
		}
	}
}

func TestGroobReadsAlike(t *testing.T) {
	for name, data := range goldens(t) {
		var theirs any
		if err := groob.NewXMLDecoder(bytes.NewReader(data)).Decode(&theirs); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ours, err := proplist.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(theirs, ours) {
			t.Errorf("%s: groob reads %v, we read %v", name, theirs, ours)
		}
	}
}

// plistutil makes a binary property list of ours and XML of that again; we must read the same.
func TestPlistutilReadsAlike(t *testing.T) {
	plistutil := peer(t, "plistutil")
	for name, data := range goldens(t) {
		binary := filepath.Join(t.TempDir(), "binary")
		xml := filepath.Join(t.TempDir(), "xml")
		convert := func(from, to, format string) {
			if out, err := exec.Command(plistutil, "-i", from, "-o", to, "-f", format).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
		}
		convert(name, binary, "bin")
		convert(binary, xml, "xml")
		back, err := os.ReadFile(xml)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := proplist.Decode(back)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ours, err := proplist.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(theirs, ours) {
			t.Errorf("%s: plistutil gives %v, we read %v", name, theirs, ours)
		}
	}
}

func TestXMLLintAcceptsGoldens(t *testing.T) {
	args := []string{"--noout", "--nonet"}
	for name := range goldens(t) {
		args = append(args, name)
	}
	if out, err := exec.Command(peer(t, "xmllint"), args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Each kind of document, for two versions of iOS and for both channels of a Mac. A golden file that no document gives
// any more is a fault as well.
func TestGoldenDocuments(t *testing.T) {
	targets := map[string]struct {
		platform         profiles.Platform
		version, channel string
	}{"ios18": {profiles.IOS, "18.1", ""}, "ios11": {profiles.IOS, "11.4", ""},
		"macos15": {profiles.MacOS, "15.1", "device"}, "macos15-user": {profiles.MacOS, "15.1", "user"}}
	written := []string{"enrollment.mobileconfig"}
	for target, device := range targets {
		for _, in := range goldenInputs(t) {
			in.Device.Platform, in.Device.OSVersion, in.Channel = device.platform, device.version, device.channel
			for _, d := range Plan(in) {
				if d.Reason == "" {
					written = append(written, goldenDocument(t, target+"-"+strings.ReplaceAll(d.ID, ".", "-"), d)...)
				}
			}
		}
	}
	names, err := filepath.Glob("testdata/golden/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.Contains(written, filepath.Base(name)) {
			t.Errorf("%s: no document gives it", name)
		}
	}
}

// goldenInputs are assignments that together give each kind of document.
func goldenInputs(t *testing.T) []platforms.Input {
	both := []profiles.Platform{profiles.IOS, profiles.MacOS}
	custom := func(name string, content []byte) profiles.Object {
		return object(name, &profiles.Custom{Platforms: both, Content: content})
	}
	imap := with(platformsOnly(t), object("imap", imapMail()),
		object("imported-signing", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning}))
	imap.Imported = append(imap.Imported, cert("imported", profiles.PurposeSMIMESigning, 2025, 2027, alice))
	wifi := example(t, "wifi.mobileconfig")
	return []platforms.Input{with(sales(t), custom("wifi", wifi), custom("wifi-user", forUser(t, wifi))), imap,
		with(platformsOnly(t), object("mail-signing", mailSigning()))}
}

// goldenDocument gives the names of the files that it compared.
func goldenDocument(t *testing.T, name string, d platforms.Document) []string {
	data, err := Render(d, Secrets{PKCS12: pkcs12s(d)}, inClear)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{name + ".mobileconfig"}
	golden(t, names[0], data)
	if d.HasSecrets() { // what the seal hides, for people and peers to read
		names = append(names, name+".content.plist")
		golden(t, names[1], contentOf(t, data))
	}
	return names
}

func contentOf(t *testing.T, data []byte) []byte {
	p, err := ParseProfile(data)
	if err != nil {
		t.Fatal(err)
	}
	return p.EncryptedContent
}

func TestGoldenEnrollment(t *testing.T) {
	data, err := EnrollmentProfile(enrollment(t))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "enrollment.mobileconfig", data)
}
