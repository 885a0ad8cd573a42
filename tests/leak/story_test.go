package leak

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/profiles"
)

// serverKeys are the private keys that the server has, each in a file of its data folder, none of which opens anybody's mail.
// The push key is the fifth; it lies where the operator put it, outside the folder. There is no other.
var serverKeys = []string{"tls-key.pem", "ca-key.pem", "ra-key.pem", "profile-signing-key.pem"}

// imports of the story: of every kind that has a way of its own into the escrow.
var imports = []string{"alice-2016", "alice-2019", "alice-2024", "alice-ec", "alice-nss", "alice-signing"}

// refused are files that never get in; their keys must be nowhere either.
var refused = []string{"bob-2024"}

const wifi = `apiVersion: waxseal/v1
kind: Custom
name: wifi
spec: {platforms: [ios, macos], file: wifi.mobileconfig}
---
apiVersion: waxseal/v1
kind: Assignment
name: sales-wifi
spec: {profiles: [wifi], include: [{group: sales}]}
`

func TestNoKeyLeavesItsPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.firstConnector()
	h.secondConnector()
	h.describe()
	customWithKeys(h)
	h.importAll()
	shots := h.enrolAll()
	if _, stderr, code := h.importPFX("alice-next", "alice@corp.test"); code != 0 {
		t.Fatal(stderr)
	}
	for _, device := range everything() {
		h.sync(device)
	}

	hidden := h.secrets()
	devices := h.deviceKeys(&hidden)
	h.checkTraffic()
	h.provesItself(&hidden, devices)
	h.search("while keys are on devices", hidden, shots, "documents", "inventories", "settings")
	h.searchMemory("while keys are on devices", hidden)

	h.leave()
	h.search("after everybody left", hidden, nil)
	h.searchMemory("after everybody left", hidden)
	if n := h.bootstrapTokens(); n != 0 {
		t.Errorf("%d bootstrap tokens are left of Macs that have left", n)
	}
}

// everything are the devices of the story.
func everything() []string { return slices.Concat(iphones, macs, pcs, phones) }

// enrolAll enrols them, each with all that it gets. The first of each kind that is new to the server's database is watched.
func (h *house) enrolAll() (shots []*snapshot) {
	h.t.Helper()
	h.enrol("iphone", "ios", "18.1", "iPhone16,1")
	h.enrol("ipad", "ios", "16.7", "iPad13,1")
	shots = append(shots, h.watchUserChannel())
	h.enrol("mac", "macos", "15.1", "Mac15,12")
	h.escrowBootstrap("mac")
	shots = append(shots, h.watchSession())
	h.enrolPC("pc", "10.0.22631.3007", "OnPremise")
	shots = append(shots, h.watchEnvelope())
	h.enrolPhone("phone", "15", "PROFILE_OWNER")
	h.proxy.setAlter(nil)
	h.enrolPC("old-pc", "10.0.14393.0", "Federated")
	h.enrolPhone("old-phone", "11", "COMPANION")
	return shots
}

// hidden is what must be nowhere on the server's side.
type hidden struct {
	secrets   []secret
	passwords []string // of the files that were imported
	sealed    []string // of the files that were delivered to PCs, which they alone know
	travels   map[string]func(place string) bool
}

func (x hidden) scanner(openers ...opener) *scanner {
	s := newScanner(x.secrets, x.passwords, openers...)
	s.sealed, s.carries, s.travels = x.sealed, carriesPKCS12, x.travels
	return s
}

