package android

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

const alice = "alice@corp.test"

func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// cert makes the public record of a certificate; the name gives it its hash.
func cert(name string, purpose profiles.Purpose, from, to int, addresses ...string) profiles.Certificate {
	der := []byte("certificate " + name)
	sum := sha256.Sum256(der)
	return profiles.Certificate{SHA256: hex.EncodeToString(sum[:]), DER: der, Addresses: addresses,
		NotBefore: day(from), NotAfter: day(to), Purpose: purpose, RecordID: name}
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

func companyMail(apps ...string) *profiles.Email {
	e := &profiles.Email{AccountName: "Company mail",
		Exchange: &profiles.Exchange{Host: "mail.corp.test", Authentication: profiles.AuthUsernameAndPassword,
			UsernameSource: profiles.SourceUserPrincipalName},
		SMIME: &profiles.SMIME{
			Signing:    profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing"},
			Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "mail-history", UserMayChange: true}}}
	if len(apps) > 0 {
		e.Android = &profiles.EmailOnAndroid{Apps: apps}
	}
	return e
}

// sales is what examples/sales.yaml gives to Alice's Android device, everything issued and imported.
func sales(t testing.TB) platforms.Input {
	return platforms.Input{
		Organization: "Corp", Namespace: "io.waxseal.3f2a", UserID: "u-1", UPN: alice,
		User: profiles.User{DisplayName: "Alice Example", Addresses: []string{alice, "a.example@corp.test"}, SAMAccountName: "alice"},
		Device: platforms.Device{ID: "d-1", Platform: profiles.Android, OSVersion: "15", Model: "Pixel 9", Name: "Alice's phone",
			SerialNumber: "R5CT"},
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

// history is the id of a certificate's document, granted that of the app's grant of it.
func history(c profiles.Certificate) string { return "history." + c.SHA256[:16] }

func granted(app string, c profiles.Certificate) string { return "grant." + app + "." + c.SHA256[:16] }

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

// has tells whether a document is planned.
func has(docs []platforms.Document, id string) bool {
	for _, d := range docs {
		if d.ID == id {
			return true
		}
	}
	return false
}

func item(t testing.TB, doc platforms.Document) companion.Item {
	t.Helper()
	i, err := Item(doc, companion.OpInstall, false)
	if err != nil {
		t.Fatal(doc.Reason, doc.Detail, err)
	}
	return i
}

// mailbox is a certificate with its key, as the connector opens it.
func mailbox(t testing.TB, kind testpki.KeyType) (profiles.Certificate, Key) {
	t.Helper()
	ca := testpki.NewCA(t, "Mail CA")
	id := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{alice}, KeyType: kind})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(id.Cert.Raw)
	c := profiles.Certificate{SHA256: hex.EncodeToString(sum[:]), DER: id.Cert.Raw, Addresses: []string{alice},
		NotBefore: id.Cert.NotBefore, NotAfter: id.Cert.NotAfter, Purpose: profiles.PurposeSMIMEEncryption, RecordID: "r-1"}
	return c, Key{PKCS8: pkcs8, Chain: [][]byte{id.Cert.Raw, ca.Cert.Raw}}
}

// keyed is the plan of a real certificate, and its key.
func keyed(t testing.TB) (platforms.Document, map[string]Key) {
	t.Helper()
	c, key := mailbox(t, testpki.RSA2048)
	docs := Plan(changed(t, func(in *platforms.Input) { in.Imported = []profiles.Certificate{c} }))
	return byID(t, docs, history(c)), map[string]Key{c.SHA256: key}
}

// sealTo encrypts to a certificate as the connector does it.
func sealTo(to *x509.Certificate) func([]byte) ([]byte, error) {
	return func(plain []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, plain, []*x509.Certificate{to}, cms.EncryptOptions{})
	}
}

// phone is a wrap certificate with its key.
func phone(t testing.TB) *testpki.Identity {
	t.Helper()
	return testpki.SelfSigned(t, testpki.Options{CN: "phone"})
}

func indented(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
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
