package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	alice      = "alice@corp.test"
	kindPKCS12 = "com.apple.security.pkcs12"
)

// delivery is what one phone got, as programs that others wrote read it. Its files: device.pem and device.key (the phone's
// identity), root.pem (the root of the trust document), SHA256.p12 with .password, .pem and .key for each identity.
type delivery struct {
	*house
	device    string // name of its folder
	flavour   []string
	documents []document
	ids       []identity
}

// flavours are what OpenSSL says of a PKCS#12 that every device reads, and of one that current Windows reads.
var (
	tripleDES = []string{"MAC: sha1", "pbeWithSHA1And3-KeyTripleDES-CBC"}
	aes256    = []string{"MAC: sha256", "PBES2, PBKDF2, AES-256-CBC", "hmacWithSHA256"}
)

// document is one configuration profile, opened.
type document struct {
	top      dict
	payloads []dict
	sealed   bool
}

// identity is one PKCS#12 that travelled.
type identity struct{ name, uuid string } // SHA-256 of the leaf; PayloadUUID

// generations are Alice's encryption certificates, the current one last.
var generations = []string{"alice-2016", "alice-2019", "alice-2024"}

// TestDelivered enrols a phone and opens with foreign programs what the server told it.
func TestDelivered(t *testing.T) {
	d := &delivery{house: newHouse(t), device: "phone", flavour: tripleDES}
	for _, name := range generations {
		d.importPFX(name)
	}
	d.agent(d.device, nil, "enroll", d.link(), "--platform", "ios", "--ca", d.proxy.CA, "--os-version", "17.5", "--model", "iPhone15,2")
	d.agent(d.device, nil, "sync", "--wait", "60s")
	d.exportIdentity()
	d.openDocuments()
	for _, tt := range []struct {
		name string
		test func(*delivery)
	}{
		{"every encryption certificate is there", (*delivery).checkHistory},
		{"the account names identities", (*delivery).checkAccount},
		{"signing certificate", (*delivery).checkSigning},
		{"OpenSSL", (*delivery).checkOpenSSL},
		{"gpgsm", (*delivery).checkGpgsm},
		{"mail with OpenSSL", (*delivery).mailOpenSSL},
		{"NSS and mail with it", (*delivery).checkNSS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			part := *d
			part.house = d.within(t)
			tt.test(&part)
		})
	}
}

// item is a line of keychain list --json.
type item struct {
	SHA256        string `json:"sha256"`
	HasPrivateKey bool   `json:"hasPrivateKey"`
	Profile       string `json:"profile"`
}

// exportIdentity takes the key of the device's own certificate out of the simulated keychain, as no phone would.
func (d *delivery) exportIdentity() {
	d.t.Helper()
	d.agent(d.device, nil, "keychain", "export", "--out", d.path("exported"))
	for dec := json.NewDecoder(bytes.NewReader(d.agent(d.device, nil, "keychain", "list", "--json"))); dec.More(); {
		var i item
		if err := dec.Decode(&i); err != nil {
			d.t.Fatal(err)
		}
		if i.HasPrivateKey && strings.HasSuffix(i.Profile, ".enrollment") {
			d.write("device.pem", d.read("exported", i.SHA256+".pem"))
			d.write("device.key", d.read("exported", i.SHA256+".key"))
			return
		}
	}
	d.t.Fatal("the keychain has no identity of the enrolment profile")
}

// openDocuments opens every profile that travelled.
func (d *delivery) openDocuments() {
	d.t.Helper()
	for n, body := range d.proxy.told() {
		if len(body) == 0 {
			continue
		}
		command, _ := d.dictionary(body)["Command"].(dict)
		if text(command, "RequestType") == "InstallProfile" {
			d.openDocument(fmt.Sprintf("document-%d", n), d.data(command, "Payload"))
		}
	}
	if len(d.documents) < 3 {
		d.t.Fatalf("only %d profiles were delivered\n%s", len(d.documents), d.tail())
	}
}

// openDocument takes off the signature, decrypts, and keeps the identities.
func (d *delivery) openDocument(name string, signed []byte) {
	d.t.Helper()
	outer := d.peer(signed, "openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER")
	d.readers(name+".mobileconfig", outer)
	doc := document{top: d.dictionary(outer)}
	content := doc.top["PayloadContent"]
	if doc.top["EncryptedPayloadContent"] != nil {
		doc.sealed = true
		inner := d.peer(d.data(doc.top, "EncryptedPayloadContent"), "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", "device.pem", "-inkey", "device.key")
		d.readers(name+".payloads", inner)
		content = d.plist(inner)
	}
	doc.payloads = payloads(content, "")
	if len(doc.payloads) == 0 {
		d.t.Fatalf("%s has no payloads: %v", name, doc.top)
	}
	for _, p := range payloads(content, kindPKCS12) {
		if !doc.sealed {
			d.t.Errorf("%s: a private key travels in clear", name)
		}
		d.ids = append(d.ids, d.keepIdentity(p))
	}
	if root := payload(content, "com.apple.security.root"); root != nil {
		d.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.data(root, "PayloadContent")}))
	}
	d.documents = append(d.documents, doc)
}

// keepIdentity opens a PKCS#12 with OpenSSL and the password of its payload.
func (d *delivery) keepIdentity(p dict) identity {
	d.t.Helper()
	return identity{name: d.keepPKCS12(d.data(p, "PayloadContent"), text(p, "Password")), uuid: text(p, "PayloadUUID")}
}

