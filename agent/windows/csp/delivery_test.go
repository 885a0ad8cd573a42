package csp

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
)

// delivery is a PC with the identities that a plan delivers to it.
type delivery struct {
	*fixture
	identities map[string]*testpki.Identity // by SHA-256
}

func (d delivery) record(id *testpki.Identity, purpose profiles.Purpose) profiles.Certificate {
	sum256, sum1 := sha256.Sum256(id.Cert.Raw), sha1.Sum(id.Cert.Raw)
	c := profiles.Certificate{SHA256: hex.EncodeToString(sum256[:]), SHA1: hex.EncodeToString(sum1[:]), DER: id.Cert.Raw,
		Addresses: id.Cert.EmailAddresses, NotBefore: id.Cert.NotBefore, NotAfter: id.Cert.NotAfter, Purpose: purpose}
	d.identities[c.SHA256] = id
	return c
}

// input is a user with an old and a new encryption certificate, a signing certificate and Outlook.
func (d delivery) input() platforms.Input {
	const ann = "ann@example.test"
	issue := func(name string, age int) *testpki.Identity {
		return d.identity(name, testpki.Options{Emails: []string{ann}, NotBefore: testpki.Now().AddDate(-age, 0, 0), NotAfter: testpki.Now().AddDate(2-age, 0, 0)})
	}
	object := func(name string, kind profiles.Kind, spec profiles.Spec) profiles.Object {
		return profiles.Object{APIVersion: profiles.APIVersion, Kind: kind, Name: name, Spec: spec}
	}
	return platforms.Input{
		Organization: "Example", Namespace: "io.waxseal.3f2a", UserID: "u-1", UPN: ann, Now: testpki.Now(),
		User:   profiles.User{DisplayName: "Ann", Addresses: []string{ann}},
		Device: platforms.Device{ID: "d-1", Platform: profiles.Windows, OSVersion: "10.0.22631.3007", Name: "PC-0001"},
		CAs:    map[string][]byte{"softca": d.ca.Cert.Raw},
		Issued: map[string]profiles.Certificate{"signing": d.record(issue("signing", 0), profiles.PurposeSMIMESigning)},
		Imported: []profiles.Certificate{
			d.record(issue("old", 4), profiles.PurposeSMIMEEncryption), d.record(issue("new", 1), profiles.PurposeSMIMEEncryption),
		},
		Profiles: []profiles.Object{
			object("roots", profiles.KindTrustedCertificate, &profiles.TrustedCertificate{CertificateAuthority: "softca"}),
			object("signing", profiles.KindPKCSCertificate, &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca"}}),
			object("history", profiles.KindPKCSImportedCertificate, &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}),
			object("mail", profiles.KindEmail, &profiles.Email{AccountName: "Mail",
				Exchange: &profiles.Exchange{Host: "mail.example.test", Authentication: profiles.AuthUsernameAndPassword, UsernameSource: profiles.SourceUserPrincipalName},
				SMIME: &profiles.SMIME{
					Signing:    profiles.SMIMESigning{Enabled: true, Certificate: "signing"},
					Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "history"},
				}}),
		},
	}
}

// install does with a document what connector and server do, and judges what the PC shows afterwards.
func (d delivery) install(doc platforms.Document, replace bool) {
	d.t.Helper()
	if doc.Reason != "" {
		d.t.Fatalf("%s waits: %s %s", doc.ID, doc.Reason, doc.Detail)
	}
	creds := map[string]platforms.PKCS12{}
	for _, c := range doc.Credentials {
		id := d.identities[c.SHA256]
		raw, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "secret", pfx.Modern2023)
		if err != nil {
			d.t.Fatal(err)
		}
		creds[c.SHA256] = platforms.PKCS12{Bytes: raw, Password: "secret"}
	}
	payload, err := windows.Render(doc, creds, func(password []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, password, certs(d.mdm), cms.EncryptOptions{})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	commands, checks, err := windows.Install(doc, payload, replace)
	if err != nil {
		d.t.Fatal(err)
	}
	for ref, status := range d.do(commands...).statuses {
		if status != "200" {
			d.t.Errorf("%s: command %s gets %s", doc.ID, ref, status)
		}
	}
	var uris []string
	for _, c := range checks {
		uris = append(uris, c.LocURI)
	}
	if err := windows.Judge(checks, d.values(uris)); err != nil {
		d.t.Errorf("%s: %v", doc.ID, err)
	}
}

// values are the nodes that answer 200.
func (d delivery) values(uris []string) map[string]string {
	out := map[string]string{}
	for _, uri := range uris {
		if a := d.do(get(uri)); a.statuses["1"] == "200" {
			out[uri] = a.results["1"]
		}
	}
	return out
}

// TestDelivery installs every document that the planner makes for Windows, reads the inventory as the server does, installs
// all again in place of what is there, and takes everything away.
func TestDelivery(t *testing.T) {
	d := delivery{modern(t), map[string]*testpki.Identity{}}
	docs := windows.Plan(d.input())
	proofs := map[string]string{}
	for _, replace := range []bool{false, true} {
		for _, doc := range docs {
			d.install(doc, replace)
			proofs[doc.Identifier] = doc.Proof
		}
		shown := windows.Documents(d.values(append(windows.InventoryURIs(), windows.InventoryFor(docs)...)))
		if len(docs) < 5 || !maps.Equal(shown, proofs) {
			t.Errorf("the PC shows %v, want %v", shown, proofs)
		}
	}
	if n := len(d.Certificates("User/My")); n != 3 || d.Policies()[security+"AlwaysSign"] != "1" {
		t.Errorf("%d certificates and the policies %v", n, d.Policies())
	}
	for _, doc := range docs {
		d.do(windows.Remove(doc.Identifier)...)
	}
	if len(d.Stores()) > 0 || len(d.Policies()) > 0 {
		t.Errorf("left behind: %v, %v", d.Stores(), d.Policies())
	}
	if a := d.do(windows.Unenroll("Waxseal")...); !a.effects.Unenroll {
		t.Error("the server's command does not unenrol")
	}
	if facts := windows.ReadFacts(d.values(windows.FactURIs())); facts.Name != "PC-0001" || facts.OSVersion != "10.0.22631.3007" || facts.SerialNumber != "SN1" {
		t.Errorf("the facts are %+v", facts)
	}
	if a := d.do(windows.Wipe()...); !a.effects.Wipe {
		t.Error("the server's command does not wipe")
	}
}

// TestServerReadsRefusal: the number of a failed import reaches the words that the server has for it.
func TestServerReadsRefusal(t *testing.T) {
	f := modern(t)
	ann := f.identity("Ann", testpki.Options{})
	f.do(nodes(syncml.Add, "A1", "wrong", "0", f.pfx(ann, "secret", pfx.LegacyDES))...)
	d := delivery{f, nil}
	checks := []windows.Check{{LocURI: userPFX + "/A1/Status", Want: "0"}}
	if err := windows.Judge(checks, d.values([]string{userPFX + "/A1/Status"})); err == nil {
		t.Error("the server takes a refused import for a good one")
	}
}
