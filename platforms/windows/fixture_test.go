package windows

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
)

const alice = "alice@corp.test"

func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// cert makes the public record of a certificate; the name gives it its hashes.
func cert(name string, purpose profiles.Purpose, from, to int, addresses ...string) profiles.Certificate {
	der := []byte("certificate " + name)
	sum256, sum1 := sha256.Sum256(der), sha1.Sum(der)
	return profiles.Certificate{SHA256: hex.EncodeToString(sum256[:]), SHA1: hex.EncodeToString(sum1[:]), DER: der,
		Addresses: addresses, NotBefore: day(from), NotAfter: day(to), Purpose: purpose, RecordID: name}
}

func enc(name string, from, to int) profiles.Certificate {
	return cert(name, profiles.PurposeSMIMEEncryption, from, to, alice)
}

func sig(name string, from, to int, addresses ...string) profiles.Certificate {
	return cert(name, profiles.PurposeSMIMESigning, from, to, addresses...)
}

func object(name string, spec profiles.Spec) profiles.Object {
	o := profiles.Object{APIVersion: profiles.APIVersion, Name: name, Spec: spec}
	switch spec.(type) {
	case *profiles.TrustedCertificate:
		o.Kind = profiles.KindTrustedCertificate
	case *profiles.PKCSCertificate:
		o.Kind = profiles.KindPKCSCertificate
	case *profiles.PKCSImportedCertificate:
		o.Kind = profiles.KindPKCSImportedCertificate
	case *profiles.SCEPCertificate:
		o.Kind = profiles.KindSCEPCertificate
	case *profiles.Email:
		o.Kind = profiles.KindEmail
	case *profiles.Custom:
		o.Kind = profiles.KindCustom
	}
	return o
}

// partner is a root that another program made.
func partner(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "examples", "partner.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("partner.pem holds no PEM block")
	}
	return block.Bytes
}

func mailSigning() *profiles.PKCSCertificate {
	return &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca",
		Subject:                 "CN={{UserName}},E={{EmailAddress}}",
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}}}}
}

func imported(p profiles.Purpose) *profiles.PKCSImportedCertificate {
	return &profiles.PKCSImportedCertificate{IntendedPurpose: p}
}

func companyMail() *profiles.Email {
	return &profiles.Email{AccountName: "Company mail",
		Exchange: &profiles.Exchange{Host: "mail.corp.test", Authentication: profiles.AuthUsernameAndPassword,
			UsernameSource: profiles.SourceUserPrincipalName},
		SMIME: &profiles.SMIME{
			Signing: profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing"},
			Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "mail-history", UserMayChange: true,
				UserMayChangeCertificate: true, PerMessageSwitch: true}}}
}

// sales is what examples/sales.yaml gives to Alice's PC, everything issued and imported.
func sales(t testing.TB) platforms.Input {
	return platforms.Input{
		Organization: "Corp", Namespace: "io.waxseal.3f2a", UserID: "u-1", UPN: alice,
		User: profiles.User{DisplayName: "Alice Example", Addresses: []string{alice, "a.example@corp.test"}},
		Device: platforms.Device{ID: "d-1", Platform: profiles.Windows, OSVersion: "10.0.22631.3007", Model: "Virtual Machine",
			Name: "PC-0001", SerialNumber: "0000-1111"},
		Profiles: []profiles.Object{
			object("company-mail", companyMail()),
			object("company-root", &profiles.TrustedCertificate{CertificateAuthority: "softca"}),
			object("mail-history", imported(profiles.PurposeSMIMEEncryption)),
			object("mail-signing", mailSigning()),
		},
		CAs:      map[string][]byte{"softca": partner(t)},
		Issued:   map[string]profiles.Certificate{"mail-signing": sig("signing", 2026, 2027, alice)},
		Imported: []profiles.Certificate{enc("2026", 2026, 2028), enc("2018", 2018, 2020), enc("2020", 2020, 2022)},
		Now:      time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

// changed is sales after a change.
func changed(t testing.TB, change func(*platforms.Input)) platforms.Input {
	in := sales(t)
	change(&in)
	return in
}

// with adds profiles to an input; one of the same name goes.
func with(in platforms.Input, objects ...profiles.Object) platforms.Input {
	for _, o := range objects {
		in = without(in, o.Name)
		in.Profiles = append(in.Profiles, o)
	}
	return in
}

// without takes the profile of that name away.
func without(in platforms.Input, name string) platforms.Input {
	var kept []profiles.Object
	for _, o := range in.Profiles {
		if o.Name != name {
			kept = append(kept, o)
		}
	}
	in.Profiles = kept
	return in
}

// history is the id of a certificate's document.
func history(c profiles.Certificate) string { return "history." + c.SHA256[:16] }

func byID(t testing.TB, docs []platforms.Document, id string) platforms.Document {
	t.Helper()
	for _, d := range docs {
		if d.ID == id {
			return d
		}
	}
	t.Fatalf("no document %s in %v", id, ids(docs))
	return platforms.Document{}
}

const password = "correct-horse-battery-staple"

// pkcs12s gives a stand-in for the PKCS#12 of each credential.
func pkcs12s(doc platforms.Document) map[string]platforms.PKCS12 {
	creds := map[string]platforms.PKCS12{}
	for _, c := range doc.Credentials {
		creds[c.SHA256] = platforms.PKCS12{Bytes: []byte("pkcs12 of " + c.RecordID), Password: password}
	}
	return creds
}

// sealTo encrypts to a certificate as the connector does it.
func sealTo(to *x509.Certificate) func([]byte) ([]byte, error) {
	return func(plain []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, plain, []*x509.Certificate{to}, cms.EncryptOptions{})
	}
}

// pc is a device certificate with its key.
func pc(t testing.TB) *testpki.Identity {
	t.Helper()
	return testpki.SelfSigned(t, testpki.Options{CN: "PC"})
}

func rendering(t testing.TB, doc platforms.Document) []byte {
	t.Helper()
	payload, err := Render(doc, pkcs12s(doc), sealTo(pc(t).Cert))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// message writes commands as the PC gets them, a command in a line. What is random gives way to a word.
func message(t testing.TB, commands []syncml.Command) []byte {
	t.Helper()
	for i, c := range commands {
		for j, inner := range c.Commands {
			if strings.HasSuffix(inner.Items[0].Target, "/PFXCertPassword") {
				commands[i].Commands[j].Items[0].Data = "CMS"
			}
		}
	}
	numbered, _ := syncml.Number(1, commands)
	m := &syncml.Message{SessionID: "1", MsgID: 1, Target: "PC", Source: "https://mdm.corp.test/", Commands: numbered, Final: true}
	out, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"Add", "Delete", "Exec", "Atomic", "Final"} {
		out = bytes.ReplaceAll(out, []byte("<"+verb), []byte("\n<"+verb))
	}
	return append(out, '\n')
}

// golden compares with a file of testdata/golden; WAXSEAL_UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", name, got)
	}
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}