// describe applies the profiles of the story, and a Custom one.
func (h *house) describe() {
	h.t.Helper()
	if err := os.WriteFile(h.path("inputs", "examples", "custom.yaml"), []byte(wifi), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.mustWaxctl("apply", "-f", h.path("inputs", "examples", "sales.yaml"), "-f", h.path("inputs", "examples", "custom.yaml"))
}

func (h *house) importAll() {
	h.t.Helper()
	for _, name := range imports {
		if _, stderr, code := h.importPFX(name, "alice@corp.test"); code != 0 {
			h.t.Fatalf("import of %s: %s", name, stderr)
		}
	}
	for _, name := range refused {
		if _, stderr, code := h.importPFX(name, "alice@corp.test"); code == 0 {
			h.t.Errorf("import of %s: %s", name, stderr)
		}
	}
}

func (h *house) leave() {
	h.t.Helper()
	devices, err := api.All(h.t.Context(), h.client.Devices)
	if err != nil || len(devices) != len(everything()) {
		h.t.Fatalf("%d devices, %v", len(devices), err)
	}
	wiped := 0
	for _, d := range devices {
		verb := "retire"
		if strings.HasPrefix(d.OSVersion, "10.0.14393") {
			verb = "wipe"
			wiped++
		}
		h.mustWaxctl("device", verb, d.ID)
	}
	if wiped != 1 {
		h.t.Errorf("%d devices were wiped, want the second PC", wiped)
	}
	for _, device := range everything() {
		h.sync(device)
		if out := h.must("waxseal-agent", "keychain", "list", "--json", "--state", h.path(device)); out != "" {
			h.t.Errorf("%s left and still holds: %s", device, out)
		}
	}
}

// secrets are the keys of users, of the CAs and of the escrow, and the passwords of the files.
func (h *house) secrets() (x hidden) {
	h.t.Helper()
	h.signInTokens()
	h.challenges()
	h.passes("admin token", h.read("server", "admin-token"), ofAdmins)
	x.secrets, x.travels = h.passingSecrets()
	for _, name := range slices.Concat(imports, []string{"alice-next"}, refused) {
		of, password := pfxSecrets(h.t, name)
		x.secrets, x.passwords = append(x.secrets, of...), append(x.passwords, password)
	}
	for _, keyring := range []string{"connector", "connector-2"} {
		x.secrets = append(x.secrets, h.keyringSecrets(keyring)...)
	}
	x.secrets = append(x.secrets, escrowSecret(h.t, "recovery.key", h.path("recovery.key")))
	return x
}

// keyringSecrets are all the keys of a connector. The escrow root stays with the first one.
func (h *house) keyringSecrets(keyring string) (out []secret) {
	h.t.Helper()
	files, err := filepath.Glob(h.path(keyring, "*.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]bool{"escrow-root.key": keyring != "connector"}
	for _, file := range files {
		name := filepath.Base(file)
		found[name] = true
		if name == "escrow.key" {
			out = append(out, escrowSecret(h.t, keyring+"/"+name, file))
			continue
		}
		out = append(out, keySecrets(h.t, keyring+"/"+name, readKey(h.t, file))...)
	}
	for _, name := range []string{"escrow.key", "escrow-root.key", "device-ca.key", "softca-root.key", "softca.key"} {
		if !found[name] {
			h.t.Errorf("%s has no %s: is it elsewhere now?", keyring, name)
		}
	}
	return out
}

// deviceKeys adds what the devices hold: the issued keys, and those that a device made for itself. It returns the devices'
// own identities.
func (h *house) deviceKeys(x *hidden) (identities []opener) {
	h.t.Helper()
	issued := 0
	for _, device := range everything() {
		held := h.exported(device, h.path("export-"+device))
		if slices.Contains(phones, device) {
			held = append(held, h.wrapKey(device))
		}
		for _, id := range held {
			x.secrets = append(x.secrets, keySecrets(h.t, device+" "+id.cert.Subject.String(), id.key)...)
			switch {
			case ofDeviceCA(id.cert):
				identities = append(identities, id)
			case strings.HasPrefix(id.cert.Issuer.CommonName, "Waxseal S/MIME Issuing CA"):
				issued++
			}
		}
	}
	if n := len(everything()); len(identities) != n || issued != n {
		h.t.Fatalf("the devices have %d identities of their own and %d issued ones, want %d of each", len(identities), issued, n)
	}
	return identities
}

func ofDeviceCA(cert *x509.Certificate) bool {
	return strings.HasPrefix(cert.Issuer.CommonName, "Waxseal Device CA")
}

// exported are the identities in a device's keychain, written into a folder as no device would.
func (h *house) exported(device, out string) (held []opener) {
	h.t.Helper()
	h.must("waxseal-agent", "keychain", "export", "--state", h.path(device), "--out", out)
	files, err := filepath.Glob(filepath.Join(out, "*.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, file := range files {
		held = append(held, opener{device, readCertificate(h.t, strings.TrimSuffix(file, ".key")+".pem"), readKey(h.t, file)})
	}
	return held
}

func readCertificate(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// checkTraffic makes sure that what could leak was recorded.
func (h *house) checkTraffic() {
	h.t.Helper()
	records := h.proxy.taken(h.t)
	for _, want := range []struct {
		what, method, path, direction, contains string
		least                                   int
	}{
		{"imports", "POST", "/api/v1/escrow", "request", `"record"`, len(imports) + 1},
		{"key sets handed out", "GET", "/api/v1/key-set", "answer 200", "", len(imports)},
		{"enrolment requests", "POST", "/scep", "request", "", len(iphones) + len(macs)},
		{"profiles to devices", "PUT", "/mdm/apple/command", "answer 200", "InstallProfile", 4 * (len(iphones) + len(macs))},
		{"results of user channels", "PUT", "/mdm/apple/command", "request", "<key>UserID</key>", 4},
		{"bootstrap tokens", "PUT", checkin, "answer 200", "BootstrapToken", 1},
		{"enrolment requests of companion apps", "POST", companionEnrolment, "request", "csr_b64", len(phones)},
		{"envelopes to companion apps", "POST", companionItems, "answer 200", `"envelope"`, len(phones) * delivered},
		{"jobs to connectors", "POST", "/connector/", "answer 200", `"render"`, 4},
		{"enrolment requests of PCs", "POST", enrolment + "Enrollment.svc", "request", "BinarySecurityToken", 2},
		{"provisioning documents", "POST", enrolment + "Enrollment.svc", "answer 200", "BinarySecurityToken", 2},
		{"sign-in pages", "POST", enrolment + "Auth", "answer 200", "wresult", 1},
		{"keys to PCs", "POST", management, "answer 200", "/PFXCertBlob", len(pcs) * delivered},
		{"results of connectors", "POST", "/connector/", "request", "", 10},
	} {
		if n := count(records, want.method, want.path, want.direction, want.contains); n < want.least {
			h.t.Errorf("%d %s were recorded, want at least %d", n, want.what, want.least)
		}
	}
}

// provesItself runs the search where keys are: in the devices' keychains, and in the traffic with the devices' own keys in
// hand. It must find every key in the first and the deliveries in the second, or it would find nothing anywhere.
//
// What it opens for the PCs are the passwords of their PKCS#12 files, which are secrets from then on.
func (h *house) provesItself(x *hidden, devices []opener) {
	h.t.Helper()
	s := newScanner(x.secrets, nil)
	for _, device := range everything() {
		s.scanFolder(h.t, "keychain of the "+device, h.path("export-"+device))
	}
	for _, name := range []string{"alice-2016: ", "alice-nss: ", "alice-ec: scalar", "iphone CN=", "ipad CN=", "mac CN=", "pc CN=", "old-pc CN=",
		"phone CN=", "old-phone CN="} {
		if !names(s.findings, name) {
			h.t.Errorf("the search does not find %s in the keychains", name)
		}
	}
	s = newScanner(x.secrets, nil, devices...)
	for _, r := range h.proxy.taken(h.t) {
		s.scan(r.String(), r.body)
	}
	if !names(s.findings, "PKCS#12") || !names(s.findings, "private key (PKCS#8)") || slices.ContainsFunc(everything(), func(d string) bool { return s.opened[d] < 2 }) {
		h.t.Errorf("the recorded deliveries do not open with the devices' own keys: opened %v, found %v", s.opened, s.findings)
	}
	h.checkEnvelopes(s)
	x.sealed = h.deliveries(s)
	for i, password := range x.sealed {
		x.secrets = append(x.secrets, passwordSecrets(fmt.Sprintf("delivery %d", i+1), password)...)
	}
}

// search looks everywhere on the server's side: its folder, its database (tables are those that must have rows now, beside
// the ones that always do), all logs, all traffic.
func (h *house) search(when string, x hidden, shots []*snapshot, tables ...string) {
	h.t.Helper()
	records := h.proxy.taken(h.t)
	s := x.scanner(h.serverOpeners(records)...)
	for _, name := range serverKeys {
		s.allowed["data folder/"+name] = publicName(readKey(h.t, h.path("server", name)))
		if info, err := os.Stat(h.path("server", name)); err != nil || info.Mode().Perm() != 0o600 {
			h.t.Errorf("%s: mode %v, want 0600 (%v)", name, info.Mode(), err)
		}
	}
	s.scanFolder(h.t, "data folder", h.path("server"))
	rows := s.scanDatabase(h.t, h.path("server", "waxseal.db"))
	for _, table := range append([]string{"records", "jobs", "certificates", "trust", "audit", "objects"}, tables...) {
		if rows[table] == 0 {
			h.t.Errorf("table %s has no row: nothing was searched there", table)
		}
	}
	for _, shot := range shots {
		h.searchSnapshot(shot, s)
	}
	s.scanFolder(h.t, "logs", h.path("logs"))
	s.scanFolder(h.t, "pushes", h.path("apns"), "ca.key", "push.key")
	for _, file := range []string{"audit.jsonl", "jobs.jsonl", "softca.jsonl", "keyset.json"} {
		s.scan("journal of the connector/"+file, []byte(h.read("connector", file)))
	}
	for i, r := range records {
		s.scan(fmt.Sprintf("body %d: %s", i+1, r), r.body)
		s.scan(fmt.Sprintf("header %d: %s", i+1, r), r.header)
	}
	h.report(when, s)
}

func (h *house) report(when string, s *scanner) {
	h.t.Helper()
	for _, f := range s.findings {
		h.t.Errorf("%s: %s", when, f)
	}
	if n := len(iphones) + len(macs); s.opened["ra-key.pem"] < n {
		h.t.Errorf("%s: the server's RA key opened %d messages; %d devices' SCEP requests were to it", when, s.opened["ra-key.pem"], n)
	}
	if least := len(pcs) * delivered * 2; s.carried < least {
		h.t.Errorf("%s: %d PKCS#12 files were seen on their way to PCs, want at least %d", when, s.carried, least)
	}
	for name := range s.travels {
		if s.seen[name] == 0 {
			h.t.Errorf("%s: the %s was not seen where it has to pass, so that it was not looked for rightly", when, name)
		}
	}
	h.t.Logf("%s: searched %d places with %d bytes for %d secrets; the server's keys open %v", when, s.places, s.bytes, len(s.index.secrets)+len(s.index.short), s.opened)
}

// serverOpeners are the server's own keys with their certificates: what is encrypted to them, the server can read.
func (h *house) serverOpeners(records []record) []opener {
	h.t.Helper()
	out := []opener{
		{"tls-key.pem", readCertificate(h.t, h.path("server", "tls-cert.pem")), readKey(h.t, h.path("server", "tls-key.pem"))},
		{"profile-signing-key.pem", readCertificate(h.t, h.path("server", "profile-signing.pem")), readKey(h.t, h.path("server", "profile-signing-key.pem"))},
	}
	ra := readKey(h.t, h.path("server", "ra-key.pem"))
	for _, r := range records {
		if r.path != "/scep" || !bytes.Contains(r.header, []byte("GetCACert")) || !strings.HasPrefix(r.direction, "answer 200") {
			continue
		}
		certs, err := cms.ParseCertsOnly(r.body)
		if err != nil || len(certs) == 0 {
			h.t.Fatalf("GetCACert: %v", err)
		}
		return append(out, opener{"ra-key.pem", certs[0], ra})
	}
	h.t.Fatal("no answer to GetCACert was recorded")
	return nil
}

// customWithKeys checks that a Custom profile with a key is refused before it leaves the admin's machine, and by the server if
// somebody sends it anyway. The search afterwards shows that nothing of it stayed.
func customWithKeys(h *house) {
	h.t.Helper()
	for name, payload := range map[string]string{
		"com.apple.security.pkcs12": "<key>PayloadContent</key><data>" + base64.StdEncoding.EncodeToString(read(h.t, "pfx/alice-2016.pfx")) +
			"</data><key>Password</key><string>summer of 2016</string>",
		"com.apple.eas.account": "<key>Host</key><string>mail.corp.test</string><key>Certificate</key><data>" +
			base64.StdEncoding.EncodeToString(read(h.t, "pfx/alice-2019.pfx")) + "</data><key>CertificatePassword</key><string>correct horse</string>",
	} {
		content := mobileconfig(name, payload)
		if err := os.WriteFile(h.path("inputs", "examples", "keys.mobileconfig"), content, 0o600); err != nil {
			h.t.Fatal(err)
		}
		manifest := h.path("inputs", "examples", "keys.yaml")
		if err := os.WriteFile(manifest, []byte(strings.NewReplacer("wifi.mobileconfig", "keys.mobileconfig", "wifi", "keys").Replace(wifi)), 0o600); err != nil {
			h.t.Fatal(err)
		}
		before := count(h.proxy.taken(h.t), "POST", "/api/v1/apply", "request", "")
		_, stderr, code := h.waxctl("apply", "-f", manifest)
		if code == 0 || !strings.Contains(stderr, name) || !strings.Contains(stderr, "waxctl import pfx") {
			h.t.Errorf("waxctl apply of a profile with a key in %s ended with %d and said: %s", name, code, stderr)
		}
		if after := count(h.proxy.taken(h.t), "POST", "/api/v1/apply", "request", ""); after != before {
			h.t.Errorf("waxctl sent a profile with a key in %s to the server", name)
		}
		_, err := h.client.Apply(h.t.Context(), []profiles.Object{{APIVersion: profiles.APIVersion, Kind: profiles.KindCustom, Name: "keys",
			Spec: &profiles.Custom{Platforms: []profiles.Platform{"ios"}, Content: content}}}, false)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "waxctl import pfx") {
			h.t.Errorf("the server's answer to a profile with a key in %s: %v", name, err)
		}
	}
}

func mobileconfig(kind, payload string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>test.corp.keys</string><key>PayloadUUID</key><string>0E0C7F1A-6B8E-4C57-9B1E-0B6B5F2C1D12</string>
<key>PayloadContent</key><array><dict>
<key>PayloadType</key><string>` + kind + `</string><key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>test.corp.keys.one</string><key>PayloadUUID</key><string>1E0C7F1A-6B8E-4C57-9B1E-0B6B5F2C1D13</string>
` + payload + `
</dict></array></dict></plist>
`)
}
