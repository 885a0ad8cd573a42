package csp

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"
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

// asks is a PC of a user who gets a signing certificate by SCEP.
func (d delivery) asks(issued profiles.Certificate) platforms.Document {
	in := d.input()
	spec := &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{UserName}},E={{EmailAddress}}",
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}}}}
	in.User.DisplayName = `Ann "A" Example, Corp`
	in.Profiles[1] = profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindSCEPCertificate, Name: "signing", Spec: spec}
	in.SCEP = map[string]platforms.SCEPEnrolment{"signing": {Request: "0123456789abcdef0123456789abcdef", URL: "https://mdm.example.test/scep/softca",
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "ann@example.test"}}, Issued: issued}}
	for _, doc := range windows.Plan(in) {
		if windows.IsSCEP(doc) {
			return doc
		}
	}
	d.t.Fatal("nothing asks for a certificate")
	return platforms.Document{}
}

func (d delivery) asked(doc platforms.Document) windows.Asked {
	return windows.ReadAsked(doc.Identifier, d.values(windows.AskedURIs(doc.Identifier)))
}

// TestDeliverySCEP: what server and PC say to each other about a certificate that the PC asks for itself.
func TestDeliverySCEP(t *testing.T) {
	d := delivery{modern(t), map[string]*testpki.Identity{}}
	own := d.identity("own", testpki.Options{Emails: []string{"ann@example.test"}})
	record := d.record(own, profiles.PurposeSMIMESigning)
	doc := d.asks(record)
	if got := d.asked(doc); got.State != windows.AskedNothing {
		t.Errorf("before: %+v", got)
	}
	payload, err := windows.RenderSCEP(doc, "one-time")
	if err != nil {
		t.Fatal(err)
	}
	commands, _, err := windows.Install(doc, payload, false)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second after what the first came to is cleared
		if a := d.do(commands...); a.statuses["1"] != "200" || len(a.effects.SCEP) != 1 || a.effects.SCEP[0] != doc.Identifier {
			t.Fatalf("%+v", a.statuses)
		}
		if pending := d.SCEPPending(); len(pending) != 1 || d.asked(doc).State != windows.AskedPending {
			t.Errorf("waiting: %q", pending)
		}
		r, ok := d.SCEPInstall(doc.Identifier)
		if !ok || r.Challenge != "one-time" || r.SubjectName != `CN="Ann ""A"" Example, Corp",E=ann@example.test` || r.CAThumbprint != thumbprint(d.ca.Cert) || r.RetryCount != 10 {
			t.Errorf("%+v", r)
		}
		if round == 0 {
			d.SCEPDone(doc.Identifier, nil, nil, &SCEPError{HRESULT: 0x80094014, Err: errTest})
			if got := d.asked(doc); got.State != windows.AskedFailed || !strings.Contains(got.Detail, "refuses the request") {
				t.Errorf("refused: %+v", got)
			}
			d.do(windows.Remove(doc.Identifier)...)
		}
	}
	d.SCEPDone(doc.Identifier, own.Cert, own.Key, nil)
	if got := d.asked(doc); got.State != windows.AskedDone || !strings.EqualFold(got.Thumbprint, record.SHA1) || len(d.SCEPPending()) != 0 {
		t.Errorf("done: %+v", got)
	}
	values := d.values(append(windows.InventoryURIs(), windows.InventoryFor([]platforms.Document{doc})...))
	if got := windows.Thumbprints(values); len(got) != 1 || !strings.EqualFold(got[0], record.SHA1) || windows.Documents(values)[doc.Identifier] != doc.Proof {
		t.Errorf("the inventory shows %q", got)
	}
	d.SetLogin("none")
	if len(d.values(windows.AskedURIs(doc.Identifier))) != 0 {
		t.Error("the user's nodes are shown to nobody")
	}
}