// keepPKCS12 opens one with OpenSSL, writes its parts into files, and gives their name.
func (d *delivery) keepPKCS12(p12 []byte, password string) (name string) {
	d.t.Helper()
	opened := d.openPKCS12(p12, password)
	_, leaf, _ := strings.Cut(opened, "-----BEGIN CERTIFICATE-----")
	leaf = "-----BEGIN CERTIFICATE-----" + leaf
	name = d.fingerprint([]byte(leaf))
	d.write(name+".p12", p12)
	d.write(name+".password", []byte(password))
	d.write(name+".pem", []byte(leaf))
	d.write(name+".key", []byte(opened))
	return name
}

func (d *delivery) openPKCS12(p12 []byte, password string) string {
	d.t.Helper()
	return string(d.peer(p12, "openssl", "pkcs12", "-legacy", "-nodes", "-passin", "pass:"+password))
}

// sha256Of is the name of the identity of a certificate of testdata.
func (d *delivery) sha256Of(name string) string {
	d.t.Helper()
	return d.fingerprint(d.read("inputs", "pki", name+".pem"))
}

// fingerprint is the SHA-256 of the first certificate.
func (d *delivery) fingerprint(text []byte) string {
	d.t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		d.t.Fatalf("no PEM: %q", text)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// signing is the identity that is none of the imported ones.
func (d *delivery) signing() string {
	d.t.Helper()
	var out []string
	for _, id := range d.ids {
		if !slices.ContainsFunc(generations, func(g string) bool { return d.sha256Of(g) == id.name }) {
			out = append(out, id.name)
		}
	}
	if len(out) != 1 {
		d.t.Fatalf("%d identities are not imported ones, want 1", len(out))
	}
	return out[0]
}

// checkHistory: each certificate once, and one for signing.
func (d *delivery) checkHistory() {
	want := []string{d.signing()}
	for _, g := range generations {
		want = append(want, d.sha256Of(g))
	}
	var got []string
	for _, id := range d.ids {
		got = append(got, id.name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		d.t.Errorf("delivered are\n%q\nwant\n%q", got, want)
	}
}

// checkAccount: the account's UUIDs name the right identities of the same profile.
func (d *delivery) checkAccount() {
	for _, doc := range d.documents {
		account := payload(asAny(doc.payloads), "com.apple.eas.account")
		if account == nil {
			continue
		}
		for key, want := range map[string]string{
			"SMIMESigningCertificateUUID":    d.signing(),
			"SMIMEEncryptionCertificateUUID": d.sha256Of("alice-2024"),
		} {
			found := slices.IndexFunc(d.ids, func(i identity) bool { return i.uuid == text(account, key) })
			if found < 0 || d.ids[found].name != want {
				d.t.Errorf("%s is %q, which is not identity %s", key, account[key], want)
				continue
			}
			if !slices.ContainsFunc(doc.payloads, func(p dict) bool { return p["PayloadUUID"] == account[key] }) {
				d.t.Errorf("%s names a payload of another profile", key)
			}
		}
		if account["EmailAddress"] != alice || account["SMIMESigningEnabled"] != true || account["SMIMESigningUserOverrideable"] != false {
			d.t.Errorf("the account is %v", account)
		}
		return
	}
	d.t.Error("no account was delivered")
}

func asAny(payloads []dict) []any {
	var out []any
	for _, p := range payloads {
		out = append(out, p)
	}
	return out
}

var localKeyID = regexp.MustCompile(`localKeyID: ((?:[0-9A-F]{2} ?)+)`)

// checkOpenSSL: the algorithms that the device reads, one key, and the leaf that belongs to it first.
func (d *delivery) checkOpenSSL() {
	for _, id := range d.ids {
		password := string(d.read(id.name + ".password"))
		_, info, ok := d.try(nil, need(d.t, "openssl"), "pkcs12", "-legacy", "-info", "-noout", "-in", id.name+".p12", "-passin", "pass:"+password)
		for _, word := range d.flavour {
			if !ok || !bytes.Contains(info, []byte(word)) {
				d.t.Errorf("%s: openssl does not say %s but:\n%s", id.name, word, info)
			}
		}
		opened := d.openPKCS12(d.read(id.name+".p12"), password)
		keyIDs := localKeyID.FindAllStringSubmatch(opened, -1)
		if len(keyIDs) != 2 || keyIDs[0][1] != keyIDs[1][1] || strings.Count(opened, "PRIVATE KEY-----") != 2 {
			d.t.Errorf("%s: localKeyIDs are %q", id.name, keyIDs)
		}
		public := d.peer(nil, "openssl", "x509", "-in", id.name+".pem", "-noout", "-pubkey")
		if own := d.peer(nil, "openssl", "pkey", "-in", id.name+".key", "-pubout"); !bytes.Equal(own, public) {
			d.t.Errorf("%s: the key belongs to another certificate", id.name)
		}
		if _, _, ok := d.try(nil, need(d.t, "openssl"), "pkcs12", "-legacy", "-noout", "-in", id.name+".p12", "-passin", "pass:wrong"); ok {
			d.t.Errorf("%s opens with a wrong password", id.name)
		}
	}
}

// checkSigning: the certificate is right for signing mail, under the root that the device was told to trust, by the issuing CA
// that came with it.
func (d *delivery) checkSigning() {
	cert := d.signing() + ".pem"
	d.checkIssued(cert)
	names := string(d.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-ext", "subjectAltName"))
	if _, first, _ := strings.Cut(names, "\n"); !strings.HasPrefix(strings.TrimSpace(first), "email:"+alice) {
		d.t.Errorf("the first alternative name is not the account's address:\n%s", names)
	}
	say := string(d.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-ext", "keyUsage,extendedKeyUsage"))
	if !strings.Contains(say, "E-mail Protection") || !strings.Contains(say, "Digital Signature") || strings.Contains(say, "Encipherment") {
		d.t.Errorf("the signing certificate says:\n%s", say)
	}
}
