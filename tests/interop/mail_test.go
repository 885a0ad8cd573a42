package interop

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	bob    = "bob@corp.test"
	letter = "From: Alice Example <alice@corp.test>\r\nTo: Bob Example <bob@corp.test>\r\nSubject: An offer\r\n" +
		"Date: Tue, 24 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nOnly for you.\r\n"
	part = "Content-Type: text/plain\r\n\r\nFrom elsewhere.\r\n"
)

// bobsKey lays out the pair of somebody whose key was never in the house.
func (d *delivery) bobsKey() {
	d.t.Helper()
	password := "file:" + d.path("inputs", "pfx", "bob-2024.password")
	opened := d.peer(nil, "openssl", "pkcs12", "-legacy", "-nodes", "-in", d.path("inputs", "pfx", "bob-2024.pfx"), "-passin", password)
	d.write("bob.key", opened)
	d.write("bob.pem", d.read("inputs", "pki", "bob-2024.pem"))
}

func (d *delivery) mailOpenSSL() {
	d.bobsKey()
	d.opensslReads()
	d.opensslWrites()
}

// opensslReads: what the phone signs and encrypts.
func (d *delivery) opensslReads() {
	d.t.Helper()
	signed := d.agent(d.device, []byte(letter), "mail", "sign")
	if got := d.peer(signed, "openssl", "cms", "-verify", "-CAfile", "root.pem"); !bytes.Contains(got, []byte("Only for you.")) {
		d.t.Errorf("openssl reads %q", got)
	}
	changed := bytes.Replace(signed, []byte("Only for"), []byte("Also for"), 1)
	if _, _, ok := d.try(changed, need(d.t, "openssl"), "cms", "-verify", "-CAfile", "root.pem"); ok {
		d.t.Error("openssl verifies a changed message")
	}
	sealed := d.agent(d.device, signed, "mail", "encrypt", "--cert", d.path("bob.pem"))
	if bytes.Contains(sealed, []byte("Only for you.")) {
		d.t.Error("the encrypted message can be read")
	}
	current := d.sha256Of("alice-2024")
	for cert, key := range map[string]string{"bob.pem": "bob.key", current + ".pem": current + ".key"} {
		inner := d.peer(sealed, "openssl", "cms", "-decrypt", "-recip", cert, "-inkey", key)
		if got := d.peer(inner, "openssl", "cms", "-verify", "-CAfile", "root.pem"); !bytes.Contains(got, []byte("Only for you.")) {
			d.t.Errorf("opened with %s it reads %q", cert, got)
		}
	}
}

// opensslWrites: what the phone opens and verifies, with every key of the history.
func (d *delivery) opensslWrites() {
	d.t.Helper()
	signing := d.signing()
	header := []string{"-from", alice, "-to", alice, "-subject", "x"}
	sign := append([]string{"cms", "-sign", "-signer", signing + ".pem", "-inkey", signing + ".key"}, header...)
	signed := d.peer([]byte(part), "openssl", sign...)
	if got := d.agent(d.device, signed, "mail", "verify"); !bytes.Contains(got, []byte("From elsewhere.")) {
		d.t.Errorf("the signed message reads %q", got)
	}
	opaque := d.peer([]byte(part), "openssl", append(sign, "-nodetach")...)
	if got := d.agent(d.device, opaque, "mail", "verify"); !bytes.Contains(got, []byte("From elsewhere.")) {
		d.t.Errorf("the opaque message reads %q", got)
	}
	for n, cipher := range []string{"-des3", "-aes128", "-aes256"} {
		cert := d.path("inputs", "pki", generations[n]+".pem")
		sealed := d.peer(signed, "openssl", append(append([]string{"cms", "-encrypt", cipher}, header...), cert)...)
		if got := d.agent(d.device, sealed, "mail", "decrypt"); !bytes.Contains(got, []byte("From elsewhere.")) {
			d.t.Errorf("%s to %s reads %q", cipher, generations[n], got)
		}
	}
}

// checkNSS: NSS, on which Thunderbird is built, imports every identity, and shares mail with the phone by cmsutil.
func (d *delivery) checkNSS() {
	need(d.t, "cmsutil")
	d.bobsKey()
	db, bobs, signers := d.nss("nss"), d.nss("nss-bob"), d.nss("nss-signer")
	for _, id := range d.ids {
		d.peer(nil, "pk12util", "-i", id.name+".p12", "-w", id.name+".password", "-d", db)
	}
	if keys := d.peer(nil, "certutil", "-K", "-d", db); bytes.Count(keys, []byte("< ")) != len(d.ids) {
		d.t.Errorf("NSS has these keys:\n%s", keys)
	}
	d.peer(nil, "pk12util", "-i", d.path("inputs", "pfx", "bob-2024.pfx"), "-w", d.path("inputs", "pfx", "bob-2024.password"), "-d", bobs)
	d.peer(nil, "pk12util", "-i", d.signing()+".p12", "-w", d.signing()+".password", "-d", signers)
	d.nssReads(db, bobs)
	d.nssWrites(db, signers)
}

