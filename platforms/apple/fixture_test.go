package apple

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

const namespace = "io.waxseal.3f2a"

func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// cert makes the public record of a certificate; the name gives it a hash.
func cert(name string, purpose profiles.Purpose, from, to int, addresses ...string) profiles.Certificate {
	der := []byte("certificate " + name)
	return profiles.Certificate{SHA256: hexSHA256(der), SHA1: hexSHA256(der)[:40], DER: der, Addresses: addresses,
		NotBefore: day(from), NotAfter: day(to), Purpose: purpose, RecordID: name}
}

const alice = "alice@corp.test"

func enc(name string, from, to int) profiles.Certificate {
	return cert(name, profiles.PurposeSMIMEEncryption, from, to, alice)
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

func example(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func partner(t testing.TB) []byte {
	block, _ := pem.Decode(example(t, "partner.pem"))
	if block == nil {
		t.Fatal("partner.pem holds no PEM block")
	}
	return block.Bytes
}

func on() *bool { b := true; return &b }

func mailSigning() *profiles.PKCSCertificate {
	return &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca",
		Template: "smime-signing", Subject: "CN={{UserName}},E={{EmailAddress}}",
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}}}}
}

func companyMail() *profiles.Email {
	return &profiles.Email{AccountName: "Company mail",
		Exchange: &profiles.Exchange{Host: "mail.corp.test", SSL: on(), Authentication: profiles.AuthUsernameAndPassword,
			UsernameSource: profiles.SourceUserPrincipalName},
		SMIME: &profiles.SMIME{
			Signing: profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing"},
			Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "mail-history", UserMayChange: true,
				UserMayChangeCertificate: true, PerMessageSwitch: true}}}
}

func imapMail() *profiles.Email {
	server := func(host string, port int) *profiles.MailServer {
		return &profiles.MailServer{Host: host, Port: port, SSL: on(), Authentication: profiles.AuthPassword,
			UsernameSource: profiles.SourcePrimaryAddress}
	}
	return &profiles.Email{AccountName: "IMAP", IMAP: server("imap.corp.test", 993), SMTP: server("smtp.corp.test", 465),
		SMIME: &profiles.SMIME{Signing: profiles.SMIMESigning{Enabled: true, Certificate: "imported-signing"}}}
}

// sales is what examples/sales.yaml gives to Alice's iPhone, everything issued and imported.
func sales(t testing.TB) platforms.Input {
	return platforms.Input{
		Organization: "Corp", Namespace: namespace, UserID: "u-1", UPN: alice,
		User: profiles.User{DisplayName: "Alice Example", Addresses: []string{alice, "a.example@corp.test"}},
		Device: platforms.Device{ID: "d-1", Platform: profiles.IOS, OSVersion: "18.1", Model: "iPhone15,2",
			Name: "Alice's iPhone", SerialNumber: "C02XXXXX"},
		Profiles: []profiles.Object{
			object("company-mail", companyMail()),
			object("company-root", &profiles.TrustedCertificate{CertificateAuthority: "softca"}),
			object("mail-history", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}),
			object("mail-signing", mailSigning()),
		},
		CAs:      map[string][]byte{"softca": partner(t)},
		Issued:   map[string]profiles.Certificate{"mail-signing": cert("signing", profiles.PurposeSMIMESigning, 2026, 2027, alice)},
		Imported: []profiles.Certificate{enc("2026", 2026, 2028), enc("2018", 2018, 2020), enc("2020", 2020, 2022)},
		Now:      time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

// onMac is the same for her Mac, by one of its channels.
func onMac(in platforms.Input, channel string) platforms.Input {
	in.Device.Platform, in.Device.OSVersion, in.Channel = profiles.MacOS, "15.1", channel
	return in
}

// changed is what sales gives with another form of the Email profile.
func changed(t testing.TB, change func(*profiles.Email)) platforms.Input {
	m := companyMail()
	change(m)
	return with(without(sales(t), "company-mail"), object("company-mail", m))
}

// with adds profiles to an input.
func with(in platforms.Input, objects ...profiles.Object) platforms.Input {
	in.Profiles = append(append([]profiles.Object(nil), in.Profiles...), objects...)
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

func byID(t testing.TB, docs []platforms.Document, id string) platforms.Document {
	t.Helper()
	for _, d := range docs {
		if d.ID == id {
			return d
		}
	}
	t.Fatalf("no document %s in %s", id, ids(docs))
	return platforms.Document{}
}

func ids(docs []platforms.Document) string {
	var all []string
	for _, d := range docs {
		all = append(all, d.ID)
	}
	return strings.Join(all, " ")
}

// pkcs12s gives a stand-in for the PKCS#12 of each credential.
func pkcs12s(doc platforms.Document) map[string]platforms.PKCS12 {
	creds := map[string]platforms.PKCS12{}
	for _, c := range doc.Credentials {
		creds[c.SHA256] = platforms.PKCS12{Bytes: []byte("pkcs12 of " + c.RecordID), Password: "password of " + c.RecordID}
	}
	return creds
}

// inClear stands in for a seal, so that golden files show the content.
func inClear(plain []byte) ([]byte, error) { return plain, nil }

// opened renders a document and opens it again.
func opened(t testing.TB, doc platforms.Document) *Profile {
	t.Helper()
	data, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, inClear)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProfile(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Open(inClear); err != nil {
		t.Fatal(err)
	}
	return p
}

func payloadOf(t testing.TB, p *Profile, payloadType string) Payload {
	t.Helper()
	for _, pl := range p.Payloads {
		if pl.Type == payloadType {
			return pl
		}
	}
	t.Fatalf("no payload %s", payloadType)
	return Payload{}
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
