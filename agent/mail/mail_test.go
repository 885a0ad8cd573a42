package mail

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

type dict = map[string]any

const (
	alice   = "alice@example.com"
	bob     = "bob@example.com"
	message = "From: Alice <alice@example.com>\r\nTo: Bob <bob@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nHello Bob,\r\n--\r\nAlice\r\n"
)

// clock stands still.
type clock struct{ apple.Clock }

func (clock) Now() time.Time { return testpki.Now() }

// person is a device with what a user would have on it.
type person struct {
	*Program
	phone              *apple.Device
	sign, encrypt, old *testpki.Identity
	dir                string
}

func newPerson(t *testing.T, ca *testpki.CA, address string) *person {
	t.Helper()
	d, err := apple.Open(apple.Config{State: t.TempDir(), Clock: clock{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	o := testpki.Options{CN: address, Emails: []string{address}}
	p := &person{Program: New(d, rand.Reader), phone: d, dir: d.Folder().Dir}
	o.KeyUsage = x509.KeyUsageDigitalSignature
	p.sign = ca.Issue(t, o)
	o.KeyUsage = x509.KeyUsageKeyEncipherment
	p.encrypt = ca.Issue(t, o)
	o.NotBefore, o.NotAfter = testpki.Now().AddDate(-9, 0, 0), testpki.Now().AddDate(-8, 0, 0)
	p.old = ca.Issue(t, o)
	p.setUp(t, ca, address, dict{
		"SMIMESigningEnabled": true, "SMIMESigningCertificateUUID": "U-sign",
		"SMIMEEnableEncryptionPerMessageSwitch": true, "SMIMEEncryptionCertificateUUID": "U-encrypt",
	})
	return p
}

// setUp installs the account, with S/MIME keys, in place of an earlier one.
func (p *person) setUp(t *testing.T, ca *testpki.CA, address string, smime dict) {
	t.Helper()
	account := dict{
		"EmailAccountType": "EmailTypeIMAP", "EmailAddress": address,
		"IncomingMailServerAuthentication": "EmailAuthNone", "IncomingMailServerHostName": "imap",
		"OutgoingMailServerAuthentication": "EmailAuthNone", "OutgoingMailServerHostName": "smtp",
	}
	maps.Copy(account, smime)
	p.install(t, "org.mail", payload("com.apple.security.root", "root", dict{"PayloadContent": ca.Cert.Raw}),
		p12(t, "sign", p.sign), p12(t, "encrypt", p.encrypt), p12(t, "old", p.old), payload("com.apple.mail.managed", "mail", account))
}

func payload(kind, name string, more dict) dict {
	more["PayloadType"], more["PayloadVersion"], more["PayloadIdentifier"], more["PayloadUUID"] = kind, 1, "org."+name, "U-"+name
	return more
}

func p12(t *testing.T, name string, id *testpki.Identity) dict {
	t.Helper()
	data, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	return payload("com.apple.security.pkcs12", name, dict{"PayloadContent": data, "Password": "x"})
}

func (p *person) install(t *testing.T, id string, payloads ...dict) {
	t.Helper()
	content := []any{}
	for _, inner := range payloads {
		content = append(content, inner)
	}
	data, err := proplist.Encode(dict{"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": id, "PayloadUUID": "T", "PayloadContent": content})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.phone.InstallFile(t.Context(), data); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, out []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tool runs a program of somebody else's on a message.
func tool(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("%s is missing", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// files writes what tools read, and returns where.
func files(t *testing.T, content map[string][]byte) func(string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range content {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

// The first exchange of mail between two people: a signed message teaches the certificate, the answer is encrypted to
// it and signed inside.
func TestConversation(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	if _, _, err := a.Encrypt([]byte(message), "", nil); err == nil || !strings.Contains(err.Error(), bob) {
		t.Fatalf("encrypted to somebody unknown: %v", err)
	}
	signed := must2(t, a.Sign, message)
	verdict, err := b.Verify(signed)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.From != alice || !verdict.Remembered.Equal(a.encrypt.Cert) || !bytes.Contains(verdict.Message, []byte("Hello Bob")) {
		t.Errorf("verdict %+v", verdict)
	}
	reply := strings.NewReplacer("Alice <alice", "Bob <bob", "Bob <bob", "Alice <alice").Replace(message)
	sealed, warning, err := b.Encrypt(must2(t, b.Sign, reply), "", nil)
	if err != nil || warning != "" {
		t.Fatal(err, warning)
	}
	for name, who := range map[string]*person{"recipient": a, "sender's copy": b} {
		out, inside, err := who.Decrypt(sealed)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if inside == nil || inside.Reason != nil || inside.From != bob || !bytes.Contains(inside.Message, []byte("Hello Bob")) {
			t.Errorf("%s: %+v", name, inside)
		}
		if !out.Key.Certificate.Equal(who.encrypt.Cert) {
			t.Errorf("%s: opened with %s", name, out.Key.Certificate.Subject)
		}
	}
	stranger := newPerson(t, ca, "eve@example.com")
	if _, _, err := stranger.Decrypt(sealed); !errors.Is(err, smime.ErrDecrypt) {
		t.Errorf("a stranger: %v", err)
	}
}

func must2(t *testing.T, sign func([]byte, string) ([]byte, error), text string) []byte {
	t.Helper()
	out, err := sign([]byte(text), "")
	return must(t, out, err)
}

// Mail of eight years ago, encrypted by other programs to the old key, opens.
func TestDecryptForeign(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a := newPerson(t, ca, alice)
	at := files(t, map[string][]byte{"old.pem": a.old.CertPEM(), "new.pem": a.encrypt.CertPEM()})
	head := []string{"-from", bob, "-to", alice, "-subject", "old"}
	tests := map[string][]byte{
		"cms AES-256": tool(t, []byte("Content-Type: text/plain\r\n\r\nHello\r\n"), "openssl", append(append([]string{"cms", "-encrypt", "-aes256"}, head...), at("old.pem"))...),
		"smime 3DES":  tool(t, []byte("Content-Type: text/plain\r\n\r\nHello\r\n"), "openssl", append(append([]string{"smime", "-encrypt", "-des3"}, head...), at("old.pem"))...),
		"by key id":   tool(t, []byte("Content-Type: text/plain\r\n\r\nHello\r\n"), "openssl", append(append([]string{"cms", "-encrypt", "-keyid", "-aes128"}, head...), at("old.pem"))...),
		"streamed":    tool(t, []byte("Content-Type: text/plain\r\n\r\nHello\r\n"), "openssl", append(append([]string{"cms", "-encrypt", "-stream", "-aes128"}, head...), at("old.pem"))...),
		"CRLF":        bytes.ReplaceAll(tool(t, []byte("Content-Type: text/plain\n\nHello\n"), "openssl", append(append([]string{"cms", "-encrypt", "-aes256"}, head...), at("old.pem"))...), []byte("\n"), []byte("\r\n")),
	}
	for name, sealed := range tests {
		out, inside, err := a.Decrypt(sealed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if inside != nil || !out.Key.Certificate.Equal(a.old.Cert) || !bytes.Contains(out.Message, []byte("Hello")) || !bytes.Contains(out.Message, []byte("Subject: old\r\n")) {
			t.Errorf("%s: %q", name, out.Message)
		}
		if _, err := a.Sign(out.Message, alice); err != nil {
			t.Errorf("%s: the result is no message: %v", name, err)
		}
	}
}

// Other programs verify and decrypt what we write.
func TestForeignReaders(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	signed := must2(t, a.Sign, message)
	sealed, _, err := a.Encrypt(signed, "", []*x509.Certificate{b.encrypt.Cert})
	if err != nil {
		t.Fatal(err)
	}
	umlauts := must2(t, a.Sign, strings.Replace(message, "Hello", "Grüße", 1))
	at := files(t, map[string][]byte{
		"ca.pem": ca.CertPEM(), "bob.pem": append(b.encrypt.CertPEM(), b.encrypt.KeyPEM()...),
		"alice.pem": append(a.encrypt.CertPEM(), a.encrypt.KeyPEM()...),
	})
	for _, command := range []string{"cms", "smime"} {
		for name, m := range map[string][]byte{"Hello": signed, "Gr=C3=BC": umlauts} {
			out := tool(t, m, "openssl", command, "-verify", "-CAfile", at("ca.pem"), "-no_check_time")
			if !bytes.Contains(out, []byte(name)) {
				t.Errorf("openssl %s: %q", command, out)
			}
		}
		for _, who := range []string{"bob.pem", "alice.pem"} {
			inner := tool(t, sealed, "openssl", command, "-decrypt", "-recip", at(who), "-inkey", at(who))
			out := tool(t, inner, "openssl", command, "-verify", "-CAfile", at("ca.pem"), "-no_check_time")
			if !bytes.Contains(out, []byte("Hello Bob")) {
				t.Errorf("openssl %s as %s: %q", command, who, out)
			}
		}
	}
}

// NSS, which Thunderbird is built on, reads what we write.
func TestNSSReader(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	sealed, _, err := a.Encrypt([]byte(message), "", []*x509.Certificate{b.encrypt.Cert})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: b.encrypt.Key, Certificate: b.encrypt.Cert, Chain: []*x509.Certificate{ca.Cert}}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(sealed, []byte("\r\n\r\n"))
	at := files(t, map[string][]byte{"b.p12": pair, "sealed.b64": body})
	db := "sql:" + at("")
	tool(t, nil, "certutil", "-N", "--empty-password", "-d", db)
	tool(t, nil, "pk12util", "-i", at("b.p12"), "-W", "x", "-d", db)
	der := tool(t, body, "openssl", "base64", "-d")
	if err := os.WriteFile(at("sealed.der"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, nil, "cmsutil", "-D", "-d", db, "-i", at("sealed.der")); !bytes.Contains(out, []byte("Hello Bob")) {
		t.Errorf("cmsutil: %q", out)
	}
}

// What other programs sign is verified, with either line end, detached or opaque.
func TestVerifyForeign(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	at := files(t, map[string][]byte{"alice.pem": append(a.sign.CertPEM(), a.sign.KeyPEM()...)})
	sign := func(body string, args ...string) []byte {
		args = append([]string{"cms", "-sign", "-signer", at("alice.pem"), "-from", alice, "-to", bob, "-subject", "x"}, args...)
		return tool(t, []byte(body), "openssl", args...)
	}
	const body = "Content-Type: text/plain\n\nHello\n"
	tests := map[string][]byte{
		"detached":        sign(body),
		"detached, CRLF":  bytes.ReplaceAll(bytes.ReplaceAll(sign(body), []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")),
		"binary with LF":  sign(body, "-binary"),
		"opaque":          sign(body, "-nodetach"),
		"SHA-1":           sign(body, "-md", "sha1"),
		"SHA-512, key id": sign(body, "-md", "sha512", "-keyid"),
	}
	for name, signed := range tests {
		v, err := b.Verify(signed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v.From != alice || !bytes.Contains(v.Message, []byte("Hello")) {
			t.Errorf("%s: %q", name, v.Message)
		}
		if _, err := b.Verify(bytes.Replace(signed, []byte("Hello"), []byte("Hullo"), 1)); err == nil && name != "opaque" {
			t.Errorf("%s: verifies after a change", name)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	ca, other := testpki.NewCA(t, "mail CA"), testpki.NewCA(t, "another CA")
	a, b, stranger := newPerson(t, ca, alice), newPerson(t, ca, bob), newPerson(t, other, alice)
	signed := string(must2(t, a.Sign, message))
	tests := map[string]struct{ message, want string }{
		"another sender":  {strings.Replace(signed, "Alice <alice@", "Carol <carol@", 1), "signed by alice@example.com"},
		"two senders":     {strings.Replace(signed, "To:", "From: carol@example.com\r\nTo:", 1), "2 from fields"},
		"no sender":       {strings.Replace(signed, "From:", "X-From:", 1), "no sender"},
		"changed":         {strings.Replace(signed, "Hello", "Hullo", 1), "does not fit"},
		"untrusted":       {string(must2(t, stranger.Sign, message)), "not trusted"},
		"not signed":      {message, "not signed"},
		"no end boundary": {strings.TrimRight(signed, "-\r\n"), "boundary"},
	}
	for name, tt := range tests {
		if _, err := b.Verify([]byte(tt.message)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if cert, err := b.Contacts.Find(alice); err != nil || cert != nil {
		t.Errorf("remembered from a bad message: %v", err)
	}
}

// Every way of not opening looks the same (EFAIL).
func TestOneDecryptError(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a := newPerson(t, ca, alice)
	sealed, _, err := a.Encrypt([]byte(message), "", []*x509.Certificate{a.old.Cert})
	if err != nil {
		t.Fatal(err)
	}
	text := string(sealed)
	end := strings.LastIndex(strings.TrimRight(text, "=\r\n"), "\r\n")
	for name, changed := range map[string]string{
		"last block": text[:end-8] + "AAAAAAAA" + text[end:],
		"truncated":  text[:len(text)/2/4*4],
		"nothing":    text[:strings.Index(text, "\r\n\r\n")+4],
	} {
		out, _, err := a.Decrypt([]byte(changed))
		if err == nil && bytes.Contains(out.Message, []byte("Hello")) && name != "last block" {
			t.Errorf("%s: opened", name)
		}
		if err != nil && err.Error() != smime.ErrDecrypt.Error() && !errors.Is(err, smime.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := a.Decrypt([]byte(message)); !errors.Is(err, smime.ErrNotEncrypted) {
		t.Errorf("plain message: %v", err)
	}
}

func TestSignNeedsIdentity(t *testing.T) {
	a := newPerson(t, testpki.NewCA(t, "mail CA"), alice)
	for from, want := range map[string]string{"carol@example.com": "no certificate with which carol"} {
		if _, err := a.Sign([]byte(message), from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if _, err := a.Sign([]byte("Subject: x\r\n\r\n"), ""); err == nil || !strings.Contains(err.Error(), "--from") {
		t.Errorf("no From: %v", err)
	}
}