// nss makes a database that trusts both CAs.
func (d *delivery) nss(name string) string {
	d.t.Helper()
	d.must(nil, "mkdir", name)
	db := "sql:" + d.path(name)
	d.peer(nil, "certutil", "-N", "--empty-password", "-d", db)
	d.peer(nil, "certutil", "-A", "-n", "company root", "-t", "CT,CT,CT", "-i", "root.pem", "-d", db)
	d.peer(nil, "certutil", "-A", "-n", "old root", "-t", "CT,CT,CT", "-i", d.path("inputs", "pki", "old-corp-ca.pem"), "-d", db)
	return db
}

// nssReads: what the phone signs and encrypts. cmsutil knows no MIME, so that the parts are cut out for it.
func (d *delivery) nssReads(db, bobs string) {
	d.t.Helper()
	signed := d.agent(d.device, []byte(letter), "mail", "sign")
	content, signature := cutSigned(string(signed))
	d.write("content", []byte(content))
	d.write("signature", d.base64(signature))
	if got := d.peer(nil, "cmsutil", "-D", "-d", db, "-c", "content", "-i", "signature"); !bytes.Contains(got, []byte("Only for you.")) {
		d.t.Errorf("cmsutil reads %q", got)
	}
	d.write("content", []byte(strings.Replace(content, "Only for", "Also for", 1)))
	if _, _, ok := d.try(nil, need(d.t, "cmsutil"), "-D", "-d", db, "-c", "content", "-i", "signature"); ok {
		d.t.Error("cmsutil verifies a changed message")
	}
	sealed := d.agent(d.device, []byte(letter), "mail", "encrypt", "--cert", d.path("bob.pem"))
	_, body, _ := strings.Cut(string(sealed), "\r\n\r\n")
	d.write("sealed", d.base64(body))
	for _, place := range []string{db, bobs} {
		if got := d.peer(nil, "cmsutil", "-D", "-d", place, "-i", "sealed"); !bytes.Contains(got, []byte("Only for you.")) {
			d.t.Errorf("cmsutil with %s reads %q", place, got)
		}
	}
}

// nssWrites: what the phone opens and verifies.
func (d *delivery) nssWrites(db, signers string) {
	d.t.Helper()
	d.write("part", []byte(part))
	sealed := d.peer(nil, "cmsutil", "-E", "-d", db, "-r", alice, "-i", "part")
	if got := d.agent(d.device, mime("enveloped-data", sealed), "mail", "decrypt"); !bytes.Contains(got, []byte("From elsewhere.")) {
		d.t.Errorf("what cmsutil encrypted reads %q", got)
	}
	signed := d.peer(nil, "cmsutil", "-S", "-d", signers, "-N", d.nickname(signers), "-H", "SHA256", "-G", "-P", "-Y", "NONE", "-i", "part")
	if got := d.agent(d.device, mime("signed-data", signed), "mail", "verify"); !bytes.Contains(got, []byte("From elsewhere.")) {
		d.t.Errorf("what cmsutil signed reads %q", got)
	}
}

// nickname is what NSS calls the only identity of a database. (In one with them all, several have the same.)
func (d *delivery) nickname(db string) string {
	d.t.Helper()
	list := string(d.peer(nil, "certutil", "-L", "-d", db))
	for _, line := range strings.Split(list, "\n") {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), "u,u,u"); ok {
			return strings.TrimSpace(name)
		}
	}
	d.t.Fatalf("NSS has no identity:\n%s", list)
	return ""
}

// cutSigned takes a multipart/signed message apart: what is signed, byte by byte, and the signature in base64.
func cutSigned(message string) (content, signature string) {
	_, rest, _ := strings.Cut(message, "boundary=\"")
	boundary, rest, _ := strings.Cut(rest, "\"")
	parts := strings.Split(rest, "\r\n--"+boundary)
	if len(parts) < 3 {
		return "", ""
	}
	_, signature, _ = strings.Cut(parts[2], "\r\n\r\n")
	return strings.TrimPrefix(parts[1], "\r\n"), signature
}

func (d *delivery) base64(text string) []byte {
	d.t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(der) == 0 {
		d.t.Fatalf("no base64: %q, %v", text, err)
	}
	return der
}

// mime wraps CMS into a message from Alice to herself.
func mime(kind string, der []byte) []byte {
	return []byte(fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=%s; name=smime.p7m\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n%s\r\n", alice, alice, kind, base64.StdEncoding.EncodeToString(der)))
}
